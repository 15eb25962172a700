"""Speed of fault campaigns on the host, one core: everything computed, and only what faults reach; and of the journal.

    python tools/bench_campaign.py NET.zob DATASET

Trials of 60 images a second of processor time, so that other programs on the machine hardly matter.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from zobnn_edge import datasets, model_file
from zobnn_edge.campaign.bench import Bench
from zobnn_edge.campaign.journal import Journal
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run

IMAGES = 60
PLANS = {
    "rate 1e-6": Plan((1e-6,), 1000),
    "rate 1e-5": Plan((1e-5,), 500),
    "rate 1e-4": Plan((1e-4,), 200),
    "rate 1e-3": Plan((1e-3,), 100),
    "rate 1e-2": Plan((1e-2,), 100),
    "one bit": Plan((1.0,), 2000, model="single"),
}


class Plainly(Bench):
    """A bench that computes everything in every trial."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, "host")
        self.target.run = self.target.run_plainly  # type: ignore[method-assign]
        self._on_host = False


def per_second(bench: Bench, plan: Plan, share: int = 1) -> float:
    """Trials of the plan, or of every `share`-th, a second of processor time; the golden run is left out."""
    trials = [plan.trial(0, i) for i in range(0, plan.trials, share)]
    bench.run(trials[:1])
    started = time.process_time()
    bench.run(trials)
    return len(trials) / (time.process_time() - started)


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
    """Print a line a plan."""
    model = model_file.load(Path(sys.argv[1]))
    data = datasets.load(sys.argv[2]).head(IMAGES)
    print(f"{model.network.name}, {len(data)} images a trial; trials a second of one core")
    print(f"{'fault sets':12}{'plain':>10}{'only reached':>14}{'gain':>7}")
    for name, plan in PLANS.items():
        job = Job(plan, model.to_bytes(), data.x, data.y)
        plain, fast = per_second(Plainly(job), plan, 10), per_second(Bench(job, "host"), plan)
        print(f"{name:12}{plain:10.0f}{fast:14.0f}{fast / plain:7.1f}")
    with tempfile.TemporaryDirectory() as folder:
        seconds = journal_seconds(job, Path(folder))
    print(f"journal: {1e6 * seconds:.0f} us a trial, {100 * seconds * fast:.1f} % of a trial of {name}")


if __name__ == "__main__":
    main()
