"""Speed of fault campaigns on the host: trials a second, beside float emulations that do the same trials; what each way
of computing less is worth; and what the journal costs.

    python tools/bench_campaign.py NET.zob DATASET

A trial is a fault set drawn anew and 200 images. Contenders take turns, so that what else the machine does falls on
everybody; one core is measured in processor time, all cores by the clock. The emulations (emulation.py; TensorFlow and,
where it is installed, PyTorch) get their best batch sizes and take over only those parameters that changed. On one core
FracBNN is also run as an ordinary PyTorch module, alone and with fault injectors that are installed (peers.py).
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from tools.emulation import Emulation, emulations, fastest, one_thread
from zobnn_edge import datasets, model_file
from zobnn_edge.campaign.bench import Bench
from zobnn_edge.campaign.journal import Journal
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.plan import Job, Plan, Trial
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.faults.space import Addresses
from zobnn_edge.incremental import Incremental
from zobnn_edge.targets import RunResult

IMAGES = 200
TURNS = 3
RATES = {1e-6: 80, 1e-5: 20, 1e-4: 12, 1e-3: 8}
"""Trials a turn: at low rates most have no fault, or one."""
Contender = Callable[[Sequence[Trial]], object]
_ready: Barrier
"""At which the processes of all cores wait for each other."""


class Emulated:
    """Trials on an emulation."""

    def __init__(self, job: Job, library: type[Emulation]) -> None:
        one_thread()
        self._job = job
        self._emulation = library(job.model.network)
        self._inputs, _ = job.images(0)
        self._scores = fastest([self._emulation.run], self._inputs)

    def run(self, trials: Sequence[Trial]) -> None:
        """Scores of all images, trial by trial."""
        for trial in trials:
            addresses = trial.faults.addresses(self._job.space)
            self._emulation.put(self._job.model.image.flipped(addresses.tolist()))
            self._scores(self._inputs)


class Ways(Bench):
    """A bench with the first so many ways of computing less."""

    NAMES = ("plain", "equal sets once", "from first change", "changed channels", "until all golden")

    def __init__(self, job: Job, ways: int) -> None:
        super().__init__(job, "host")
        self._once = ways >= 1
        target = self.target
        again = Incremental(job.model, job.images(0)[0].reshape(IMAGES, -1), by_blocks=ways >= 3, leave=ways >= 4)

        def run() -> RunResult:
            scores, work = again.run(target.read())
            return RunResult(scores, None, work)

        target.run = run if ways >= 2 else target.run_plainly  # type: ignore[method-assign]
        target.expect_many_runs = lambda: None  # type: ignore[method-assign]

    def _may_come_again(self, addresses: Addresses, result: RunResult) -> bool:
        return self._once and super()._may_come_again(addresses, result)


def injectors(job: Job) -> dict[str, Contender]:
    """Fault injectors for PyTorch, by name, where the network is the one they have a module of."""
    if job.model.network.name != "fracbnn_cifar10" or not importlib.util.find_spec("torch"):
        return {}
    from tools.peers import Plain, peers

    def contender(peer: Plain) -> Contender:
        return lambda trials: [peer.trial(trial.faults.amount) for trial in trials]

    inputs, _ = job.images(0)
    return {name: contender(peer(inputs)) for name, peer in peers().items()}


def per_second(contender: Contender, trials: Sequence[Trial], clock: Callable[[], float]) -> float:
    """Trials a second."""
    started = clock()
    contender(trials)
    return len(trials) / (clock() - started)


def on_one_core(job: Job) -> None:
    """Two tables: a line a rate, a column a contender, in trials a second of processor time; and how many times as fast
    as the others the last way is."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others = {name: Emulated(job, library).run for name, library in emulations().items()} | injectors(job)
    ways = [Ways(job, i).run for i in range(len(Ways.NAMES))]
    ratios = {}
    _line("one core", [*others, *Ways.NAMES])
    for rate, a_turn in RATES.items():
        plan = Plan((rate,), 1 + TURNS * a_turn)
        for contender in ways:
            contender([plan.trial(0, 0)])  # makes the golden run
        floats, engine = np.zeros((TURNS, len(others))), np.zeros((TURNS, len(ways)))
        for turn in range(TURNS):
            trials = [plan.trial(0, 1 + turn * a_turn + i) for i in range(a_turn)]
            floats[turn] = [per_second(contender, trials[:2], time.process_time) for contender in others.values()]
            engine[turn] = [per_second(contender, trials, time.process_time) for contender in ways]
        best, mean = floats.max(axis=0), 1 / (1 / engine).mean(axis=0)
        _line(f"rate {rate:g}", [*best, *mean])
        ratios[rate] = mean[-1] / best
    _line("one core", [f"of {name}" for name in others])
    for rate, times in ratios.items():
        _line(f"rate {rate:g}", times)


