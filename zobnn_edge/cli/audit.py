"""`zobnn audit`: what takes how much of which memory, whether it fits, what changed, and which bits matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from zobnn_edge.cli.common import JsonOption, PixelsOption, parse_pixels, print_json, read_model
from zobnn_edge.errors import InputError
from zobnn_edge.files import write_atomic

if TYPE_CHECKING:
    from zobnn_edge.audit.audit import Audit
    from zobnn_edge.audit.vulnerability import Mission
    from zobnn_edge.model_file import Model

FAILED = 1
By = Literal["role", "section", "object", "source", "symbol", "layer"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(audit)


def audit(
    subject: Annotated[str, typer.Argument(metavar="FW.elf|NET", help="Firmware, or a network.")],
    net: Annotated[
        str | None, typer.Option(metavar="NET", help="The network in the firmware: its names for the layers.")
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(metavar="BOARD", help="Predict NET's firmware for it; or an ELF file's sizes of memory."),
    ] = None,
    by: Annotated[By, typer.Option(help="What the table of parts is by.")] = "role",
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show what changed since another ELF file or audit (--json).")
    ] = None,
    budget: Annotated[
        Path | None, typer.Option(metavar="BUDGET.toml", help="Fail with exit code 1 where more bytes are taken.")
    ] = None,
    policies: Annotated[
        bool, typer.Option("--policies", help="Beside NET what it takes hardened with 8 and 12 bits.")
    ] = False,
    policy: Annotated[
        list[str] | None, typer.Option(metavar="FILE.toml", help="And by this hardening policy (repeat).")
    ] = None,
    journal: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN.db", help="A campaign of single bits: which are critical (repeat)."),
    ] = None,
    fit: Annotated[float | None, typer.Option(metavar="FIT", help="Upset rate, in FIT per Mbit.")] = None,
    hours: Annotated[float, typer.Option(metavar="HOURS", help="Mission time without repair.")] = 8766.0,
    map: Annotated[
        Path | None, typer.Option(metavar="FW.map", help="The linker's map, if not beside the ELF file.")
    ] = None,
    call_graph: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="GCC's .ci or .su files, if not beside it (repeat).")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="PAGE.html", help="A page to write.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="All parts as CSV to write.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A summary for a pull request to write.")
    ] = None,
    pixels: PixelsOption = None,
    json: JsonOption = False,
) -> None:
    """Audit memory: flash, RAM, stack, vulnerable bits.

    Of firmware all bytes are accounted for, from the region of the linker script to the layer. Of a network with
    --board the same is predicted without a compiler.
    """
    from zobnn_edge.audit import compare, report, tables

    if (policies or policy) and _is_elf(subject) and net is None:
        raise InputError("--policies and --policy compare hardenings of a network; give --net NET, too")
    mission = _mission(fit, hours)
    allowed = compare.read_budget(budget) if budget else {}
    found = _audited(subject, net, board, map, call_graph, pixels)
    if policies or policy:
        model = read_model(net or subject, parse_pixels(pixels))
        found = _with_policies(found, model, board, mission, policies, policy or [])
    if journal or mission:
        found = _with_vulnerability(found, mission, journal or [])
    data = report.as_json(found)
    changes = compare.differences(_baseline(baseline, board), data) if baseline else []
    over = compare.excesses(data, allowed, str(budget))
    if output:
        from zobnn_edge.audit.page import write_page

        write_page(found, output, changes)
    if csv:
        write_atomic(csv, report.as_csv(found))
    if markdown:
        write_atomic(markdown, report.as_markdown(found, changes, over))
    if json:
        data["changes"] = [{**vars(d), "change": d.change} for d in changes]
        data["over_budget"] = [{**vars(e), "text": str(e)} for e in over]
        print_json(data)
    else:
        console = Console()
        for table in tables.tables(found, by, changes):
            console.print(table)
        for note in found.notes:
            console.print(note, highlight=False)
    for excess in over:
        typer.echo(f"zobnn: over budget: {excess}", err=True)
    if found.fits is False:
        typer.echo(f"zobnn: {found.name} does not fit: {_shortage(found)}", err=True)
    if over or found.fits is False:
        raise typer.Exit(FAILED)


def _audited(
    subject: str,
    net: str | None,
    board_name: str | None,
    link_map: Path | None,
    call_graphs: list[Path] | None,
    pixels: str | None,
) -> Audit:
    from zobnn_edge.audit.audit import Audit, Firmware, audit_firmware
    from zobnn_edge.audit.network import contents
    from zobnn_edge.audit.prediction import predict
    from zobnn_edge.boards import board

    target = board(board_name) if board_name else None
    if _is_elf(subject):
        firmware = Firmware.read(Path(subject), link_map, tuple(call_graphs or ()))
        return audit_firmware(firmware, target, read_model(net, parse_pixels(pixels)) if net else None)
    if net or link_map or call_graphs:
        raise InputError(f"{subject}: --net, --map and --call-graph go with an ELF file")
    model = read_model(subject, parse_pixels(pixels))
    if target is not None:
        return predict(model, target)
    note = "give --board BOARD for flash, RAM and stack"
    return Audit(model.network.name, None, True, (), (), contents(model), None, notes=(note,))


def _is_elf(subject: str) -> bool:
    """Whether a file begins as ELF files do, or at least is named like one."""
    path = Path(subject)
    if path.suffix.lower() in (".elf", ".axf", ".out"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _mission(fit: float | None, hours: float) -> Mission | None:
    if fit is None:
        return None
    from zobnn_edge.audit.vulnerability import Mission  # loads scipy, which takes longer than an audit

    return Mission(fit, hours)


def _with_policies(
    found: Audit, model: Model, board_name: str | None, mission: Mission | None, usual: bool, files: list[str]
) -> Audit:
    from zobnn_edge.audit.policies import AS_GIVEN, compare_policies, usual_policies
    from zobnn_edge.boards import board
    from zobnn_edge.encoding import Float32
    from zobnn_edge.policy import load

    if not any(p.encoding == Float32() for p in model.network.parameters.values()):
        found = replace(
            found, notes=(*found.notes, "no parameter is float32 any more: policies have nothing to harden")
        )
    chosen = usual_policies() if usual else {AS_GIVEN: None}
    chosen |= {Path(file).stem: load(file) for file in files}
    target = board(board_name) if board_name else None
    return replace(found, policies=tuple(compare_policies(model.network, target, mission, chosen)))


def _with_vulnerability(found: Audit, mission: Mission | None, journals: list[Path]) -> Audit:
    from zobnn_edge.audit.vulnerability import critical, vulnerability

    return replace(found, vulnerability=vulnerability(found, mission, [critical(path) for path in journals]))


def _baseline(path: Path, board_name: str | None) -> dict[str, Any]:
    from zobnn_edge.audit import compare, report

    if _is_elf(str(path)):
        return report.as_json(_audited(str(path), None, board_name, None, None, None))
    return compare.read_audit(path)


def _shortage(found: Audit) -> str:
    short = [f"{r.name} by {-r.free:,} bytes" for r in found.regions if r.free is not None and r.free < 0]
    if found.stack and found.stack.margin is not None and found.stack.margin < 0:
        short.append(f"the stack by {-found.stack.margin:,} bytes")
    return " and ".join(short)
