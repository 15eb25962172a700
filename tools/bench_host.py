"""Images a second of whole networks on one core of this machine: the engine with every instruction set, the stock LCE
interpreter with its usual and its fastest kernels, and TensorFlow and PyTorch with the same network in floats.

All in one run, in turns, so that what else the machine does falls on everybody; the best turn of each counts. Input
coding is included: everybody gets 8-bit pixels, or the floats these stand for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from converters import lce, lce_interpreter
from converters.keras import keras
from tools import emulation
from zobnn_edge import datasets, reference, zoo
from zobnn_edge.encoding import InputArray
from zobnn_edge.engine import Engine, instruction_sets
from zobnn_edge.errors import ZobnnError
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network

NETWORKS = ("fracbnn_cifar10", "cnv_cifar10", "cifar10_bnn")
TURNS = 12
IMAGES = 200
"""A turn of the float libraries."""
PEERS = {"LCE, fastest": "of LCE", "TensorFlow": "of TensorFlow", "PyTorch": "of PyTorch"}
"""Whom the others are compared with, and the heads of the columns of ratios."""
Record = dict[str, Any]
Run = Callable[[InputArray], object]


def measure(names: tuple[str, ...] = NETWORKS, turns: int = TURNS) -> list[Record]:
    """Records {core, case, with, images_per_second, threads}; a network that cannot be had is skipped with a line."""
    emulation.one_thread()
    records = []
    for name in names:
        try:
            network = zoo.load(name)
            pixels = datasets.load(zoo.dataset(name), "test").x[:4096]
        except ZobnnError as error:
            print(f"skipped {name}: {error}")
            continue
        for contender, rate in _in_turns(contenders(name, network, pixels), pixels, turns).items():
            records.append({"core": "host", "case": name, "with": contender, "images_per_second": rate, "threads": 1})
    return records


def contenders(name: str, network: Network, pixels: InputArray) -> dict[str, tuple[Run, int]]:
    """What runs the network, and how many images it gets a turn; `pixels` to choose the fastest way with."""
    model, blob = Model.of(network), lce.write(network)
    found: dict[str, tuple[Run, int]] = {}
    for instructions in instruction_sets():
        engine = Engine(model.plan, instructions)
        images = 16 if instructions == "portable" else 4096  # parameters are laid out anew for every run
        found[f"engine, {instructions}"] = (lambda x, e=engine: e.run(model.image.data, x, threads=1), images)
    for kernel, fastest in (("LCE", False), ("LCE, fastest", True)):
        interpreter = lce_interpreter.Interpreter(blob, exact=False, fastest=fastest)
        found[kernel] = (lambda x, i=interpreter: i.run(network.pixels.apply(x)), 128 if fastest else 32)
    for library, emulated in emulation.emulations().items():
        runs = [emulated(network).run]
        if library == "TensorFlow":
            runs += _keras(name, network)
        found[library] = (emulation.fastest(runs, pixels[:IMAGES]), IMAGES)
    return found


def _keras(name: str, network: Network) -> list[emulation.Run]:
    """The trained Keras model as one graph, where there is one."""
    tf, _ = keras()
    model = zoo.keras_model(name)
    if model is None:
        return []
    graph = tf.function(lambda x: model(x, training=False))
    return [lambda x: graph(tf.constant(network.pixels.apply(x))).numpy()]


def _in_turns(runs: dict[str, tuple[Run, int]], pixels: InputArray, turns: int) -> dict[str, float]:
    """Images a second of each contender's best turn; the first turn only warms up."""
    best = dict.fromkeys(runs, 0.0)
    for turn in range(turns + 1):
        for contender, (run, images) in runs.items():
            x = pixels[:images]
            started = time.perf_counter()
            run(x)
            if turn > 0:
                best[contender] = max(best[contender], len(x) / (time.perf_counter() - started))
    return best


def agree(name: str, images: int = 16) -> bool:
    """Whether all contenders compute the same network: classes of a few images."""
    network, pixels = zoo.load(name), datasets.load(zoo.dataset(name), "test").x[:images]
    classes = reference.run(network, pixels).argmax(axis=1)
    runs = (run(pixels) for run, _ in contenders(name, network, pixels).values())
    return all((np.asarray(scores).reshape(images, -1).argmax(axis=1) == classes).mean() > 0.9 for scores in runs)


def show(records: list[Record], console: Console) -> None:
    """The records as a table, with ratios to those peers that took part."""
    peers = [peer for peer in PEERS if any(r["with"] == peer for r in records)]
    table = Table(title="this machine, one core", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("network", "with", "images a second", *(PEERS[peer] for peer in peers)):
        table.add_column(column, justify="left" if column in ("network", "with") else "right")
    rates = {(r["case"], r["with"]): r["images_per_second"] for r in records}
    for (case, contender), rate in rates.items():
        ratios = (f"{rate / rates[case, peer]:.2f}" for peer in peers)
        table.add_row(case, contender, f"{rate:,.0f}", *ratios)
    console.print(table)


if __name__ == "__main__":
    show(measure(), Console(width=120))