def on_every_core(job: Job) -> None:
    """A line a rate: trials a second by the clock, one process a core, all at once."""
    cores = sorted(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    libraries = emulations()
    _line(f"{len(cores)} cores", [*libraries, "engine", *(f"of {library}" for library in libraries)])
    for rate, a_turn in RATES.items():
        sums = []
        for library in (*libraries.values(), None):
            ready = spawn.Barrier(len(cores))
            with ProcessPoolExecutor(len(cores), spawn, initializer=_meet, initargs=(ready,)) as pool:
                trials = TURNS if library else TURNS * a_turn
                each = [pool.submit(_on_core, job, core, rate, trials, library) for core in cores]
                sums.append(sum(future.result() for future in each))
        _line(f"rate {rate:g}", [*sums, *(sums[-1] / peer for peer in sums[:-1])])


def _line(head: str, cells: Sequence[str | float]) -> None:
    """A line of a table."""
    texts = (cell if isinstance(cell, str) else f"{cell:.2f}" if cell < 10 else f"{cell:.1f}" for cell in cells)
    print(f"{head:12}" + "".join(f"{text:>19}" for text in texts), flush=True)


def _meet(ready: Barrier) -> None:
    global _ready
    _ready = ready


def _on_core(job: Job, core: int, rate: float, count: int, library: type[Emulation] | None) -> float:
    """What one of the processes does: trials a second on its core, emulated or by the engine, while the others run."""
    os.sched_setaffinity(0, {core})
    contender = Emulated(job, library).run if library else Bench(job, "host").run
    plan = Plan((rate,), 1 + count, seed=core)
    contender([plan.trial(0, 0)])
    _ready.wait()
    return per_second(contender, [plan.trial(0, 1 + i) for i in range(count)], time.monotonic)


def journal_seconds(job: Job, folder: Path) -> float:
    """Processor seconds a trial that recording takes, in a whole campaign."""
    spent = 0.0
    append = Journal.append

    def timed(self: Journal, entries: object) -> None:
        nonlocal spent
        started = time.thread_time()
        append(self, entries)  # type: ignore[arg-type]
        spent += time.thread_time() - started

    Journal.append = timed  # type: ignore[method-assign]
    places = lanes(job, ["host"])
    with opened(job, folder / "run.db", places) as journal:
        run(job, journal, places)
    Journal.append = append  # type: ignore[method-assign]
    return spent / job.plan.trials


def main() -> None:
    """Print both tables and the line about the journal."""
    model = model_file.load(Path(sys.argv[1]))
    data = datasets.load(sys.argv[2]).head(IMAGES)
    print(f"{model.network.name}, {IMAGES} images a trial; trials a second")
    job = Job(Plan((1e-6,), 1000), model.to_bytes(), data.x, data.y)
    on_every_core(job)
    on_one_core(job)
    with tempfile.TemporaryDirectory() as folder:
        print(f"the journal takes {1e6 * journal_seconds(job, Path(folder)):.0f} us a trial")


if __name__ == "__main__":
    main()
