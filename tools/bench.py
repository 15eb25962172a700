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
from rich import box
from rich.console import Console
from rich.table import Table

from converters import lce, lce_interpreter
from tools import emulation, layers, whole
from zobnn_edge import datasets, reference, zoo
from zobnn_edge.engine import Engine
from zobnn_edge.files import write_atomic
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

OUTPUT = Path("build/bench.json")
BASELINE = Path("tests/baseline.json")
Record = dict[str, Any]


def images_per_second(run: Callable[[], object], images: int) -> float:
    """The best of five runs."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return images / best


def digits_on_host(console: Console) -> list[Record]:
    """Images a second of the engine, of the LCE interpreter on the exported flatbuffer, and of the NumPy reference."""
    network = zoo.load("digits")
    inputs = datasets.load("digits", "test").x[:200]
    table = Table(title="digits on this machine, one thread", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("with", "parameters", "images a second", "of LCE"):
        table.add_column(column, justify="right" if column in ("images a second", "of LCE") else "left")
    records = []
    for case, net in {"float32": network, "hardened 8 bit": harden(network, Policy(8))}.items():
        model, floats, blob = Model.of(net), net.pixels.apply(inputs), lce.write(net)
        engine = Engine(model.plan)
        runs: dict[str, Callable[[], object]] = {
            "LCE interpreter": lambda b=blob, x=floats: lce_interpreter.run(b, x, exact=False),  # type: ignore[misc]
            "engine": lambda e=engine, m=model, x=floats: e.run(m.image.data, x, 1),  # type: ignore[misc]
            "NumPy reference": lambda n=net, x=floats: reference.run(n, x),  # type: ignore[misc]
        }
        rates = {name: images_per_second(run, len(inputs)) for name, run in runs.items()}
        for name, rate in rates.items():
            table.add_row(name, case, f"{rate:,.0f}", f"{rate / rates['LCE interpreter']:.2f}")
            records.append(
                {"core": "host", "case": f"digits, {case}", "with": name, "images_per_second": rate, "threads": 1}
            )
    console.print(table)
    return records


def networks_on_host(console: Console) -> list[Record]:
    """The larger networks against their peers (bench_host.py)."""
    records = bench_host.measure()
    bench_host.show(records, console)
    return records


def binary_layers(console: Console) -> list[Record]:
    """Every layer on every core with the memory for it, printed as they come: instructions a multiply-accumulate."""
    console.print("instructions a MAC, thresholds and packing included; c: by counting, others by tables")
    names = [board.core.removeprefix("cortex-") for board in layers.cores().values()]
    console.print(f"{'layer':28}" + "".join(f"{name:>10}" for name in names))
    records = []
    for case, row in layers.on_cores(layers.measure, layers.LAYERS):
        cells = [_a_mac(record) if record else "too large" for record in row]
        console.print(f"{case:28}" + "".join(f"{cell:>10}" for cell in cells))
        records += [r for r in row if r]
    return records


def _a_mac(record: Record) -> str:
    return f"{record['instructions'] / record['macs']:.3f}" + " c" * (record["algorithm"] == "count")


def write_baseline() -> None:
    """Count the cases of tests/baseline.json again and write it."""
    cases = json.loads(BASELINE.read_text())
    for core, counts in cases.items():
        for case in counts:
            counts[case] = whole.count(case, layers.cores()[core])
    BASELINE.write_text(json.dumps(cases, indent=2) + "\n")


def main() -> None:
    """Measure, print, write; what is measured is in the file before the next part begins."""
    if sys.argv[1:] == ["--baseline"]:
        write_baseline()
        return
    emulation.one_thread()
    console = Console(width=120)
    records: list[Record] = []
    OUTPUT.parent.mkdir(exist_ok=True)
    for part in (binary_layers, whole.measure, digits_on_host, networks_on_host):
        started = time.perf_counter()
        records += part(console)
        write_atomic(OUTPUT, json.dumps(records, indent=2).encode())
        console.print(f"{time.perf_counter() - started:.0f} s; {len(records)} records in {OUTPUT}\n")


if __name__ == "__main__":
    main()
