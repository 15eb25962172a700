"""Campaigns: outcomes, the journal, and that a campaign stopped at any instant goes on with nothing twice or lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.networks import binary_chain, dyadic_inputs
from zobnn_edge.campaign.journal import Journal, Row
from zobnn_edge.campaign.outcome import Outcome, classify, top1
from zobnn_edge.campaign.runner import Campaign, run
from zobnn_edge.engine import Engine, fault_set
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.model_file import Model
from zobnn_edge.targets import RunResult, open_target
from zobnn_edge.targets.host import HostTarget

CAMPAIGN = Campaign(rates=(1e-3, 1e-2), trials=15, seed=3)
NAN = float("nan")


def scores(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("faulty", "outcome"),
    [
        (scores([1, 2], [4, 3]), Outcome.MASKED),
        (scores([1, 2.5], [4, 3]), Outcome.SDC_BENIGN),
        (scores([2, 1], [4, 3]), Outcome.SDC_CRITICAL),
        (scores([1, 2], [NAN, 3]), Outcome.SDC_CRITICAL),
        (scores([NAN, NAN], [NAN, NAN]), Outcome.SDC_CRITICAL),
    ],
)
def test_outcomes(faulty: np.ndarray, outcome: Outcome) -> None:
    golden = scores([1, 2], [4, 3])
    assert classify(golden, faulty) is outcome


def test_nan_is_no_class() -> None:
    assert top1(scores([1, NAN], [0, 7], [NAN, NAN])).tolist() == [-1, 1, -1]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.of(binary_chain(1))


@pytest.fixture(scope="module")
def inputs(model: Model) -> np.ndarray:
    return dyadic_inputs(model.network, 6)


def rows_of(path: Path, model: Model, inputs: np.ndarray) -> list[Row]:
    with Journal(path, CAMPAIGN.header(model, inputs, "host")) as journal:
        return list(journal.rows())


def run_all(path: Path, model: Model, inputs: np.ndarray) -> list[Row]:
    labels = np.zeros(len(inputs), np.int64)
    with open_target("host", model) as target, Journal(path, CAMPAIGN.header(model, inputs, "host")) as journal:
        run(CAMPAIGN, target, inputs, labels, journal)
        return list(journal.rows())


def test_every_trial_is_what_its_seed_says(model: Model, inputs: np.ndarray, tmp_path: Path) -> None:
    """Rate, flips and outcome of each row follow from the image and the seed alone."""
    rows = run_all(tmp_path / "run.db", model, inputs)
    assert [r.number for r in rows] == list(range(30))
    engine = Engine(model.plan)
    golden = engine.run(model.image.data, inputs)
    for row in rows:
        flips = fault_set(len(model.image.data), model.image.ranges(), row.rate, row.seed)
        assert row.rate == CAMPAIGN.rates[row.number // 15]
        assert row.flips == len(flips)
        faulty = engine.run(model.image.flipped(flips.tolist()).data, inputs)
        assert row.outcome is classify(golden, faulty)
        assert (row.correct, row.inputs) == (int((top1(faulty) == 0).sum()), 6)
    assert len({row.seed for row in rows}) == 30
    assert {row.outcome for row in rows} >= {Outcome.SDC_CRITICAL}


WORKER = """
import sys
from pathlib import Path
from tests.campaign.test_campaign import *
import zobnn_edge.campaign.journal as j
slow = j.Journal.append
def append(self, row):
    time.sleep(0.02)
    slow(self, row)
j.Journal.append = append
model = Model.of(binary_chain(1))
run_all(Path(sys.argv[1]), model, dyadic_inputs(model.network, 6))
"""


def test_killed_again_and_again_it_ends_as_if_never_stopped(model: Model, inputs: np.ndarray, tmp_path: Path) -> None:
    """kill -9 at arbitrary instants, then on: the same rows as a campaign that nobody stopped."""
    whole = run_all(tmp_path / "whole.db", model, inputs)
    path, kills = tmp_path / "killed.db", 0
    while not path.exists() or len(rows_of(path, model, inputs)) < len(whole):
        before = len(rows_of(path, model, inputs)) if path.exists() else 0
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(path)])
        deadline = time.monotonic() + 60
        while worker.poll() is None and time.monotonic() < deadline:
            done = len(rows_of(path, model, inputs)) if path.exists() and path.stat().st_size else 0
            if done > before + 6:
                os.kill(worker.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        worker.wait()
    assert kills >= 2
    assert rows_of(path, model, inputs) == whole


def test_a_journal_of_something_else_is_refused(model: Model, inputs: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run_all(path, model, inputs)
    other = Campaign(CAMPAIGN.rates, CAMPAIGN.trials, seed=4)
    with pytest.raises(InputError, match=r"run\.db: a journal of another campaign \(seed differ\)"):
        Journal(path, other.header(model, inputs, "host"))
    with pytest.raises(InputError, match=r"\(inputs, target differ\)"):
        Journal(path, CAMPAIGN.header(model, inputs[:3], "qemu:x"))
    assert len(rows_of(path, model, inputs)) == 30


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, longer than a header of SQLite would be " * 20)
    before = path.read_bytes()
    with pytest.raises(InputError, match="not usable as a journal"):
        Journal(path, {})
    assert path.read_bytes() == before


def test_a_trial_is_recorded_once(tmp_path: Path) -> None:
    row = Row(0, 0.1, 1, 2, Outcome.MASKED, 3, 4, None)
    with Journal(tmp_path / "run.db", {}) as journal:
        journal.append(row)
        with pytest.raises(InputError, match="trial 0 cannot be recorded"):
            journal.append(row)
        assert list(journal.rows()) == [row]
    assert sqlite3.connect(tmp_path / "run.db").execute("SELECT count(*) FROM trial").fetchone() == (1,)


class Drifting(HostTarget):
    """A target whose memory is not what `restore` says: the fault-free run changes in the course of the campaign."""

    runs = 0

    def run(self) -> RunResult:
        self.runs += 1
        result = super().run()
        return result if self.runs == 1 else RunResult(result.scores + 1, None)


def test_a_control_run_that_differs_invalidates_the_campaign(model: Model, inputs: np.ndarray, tmp_path: Path) -> None:
    refused = pytest.raises(TargetError, match="control run gave other scores")
    with Journal(tmp_path / "run.db", {}) as journal, Drifting(model) as target, refused:
        run(CAMPAIGN, target, inputs, np.zeros(6), journal)
