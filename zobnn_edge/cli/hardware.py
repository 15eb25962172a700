"""Verbs about boards: boards, build, flash, inject."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from zobnn_edge.boards import Board, new_board
from zobnn_edge.boards import boards as all_boards
from zobnn_edge.cli.common import JsonOption, NetArgument, TargetOption, print_json, read_inputs, read_model
from zobnn_edge.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (boards, build, flash, inject):
        app.command()(verb)


def boards(
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Make the folder of a new board.")] = None,
    core: Annotated[str, typer.Option(help="Core of the new board.")] = "cortex-m4",
    uart: Annotated[str, typer.Option(help="UART of the new board.")] = "stm32",
    json: JsonOption = False,
) -> None:
    """List the boards firmware can be built for, or begin a new one.

    An emulated board is the target qemu:BOARD, any other serial:PORT, and the process of this machine native. Firmware
    without the project's agent is gdb:HOST:PORT,FW.elf.
    `--new` makes a folder that builds at once; docs/porting.md says what to put in.
    """
    if new is not None:
        folder = new_board(new, core, uart)
        typer.echo(f"{folder}: put in the part's addresses, clocks and pins; zobnn build --board {new} builds it")
        return
    known = all_boards().values()
    if json:
        print_json([{**asdict(b), "target": _target(b)} for b in known])
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("board", "part", "core", "flash KiB", "RAM KiB", "QEMU"):
        table.add_column(name, no_wrap=True)
    for b in known:
        sizes = ("", "") if b.toolchain == "native" else (_kib(b.flash.bytes), _kib(b.ram.bytes))
        table.add_row(b.name, b.part, b.core, *sizes, "yes" if b.emulator else "no")
    Console().print(table)


def _target(b: Board) -> str:
    if b.toolchain == "native":
        return b.name
    return f"qemu:{b.name}" if b.emulator else "serial:PORT"


def _kib(size: int) -> str:
    return f"{size // 1024:,}"


def build(
    net: NetArgument,
    board: Annotated[str, typer.Option(metavar="BOARD", help="The board; `zobnn boards` lists them.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FW.elf", help="The firmware to write.")],
) -> None:
    """Build firmware with the network in it."""
    from zobnn_edge import firmware

    made = firmware.build(read_model(net), board, output)
    typer.echo(f"{made}: {made.stat().st_size:,} bytes, firmware for {board}")


def flash(
    firmware: Annotated[Path, typer.Argument(metavar="FW.elf", help="What `zobnn build` wrote.")],
    board: Annotated[str, typer.Option(metavar="BOARD", help="The board; `zobnn boards` lists them.")],
    tool: Annotated[
        str | None, typer.Option(help="pyocd, openocd, st-flash, or restart (emulated); default: what is installed.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Debug probe: its name or serial number, or part of one.")
    ] = None,
    port: Annotated[
        str | None, typer.Option(metavar="PORT|auto", help="Ask on this serial port whether the firmware is there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
) -> None:
    """Flash firmware onto a board and verify it.

    A firmware that is another board's or does not fit is refused. An emulated board is started with it, and asked.
    """
    from zobnn_edge.boards import board as board_of
    from zobnn_edge.elf import FirmwareFile
    from zobnn_edge.flash import flash as carry_out
    from zobnn_edge.flash import steps

    todo = steps(FirmwareFile.read(firmware), board_of(board), tool, probe, port)
    if dry_run:
        for step in todo:
            typer.echo(step.text)
        return
    carry_out(todo, typer.echo)
    typer.echo(f"{firmware} is on {board}, verified")


def inject(
    net: NetArgument,
    inputs: Annotated[Path, typer.Option(metavar="X.npy", help="Inputs (N, ...), float32 or uint8.")],
    target: TargetOption = "host",
    rate: Annotated[float | None, typer.Option(help="Probability that a parameter bit flips.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fault set drawn at --rate.")] = 0,
    region: Annotated[
        list[str] | None, typer.Option(metavar="PARAMETER", help="Only in this parameter (repeat).")
    ] = None,
    flip: Annotated[list[int] | None, typer.Option(metavar="BIT", help="Flip this bit address (repeat).")] = None,
    json: JsonOption = False,
) -> None:
    """Inject one fault set: what becomes of the outputs?

    A fault set is a rate with a seed, or bit addresses. The memory is restored afterwards.
    """
    from zobnn_edge.campaign.outcome import classify, top1
    from zobnn_edge.targets import open_target

    if (rate is None) == (not flip):
        raise InputError("give either --rate or --flip")
    model = read_model(net)
    x = read_inputs(inputs, model.network)
    with open_target(target, model) as place:
        place.put_inputs(x)
        golden = place.run()
        if flip:
            flipped = [f.address for f in place.flip(flip)]
            count = len(flipped)
        else:
            assert rate is not None
            before = np.frombuffer(place.read(), np.uint8)
            count = place.inject(rate, seed, region or None)
            changed = before ^ np.frombuffer(place.read(), np.uint8)
            flipped = np.flatnonzero(np.unpackbits(changed, bitorder="little")).tolist()
        faulty = place.run()
        crc = place.restore()
    outcome = classify(golden.scores, faulty.scores)
    changed_top1 = int((top1(golden.scores) != top1(faulty.scores)).sum())
    if json:
        print_json(
            {
                "target": target,
                "flips": count,
                "addresses": flipped,
                "outcome": outcome.value,
                "inputs": len(x),
                "top1_changed": changed_top1,
                "instructions": faulty.instructions,
                "restored": crc == model.image.crc,
            }
        )
        return
    typer.echo(f"{count} bits flipped on {target}:")
    for address in flipped[:20]:
        typer.echo(f"  {address}: {model.image.locate(address)}")
    if len(flipped) > 20:
        typer.echo(f"  and {len(flipped) - 20} more (--json lists all)")
    typer.echo(f"{outcome.value}: top-1 changed on {changed_top1} of {len(x)} inputs; memory restored, CRC {crc:08x}")
