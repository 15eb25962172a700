"""Bytes of every network of the zoo: as trained and hardened, beside the file that LCE's own converter makes.

Networks whose trained weights are not at hand (ZOBNN_DATA is not set, or nobody trained them) are left out, by name.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from converters import lce
from converters.c_header import c_header
from zobnn_edge import zoo
from zobnn_edge.errors import ZobnnError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy


@dataclass(frozen=True)
class Footprint:
    """Bytes of one network: flatbuffer (None where none is written), C header, parameter image, arena."""

    flatbuffer: int | None
    header: int
    image: int
    arena: int

    @staticmethod
    def of(net: Network) -> Footprint:
        model = Model.of(net)
        flatbuffer = len(lce.write(net)) if lce.writable(net) else None
        return Footprint(flatbuffer, len(c_header(model)), len(model.image.data), model.arena_bytes)


def of_lces_converter(name: str) -> int | None:
    """Bytes of the file that LCE's own converter makes of the Keras model; None where there is no such model."""
    model = zoo.keras_model(name)
    if model is None:
        return None
    import larq_compute_engine

    return len(larq_compute_engine.convert_keras_model(model))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the zoo; by default all that are trained")
    names = parser.parse_args().names or zoo.names()
    table = Table(title="bytes", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("network", "parameters", "flatbuffer", "C header", "image", "arena", "LCE's converter"):
        table.add_column(column, justify="left" if column in ("network", "parameters") else "right")
    console = Console() if sys.stdout.isatty() else Console(width=110)
    for name in names:
        try:
            net, theirs = zoo.load(name), of_lces_converter(name)
        except ZobnnError as error:
            console.print(f"{name}: left out: {error}", soft_wrap=True)
            continue
        for what, variant in (("as trained", net), ("hardened 8 bit", harden(net, Policy(8)))):
            f = Footprint.of(variant)
            numbers = (f.flatbuffer, f.header, f.image, f.arena, theirs if variant is net else None)
            table.add_row(name, what, *("-" if n is None else f"{n:,}" for n in numbers))
    console.print(table)


if __name__ == "__main__":
    main()
