"""Verbs about networks: import, harden, export, predict, show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from zobnn_edge import model_file
from zobnn_edge.cli.common import (
    DATASETS,
    JsonOption,
    NetArgument,
    PixelsOption,
    TargetOption,
    import_network,
    parse_pixels,
    print_json,
    read_inputs,
    read_model,
    write_array,
)
from zobnn_edge.encoding import described
from zobnn_edge.errors import InputError
from zobnn_edge.files import write_atomic
from zobnn_edge.layout import lay_out, scratch_bytes, tensor_bytes
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network

ZobOption = Annotated[Path, typer.Option("-o", "--output", metavar="NET.zob", help="The model file to write.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("import")(import_)
    for verb in (harden, export, predict, show):
        app.command()(verb)


PreferOption = Annotated[
    Literal["speed", "size"],
    typer.Option(help="What firmware is compiled for: speed, or few bytes of code (and the least arena)."),
]
ArenaOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="BYTES",
        help="Arena up to which binary layers may trade memory for speed; by default a quarter above the least.",
    ),
]


def _check_arena(arena: int | None, prefer: str) -> None:
    if arena is not None and prefer == "size":
        raise InputError("--arena trades memory for speed, --prefer size takes the least of it; give one of them")


def import_(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A .keras, .h5 or .tflite file, a SavedModel, zoo:NAME.")
    ],
    output: ZobOption,
    pixels: PixelsOption = None,
    arena: ArenaOption = None,
    prefer: PreferOption = "speed",
) -> None:
    """Import a Keras/Larq model or a .tflite file into a .zob file."""
    _check_arena(arena, prefer)
    saved = model_file.save(import_network(model, parse_pixels(pixels)), output, arena, prefer)
    typer.echo(f"{output}: {_summary(saved)}")


def harden(
    net: NetArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Model file (or suggested policy) to write."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="Hardening policy: which parameter is stored how. Options change it."),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of a code, 2 to 16; by default 8.")] = None,
    range: Annotated[
        str | None,
        typer.Option(
            help="Range of codes: error (of least squared error, the default), minmax (all values), symmetric, "
            "percentile, damage (of least expected damage at --fault-rate) or power (steps of a power of two)."
        ),
    ] = None,
    codes: Annotated[
        str | None, typer.Option(help="affine (the default), or symmetric: codes with 0 in the middle.")
    ] = None,
    fault_rate: Annotated[
        float | None, typer.Option(metavar="P", help="Fault rate that --range damage and --suggest design for.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Measure which parameters need what, and write a policy for it.")
    ] = False,
    memory: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="With --suggest: what all parameters may take.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="DATASET", help=f"With --suggest: {DATASETS}")] = None,
    images: Annotated[int, typer.Option(min=1, help="With --suggest: test images to measure on.")] = 500,
    scales: Annotated[
        str | None,
        typer.Option(help="Where scales and zero points lie: flash (default), ram: with the codes, tmr: so thrice."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="uniform codes (default), float32, float16, guarded or clamped (float32).")
    ] = None,
    protection: Annotated[
        str | None,
        typer.Option(help="Redundant bits: none, hamming, secded, or voted:N (top N bits of a code thrice)."),
    ] = None,
    byte_inputs: Annotated[
        bool | None,
        typer.Option(
            "--byte-inputs/--no-byte-inputs",
            help="Keep inputs in bytes where that is exact for the network's --pixels.",
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="kept (default), or ranked: a factor that all scores share at the end is left out."),
    ] = None,
    arena: ArenaOption = None,
    prefer: PreferOption = "speed",
) -> None:
    """Harden real-valued parameters after ZOBNN.

    Batch norm, slopes, thresholds, first and last layer become few-bit codes of a deliberately restricted range.
    """
    from zobnn_edge import policy as policies
    from zobnn_edge.harden import harden as apply

    _check_arena(arena, prefer)
    before = read_model(net)
    if suggest:
        _suggest(before.network, fault_rate, memory, dataset, images, output)
        return
    if output is None:
        raise InputError("give --output FILE.zob, where to write the hardened network")
    given = {
        "bits": bits,
        "range": range,
        "codes": codes,
        "fault_rate": fault_rate,
        "scales": scales,
        "encoding": encoding,
        "protection": protection,
        "byte_inputs": byte_inputs,
        "scores": scores,
    }
    base = policies.load(policy) if policy else policies.Policy()
    chosen = replace(base, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    after = model_file.save(apply(before.network, chosen), output, arena, prefer)
    saved = 100 * (1 - len(after.image.data) / max(1, len(before.image.data)))
    typer.echo(f"{output}: {_summary(after)}; {saved:.1f} % fewer bytes of parameters")


def _suggest(
    net: Network, fault_rate: float | None, memory: int | None, dataset: str | None, images: int, output: Path | None
) -> None:
    from zobnn_edge.cli.campaign import test_images
    from zobnn_edge.suggest import suggest

    if fault_rate is None or memory is None or dataset is None:
        raise InputError("--suggest needs --fault-rate P, --memory BYTES and --dataset DATASET")
    inputs, _ = test_images(dataset, images, 0)
    console = Console(stderr=True)
    columns = (TextColumn("measuring layers and roles"), BarColumn(20), MofNCompleteColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("groups")
        found = suggest(net, inputs, fault_rate, memory, lambda done, of: bar.update(task, completed=done, total=of))
    table = Table(title=f"at fault rate {fault_rate:g}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "role", "stored as"):
        table.add_column(name)
    for name in ("bytes", "other classes, %"):
        table.add_column(name, justify="right")
    for c in found.choices:
        table.add_row(c.layer, c.role, str(c.way), f"{c.way.bytes:,}", f"{100 * c.way.harm:.2f}")
    Console().print(table)
    typer.echo(f"all parameters {found.bytes:,} bytes, of {memory:,} allowed")
    if output is not None:
        write_atomic(output, found.policy.text().encode())
        typer.echo(f"{output}: policy; zobnn harden NET --policy {output} -o hard.zob")


def export(
    net: NetArgument,
    tflite: Annotated[Path | None, typer.Option(metavar="FILE", help="LCE/TFLite flatbuffer to write.")] = None,
    header: Annotated[Path | None, typer.Option(metavar="FILE", help="C header of packed parameters to write.")] = None,
) -> None:
    """Export as LCE/TFLite flatbuffer, as C header, or both."""
    if tflite is None and header is None:
        raise InputError("nothing to export: give --tflite FILE, --header FILE, or both")
    model = read_model(net)
    made: list[tuple[Path, bytes]] = []
    if tflite is not None:
        from converters import lce

        made.append((tflite, lce.write(model.network)))
    if header is not None:
        from converters.c_header import c_header

        made.append((header, c_header(model).encode()))
    for path, data in made:
        write_atomic(path, data)
        typer.echo(f"{path}: {len(data):,} bytes")


def predict(
    net: NetArgument,
    inputs: Annotated[Path, typer.Option(metavar="X.npy", help="Inputs (N, ...), float32 or uint8.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="Y.npy", help="Scores (N, outputs) to write.")],
    target: TargetOption = "host",
) -> None:
    """Run a network on inputs and write its scores."""
    from zobnn_edge.targets import open_target

    model = read_model(net)
    x = read_inputs(inputs, model.network)
    with open_target(target, model) as place:
        place.put_inputs(x)
        scores = place.run().scores
    write_array(output, scores)
    typer.echo(f"{output}: scores {scores.shape[0]} x {scores.shape[1]}")


def show(net: NetArgument, json: JsonOption = False) -> None:
    """List operations, parameters, encodings, MACs, RAM."""
    model = read_model(net)
    description = describe(model)
    if json:
        print_json(description)
        return
    console = Console()
    console.print(f"{model.network.name}: {_summary(model)}")
    console.print(_operations(description["operations"]))
    console.print(_parameters(description["parameters"]))


def describe(model: Model) -> dict[str, Any]:
    """What `show` prints, as data: bits are stored bits; bytes of RAM are those of one inference."""
    net = model.network
    layout = lay_out(net, model.work)
    fused = {op.name for group in layout.groups for op in group[1:]}
    scratch = {
        op.name: need
        for group in layout.groups
        for op, need in zip(group, scratch_bytes(net, group, layout.work), strict=True)
    }
    return {
        "name": net.name,
        "input": net.input_shape,
        "input_kind": net.tensors[net.input].kind,
        "outputs": net.outputs,
        "parameter_bytes": len(model.image.data),
        "fault_bits": model.image.bits,
        "arena_bytes": model.arena_bytes,
        "macs": sum(net.macs(op) for op in net.ops),
        "prefer": model.prefer,
        "operations": [
            {
                "name": op.name,
                "operation": type(op).__name__,
                "output": net.tensors[op.output].shape,
                "kind": net.tensors[op.output].kind,
                "fused": op.name in fused,
                "macs": net.macs(op),
                "algorithm": layout.work[op.name].algorithm if op.name in layout.work else None,
                "scratch_bytes": scratch[op.name],
                "ram_bytes": tensor_bytes(net.tensors[op.output]) if op.output in layout.offsets else 0,
            }
            for op in net.ops
        ],
        "parameters": [
            {
                "name": r.name,
                "layer": r.layer,
                "role": r.role,
                "type": r.type,
                "shape": r.shape,
                "encoding": described(r.encoding),
                "bits": r.bits,
                "byte_offset": r.offset,
            }
            for r in model.image.regions
        ],
    }


def _summary(model: Model) -> str:
    net = model.network
    shape = "x".join(map(str, net.input_shape)) + (" bytes" if net.tensors[net.input].kind == "int8" else "")
    return (
        f"input {shape}, {net.outputs} scores, parameters {len(model.image.data):,} bytes, "
        f"arena {model.arena_bytes:,} bytes, {sum(net.macs(op) for op in net.ops):,} MACs"
        + (", size preferred" if model.prefer == "size" else "")
    )


def _operations(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="operations", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name, justify in (
        ("name", "left"),
        ("operation", "left"),
        ("output", "left"),
        ("MACs", "right"),
        ("by", "left"),
        ("scratch", "right"),
        ("RAM", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        shape = "x".join(map(str, row["output"])) + (" bits" if row["kind"] == "binary" else "")
        operation = ("+ " if row["fused"] else "") + row["operation"]
        memory = (_number(row["scratch_bytes"]), _number(row["ram_bytes"]))
        table.add_row(row["name"], operation, shape, _number(row["macs"]), row["algorithm"] or "", *memory)
    table.caption = "+ is carried out element by element with the operation before it, without storing its input"
    table.caption_justify = "left"
    return table


def _parameters(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="parameters", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("name", "type", "shape", "encoding"):
        table.add_column(name)
    table.add_column("bits", justify="right")
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        table.add_row(row["name"], row["type"], shape, row["encoding"], _number(row["bits"]))
    table.add_section()
    table.add_row("all", "", "", "", _number(sum(row["bits"] for row in rows)))
    return table


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
