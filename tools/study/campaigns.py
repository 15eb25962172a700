"""The campaigns of the study: which, and how they are run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.study.variants import VARIANTS, Variant
from zobnn_edge import datasets
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.campaign.schedule import Schedule
from zobnn_edge.faults.space import Filter

FOLDER = Path("build/study")
PARTS, IMAGES = 10, 1000
SINGLE, SINGLE_IMAGES = "single", 200
"""The exhaustive campaign: every bit of the real parameters of the plainly hardened network, one by one."""


def job(name: str) -> Job:
    """What the campaign of a variant, or the exhaustive one, consists of."""
    if name == SINGLE:
        return _single()
    variant = VARIANTS[name]
    plan = Plan(variant.rates, variant.trials, where=variant.where, parts=PARTS)
    return _job(plan, variant, IMAGES * PARTS, f"{IMAGES:,} images a trial, {PARTS} sets in turn")


def _single() -> Job:
    variant, where = VARIANTS["bits8"], Filter(types=("L", "S"))
    places = where.of(variant.model().image).size
    return _job(Plan((1.0,), places, model="single", where=where), variant, SINGLE_IMAGES, f"{SINGLE_IMAGES} images")


def _job(plan: Plan, variant: Variant, images: int, what: str) -> Job:
    data = datasets.load("cifar10", "test")
    chosen = np.random.default_rng(0).permutation(len(data))[:images]
    return Job(plan, variant.model().to_bytes(), data.x[chosen], data.y[chosen], f"cifar10, {what}")


def journal(name: str) -> Path:
    """Where a campaign is recorded."""
    return FOLDER / f"{name}.db"


def run_all(names: list[str], workers: int) -> None:
    """Run what is not done yet of these campaigns."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        work = job(name)
        places = lanes(work, ["host"], workers)
        with opened(work, journal(name), places) as book:
            effort = run(work, book, places, _progress(name))
        print(f"\r{name}: {effort.trials:,} trials in {effort.seconds:.0f} s{'':20}", file=sys.stderr)


def _progress(name: str) -> Callable[[Schedule], None]:
    def show(schedule: Schedule) -> None:
        print(f"\r{name}: {schedule.done:,} of {schedule.total:,} trials", end="", file=sys.stderr, flush=True)

    return show
