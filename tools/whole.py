"""Whole networks on emulated cores: instructions of one inference, as trained and hardened, and bytes.

python -m tools.whole [--networks ...] [--cores ...] prints what codes of each width take more or less than float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from converters.larq import import_keras
from tools import layers
from zobnn_edge import zoo
from zobnn_edge.boards import Board
from zobnn_edge.errors import ZobnnError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy
from zobnn_edge.zoo.micro import small_cifar
from zobnn_edge.zoo.models import CIFAR10_PIXELS

Record = dict[str, Any]


@dataclass(frozen=True)
class Whole:
    """A network, and the bytes of arena that it may take: None for what `layout.choose` takes by itself."""

    network: Callable[[], Network]
    arena_limit: int | None = None


NETWORKS = {
    "FracBNN": Whole(lambda: zoo.load("fracbnn_cifar10")),
    "CNV": Whole(lambda: zoo.load("cnv_cifar10"), 32 << 10),
    "SmallCifar": Whole(lambda: import_keras(small_cifar(), pixels=CIFAR10_PIXELS), 8 << 10),
    "cifar10_bnn": Whole(lambda: zoo.load("cifar10_bnn")),
    "mnist_bnn": Whole(lambda: zoo.load("mnist_bnn")),
    "digits": Whole(lambda: zoo.load("digits")),
}
"""SmallCifar is not trained: what it takes does not depend on its weights."""
WIDTHS = (4, 6, 8, 12, 16)
"""Bits of codes that are unpacked several at a time."""


def models(case: str) -> dict[str, Model]:
    """The network of a case as trained, hardened, and with size preferred to speed."""
    whole = NETWORKS[case]
    net = whole.network()
    hardened = harden(net, Policy(8))
    return {
        "float32": Model.of(net, whole.arena_limit),
        "hardened 8 bit": Model.of(hardened, whole.arena_limit),
        "hardened 8 bit, small": Model.of(hardened, prefer="size"),
    }


def coded(case: str) -> dict[str, Model]:
    """The network of a case as trained, and with codes of each width for which the engine has kernels."""
    whole = NETWORKS[case]
    net = whole.network()
    policies = {"8 bits, range of least error": Policy(8)}
    policies |= {f"{bits} bits, min-max": Policy(bits, "minmax") for bits in WIDTHS}
    hardened = {what: Model.of(harden(net, policy), whole.arena_limit) for what, policy in policies.items()}
    return {"float32": Model.of(net, whole.arena_limit), **hardened}


def count(case: str, board: Board) -> int:
    """Instructions of a case of build/bench.json: of "digits, float32", or of a layer with the network around it."""
    network, _, parameters = case.partition(", ")
    model = models(network)[parameters] if network in NETWORKS else layers.model(layers.LAYERS[case], board)
    return layers.instructions(model, board)


def instructions(variant: tuple[str, str, Model], board: Board) -> Record:
    """What the network of a case takes on a board, its parameters encoded in one way."""
    case, what, model = variant
    return {
        "core": board.core,
        "board": board.name,
        "case": f"{case}, {what}",
        "instructions": layers.instructions(model, board),
        "macs": sum(model.network.macs(op) for op in model.network.ops),
        "ram_bytes": model.arena_bytes + len(model.image.data),
        "code_bytes": layers.code_bytes(model, board),
    }


def measure(console: Console) -> list[Record]:
    """Every network on every core whose board has the memory for it, printed as they come."""
    console.print("\ninstructions of one inference, millions")
    names = [board.core.removeprefix("cortex-") for board in layers.cores().values()]
    heads = [f"{'network':14}{'parameters':24}{'arena bytes':>12}", *(f"{name:>12}" for name in names)]
    console.print("".join(heads), soft_wrap=True)
    records = []
    for (case, what, model), row in layers.on_cores(instructions, list(_variants(console))):
        cells = [f"{r['instructions'] / 1e6:.3f}" if r else "too large" for r in row]
        console.print(
            f"{case:14}{what:24}{model.arena_bytes:>12,}" + "".join(f"{cell:>12}" for cell in cells), soft_wrap=True
        )
        records += [r for r in row if r]
    return records


def _variants(console: Console) -> Iterator[tuple[str, str, Model]]:
    for case in NETWORKS:
        try:
            yield from ((case, what, model) for what, model in models(case).items())
        except ZobnnError as error:
            console.print(f"{case}: left out: {error}", soft_wrap=True)


def compare(console: Console, cases: list[str], cores: list[str]) -> None:
    """Print what codes take beside float32, on every core whose board has the memory."""
    boards = {core: layers.cores()[core] for core in cores}
    console.print("instructions of one inference, and what hardening adds to them", soft_wrap=True)
    console.print(f"{'network':12}{'parameters':30}" + "".join(f"{core:>26}" for core in cores), soft_wrap=True)
    for case in cases:
        taken: dict[str, int] = {}
        for what, model in coded(case).items():
            cells = []
            for core, board in boards.items():
                try:
                    count = layers.instructions(model, board)
                except ZobnnError:
                    cells.append("too large")
                    continue
                if what == "float32":
                    taken[core] = count
                more = count - taken.get(core, 0)
                cells.append(
                    f"{more:+,} ({more / taken[core]:+.3%})" if what != "float32" and core in taken else f"{count:,}"
                )
            console.print(f"{case:12}{what:30}" + "".join(f"{cell:>26}" for cell in cells), soft_wrap=True)


def main() -> None:
    """Compare codes with float32."""
    parser = argparse.ArgumentParser(prog="python -m tools.whole", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--cores", nargs="+", default=list(layers.cores()), choices=layers.cores(), metavar="CORE")
    arguments = parser.parse_args()
    compare(Console(), arguments.networks, arguments.cores)


if __name__ == "__main__":
    main()
