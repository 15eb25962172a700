"""Whole networks on emulated cores: instructions of one inference, as trained and hardened, and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import layers
from rich import box
from rich.console import Console
from rich.table import Table

from converters.larq import import_keras
from zobnn_edge import zoo
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
}
"""SmallCifar is not trained: what it takes does not depend on its weights."""


def models(case: str) -> dict[str, Model]:
    """The network of a case as trained and hardened."""
    whole = NETWORKS[case]
    net = whole.network()
    variants = {"float32": net, "hardened 8 bit": harden(net, Policy(8))}
    return {what: Model.of(variant, whole.arena_limit) for what, variant in variants.items()}


def measure(console: Console) -> list[Record]:
    """Every network on every core whose board has the memory for it, printed as a table."""
    cores = list(layers.cores().values())
    table = Table(title="instructions of one inference, millions", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("network", "parameters", "arena bytes"):
        table.add_column(column, justify="right" if column == "arena bytes" else "left")
    for board in cores:
        table.add_column(board.core.removeprefix("cortex-"), justify="right")
    records = []
    for case in NETWORKS:
        try:
            variants = models(case)
        except ZobnnError as error:
            console.print(f"{case}: left out: {error}", soft_wrap=True)
            continue
        for what, model in variants.items():
            cells = []
            for board in cores:
                try:
                    n = layers.instructions(model, board)
                except ZobnnError:
                    cells.append("too large")
                    continue
                cells.append(f"{n / 1e6:.3f}")
                records.append(
                    {
                        "core": board.core,
                        "board": board.name,
                        "case": f"{case}, {what}",
                        "instructions": n,
                        "macs": sum(model.network.macs(op) for op in model.network.ops),
                        "ram_bytes": model.arena_bytes + len(model.image.data),
                        "code_bytes": layers.code_bytes(model, board),
                    }
                )
            table.add_row(case, what, f"{model.arena_bytes:,}", *cells)
    console.print(table)
    return records
