"""The same fault sets in every place: host engine, LCE's interpreter, emulated boards; trial by trial the same outcome.

On the host and the boards scores are the same bits. LCE's interpreter rounds otherwise (scores within 1e-5 relative),
so that what it can be asked is which class each image gets.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters import lce, lce_codes, lce_interpreter
from zobnn_edge import datasets, zoo
from zobnn_edge.campaign.bench import Bench
from zobnn_edge.campaign.journal import Row
from zobnn_edge.campaign.outcome import top1
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

pytestmark = [
    pytest.mark.study,
    pytest.mark.needs_data,
]

IMAGES, TRIALS = 10, 50
PLAN = Plan((1e-5, 1e-4, 1e-3, 1e-2), TRIALS, seed=7)
"""200 fault sets."""
BOARDS = {"fracbnn_cifar10": ["qemu:mps2-an386"], "mnist_bnn": ["qemu:mps2-an386", "qemu:netduinoplus2"]}


@cache
def job(name: str) -> Job:
    model = Model.of(harden(zoo.load(name), Policy(8, "minmax")))
    data = datasets.load(zoo.dataset(name), limit=IMAGES)
    return Job(PLAN, model.to_bytes(), data.x, data.y)


@cache
def trials(name: str, target: str) -> list[Row]:
    """The rows that a target gives."""
    bench = Bench(job(name), target)
    entries = bench.run([PLAN.trial(point, i) for point in range(len(PLAN.amounts)) for i in range(TRIALS)], last=True)
    bench.close()
    return [entry for entry in entries.entries if isinstance(entry, Row)]


@pytest.mark.parametrize(("name", "board"), [(name, board) for name, of in BOARDS.items() for board in of])
def test_boards_give_the_outcomes_of_the_host(name: str, board: str) -> None:
    here, there = trials(name, "host"), trials(name, board)
    same = [
        (a.outcome, a.changed, a.deviation, a.right) == (b.outcome, b.changed, b.deviation, b.right)
        for a, b in zip(here, there, strict=True)
    ]
    print(f"\n{name}, host and {board}: {sum(same)} of {len(same)} trials alike; {counts(here)}")
    assert all(same)
    assert len({row.outcome for row in here}) == 3, "nothing was masked, benign or critical: too easy"


@pytest.mark.parametrize("name", BOARDS)
def test_lce_gives_the_outcomes_of_the_host(name: str) -> None:
    """Flips are made in the flatbuffer. An image counts as alike if its class is the same in both places."""
    what = job(name)
    net, image = what.model.network, what.model.image
    blob, x = lce.write(net), net.pixels.apply(what.inputs)
    golden = top1(lce_interpreter.run(blob, x, exact=False))
    rows = trials(name, "host")
    same = 0
    for row in rows:
        addresses = PLAN.trial(row.point, row.number % TRIALS).faults.addresses(what.space)
        scores = lce_interpreter.run(lce_codes.flip(blob, image, addresses.tolist()), x, exact=False)
        right = np.packbits(top1(scores) == what.labels).tobytes()
        same += (int((top1(scores) != golden).sum()), right) == (row.changed, row.right)
    print(f"\n{name}, host and LCE's interpreter: {same} of {len(rows)} trials with the same classes")
    assert same == len(rows)


def counts(rows: list[Row]) -> str:
    return ", ".join(f"{n} {outcome.value}" for outcome, n in sorted(Counter(row.outcome for row in rows).items()))
