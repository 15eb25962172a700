"""`zobnn verify`: the same network in every place, as a table of agreement."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from zobnn_edge.cli.common import (
    DatasetOption,
    JsonOption,
    NetArgument,
    PixelsOption,
    parse_pixels,
    print_json,
    read_model,
)
from zobnn_edge.files import read_bytes

if TYPE_CHECKING:
    from zobnn_edge.verify import Source

DISAGREEMENT = 1


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(verify)


def verify(
    net: NetArgument,
    dataset: DatasetOption,
    images: Annotated[int, typer.Option(min=1, help="Images for the fast places.")] = 1000,
    few: Annotated[int, typer.Option(min=1, help="Images for the slow ones: reference and emulated boards.")] = 50,
    board: Annotated[
        list[str] | None, typer.Option(metavar="BOARD", help="Emulated board (repeat); default mps2-an386.")
    ] = None,
    pixels: PixelsOption = None,
    json: JsonOption = False,
) -> None:
    """Run a network in every place: do they agree?

    Places: the engine on this machine, the NumPy reference, emulated boards, LCE's interpreter (a .tflite file runs
    there as it is; an int8 one with the reference kernels of TensorFlow, if that is installed), and Keras if NET is a
    Keras model. Exit code 1 when they disagree: scores must be bit-identical in engine, reference and boards.
    """
    from zobnn_edge import datasets
    from zobnn_edge.verify import Agreement, compare, places

    model = read_model(net, parse_pixels(pixels))
    data = datasets.load(dataset, "test").head(images)
    wanted = places(model, _source(net), tuple(board or ("mps2-an386",)), images, few)
    console, rows = Console(stderr=json), list[Agreement]()
    with console.status("running") as status:
        for row in compare(model, data, wanted):
            rows.append(row)
            status.update(f"{row.place}: done")
    if json:
        print_json([{**asdict(row), "agrees": row.agrees} for row in rows])
    else:
        console.print(_table(f"{model.network.name} on {data.name}", rows))
    if not all(row.agrees for row in rows):
        raise typer.Exit(DISAGREEMENT)


def _source(net: str) -> Source:
    """What NET was imported from, if that can be run too."""
    from zobnn_edge.verify import Source

    path = Path(net)
    if net.startswith("zoo:"):
        from zobnn_edge import zoo

        name = net.removeprefix("zoo:")
        if name in zoo.PUBLISHED and zoo.PUBLISHED[name].file:
            return Source(tflite=read_bytes(zoo.PUBLISHED[name].path()))
        return Source(keras=zoo.keras_model(name))
    if path.suffix == ".tflite":
        return Source(tflite=read_bytes(path))
    if path.suffix in (".keras", ".h5") or (path / "saved_model.pb").exists():
        from converters.larq import load_keras

        return Source(keras=load_keras(path))
    return Source()


def _table(title: str, rows: list) -> Table:  # type: ignore[type-arg]
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    out.add_column("place", no_wrap=True)
    for name in ("images", "class", "bits", "off by", "accuracy % (95 %)", "agrees"):
        out.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        estimate, low, high = row.accuracy
        cells = (str(row.images), str(row.top1), str(row.bits), f"{row.difference:.1e}")
        accuracy = f"{estimate:.2f} ({low:.1f}-{high:.1f})"
        out.add_row(row.place, *cells, accuracy, "yes" if row.agrees else "NO")
        if row.problem:
            out.add_row(f"  {row.problem}")
    out.caption = "class, bits: images with the same class, with the same scores, as on the host engine"
    out.caption_justify = "left"
    return out
