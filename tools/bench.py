"""Speed and memory of binary layers (layers.py), of whole networks on emulated cores (whole.py) and on this machine
(bench_host.py); also written to build/bench.json.

    python tools/bench.py              measure all
    python tools/bench.py --baseline   write tests/baseline.json anew: the counts that a test holds later ones against

Instructions are exact counts of an emulated core. Images a second are of this machine, one thread, best of five, and
meant as ratios within one run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_host
import layers
import numpy as np
import whole
from rich import box
from rich.console import Console
from rich.table import Table

from converters import lce, lce_interpreter
from zobnn_edge import datasets, reference, zoo
from zobnn_edge.boards import boards
from zobnn_edge.engine import Engine
from zobnn_edge.errors import ZobnnError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy
from zobnn_edge.targets import open_target

OUTPUT = Path("build/bench.json")
BASELINE = Path("tests/baseline.json")
Record = dict[str, Any]


def on_boards(models: dict[str, Model], inputs: np.ndarray) -> list[Record]:
    """Instructions of one inference and bytes of RAM on every emulated board, for every model."""
    records = []
    for board in (b for b in boards().values() if b.emulator):
        for case, model in models.items():
            with open_target(f"qemu:{board.name}", model) as target:
                target.put_inputs(inputs[:1])
                instructions = target.run().instructions
            records.append(
                {
                    "core": board.core,
                    "board": board.name,
                    "case": case,
                    "instructions": instructions,
                    "macs": sum(model.network.macs(op) for op in model.network.ops),
                    "ram_bytes": model.arena_bytes + len(model.image.data),
                }
            )
    return records


def images_per_second(run: Callable[[], object], images: int) -> float:
    """The best of five runs."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return images / best


def on_host(models: dict[str, Model], inputs: np.ndarray) -> list[Record]:
    """Images a second of the engine, of the LCE interpreter on the exported flatbuffer, and of the NumPy reference."""
    records = []
    for case, model in models.items():
        engine, floats = Engine(model.plan), model.network.pixels.apply(inputs)
        blob = lce.write(model.network)
        runs: dict[str, Callable[[], object]] = {
            "engine": lambda e=engine, m=model, x=floats: e.run(m.image.data, x, 1),  # type: ignore[misc]
            "LCE interpreter": lambda b=blob, x=floats: lce_interpreter.run(b, x, exact=False),  # type: ignore[misc]
            "NumPy reference": lambda m=model, x=floats: reference.run(m.network, x),  # type: ignore[misc]
        }
        for name, run in runs.items():
            rate = images_per_second(run, len(inputs))
            records.append({"core": "host", "case": case, "with": name, "images_per_second": rate, "threads": 1})
    return records


def binary_layers(console: Console) -> list[Record]:
    """Every layer on every core that has the memory for it, as a table of instructions a multiply-accumulate."""
    cores = list(layers.cores().values())
    table = Table(
        title="instructions a MAC, thresholds and packing included", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("layer")
    for board in cores:
        table.add_column(board.core.removeprefix("cortex-"), justify="right")
    records = []
    for case in layers.LAYERS:
        cells = []
        for board in cores:
            try:
                record = layers.measure(case, board)
            except ZobnnError:
                cells.append("too large")
                continue
            records.append(record)
            cells.append(f"{record['instructions'] / record['macs']:.3f}" + " c" * (record["algorithm"] == "count"))
        table.add_row(case, *cells)
    table.caption, table.caption_justify = "c: by counting, for want of memory or of pixels; others by tables", "left"
    console.print(table)
    return records


def write_baseline() -> None:
    """Count the cases of tests/baseline.json again and write it."""
    cases = json.loads(BASELINE.read_text())
    for core, counts in cases.items():
        for case in counts:
            counts[case] = layers.count(case, layers.cores()[core])
    BASELINE.write_text(json.dumps(cases, indent=2) + "\n")


def main() -> None:
    """Measure, print, write."""
    if sys.argv[1:] == ["--baseline"]:
        write_baseline()
        return
    network = zoo.load("digits")
    models = {"float32": Model.of(network), "hardened 8 bit": Model.of(harden(network, Policy(8)))}
    inputs = datasets.load("digits", "test").x[:200]
    console = Console()
    layer_records = binary_layers(console) + whole.measure(console)
    board_records, host_records = on_boards(models, inputs), on_host(models, inputs)

    counts = Table(title="one inference, digits", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("board", "parameters", "instructions", "a MAC", "of float32", "RAM bytes"):
        counts.add_column(column, justify="left" if column in ("board", "parameters") else "right")
    base = {r["board"]: r["instructions"] for r in board_records if r["case"] == "float32"}
    for r in board_records:
        n = r["instructions"]
        ratios = (f"{n / r['macs']:.3f}", f"{n / base[r['board']]:.4f}")
        counts.add_row(r["board"], r["case"], f"{n:,}", *ratios, f"{r['ram_bytes']:,}")
    console.print(counts)

    speed = Table(title="this machine, one thread", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("with", "parameters", "images a second", "of LCE"):
        speed.add_column(column, justify="right" if column in ("images a second", "of LCE") else "left")
    lce_rate = {r["case"]: r["images_per_second"] for r in host_records if r["with"] == "LCE interpreter"}
    for r in host_records:
        rate = r["images_per_second"]
        speed.add_row(r["with"], r["case"], f"{rate:,.0f}", f"{rate / lce_rate[r['case']]:.2f}")
    console.print(speed)

    larger = bench_host.measure()
    bench_host.show(larger, console)

    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(layer_records + board_records + host_records + larger, indent=2))
    console.print(f"written to {OUTPUT}")


if __name__ == "__main__":
    main()
