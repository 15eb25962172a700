"""Campaigns: outcomes, plan, journal; and that one stopped at any instant goes on with nothing twice or lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from dataclasses import replace
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.networks import binary_chain, dyadic_inputs
from zobnn_edge.campaign import bench as bench_module
from zobnn_edge.campaign.bench import Bench
from zobnn_edge.campaign.journal import CampaignInvalid, Control, Golden, Journal, Row, unpacked
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.outcome import Outcome, classify, deviation, top1
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.campaign.schedule import Schedule
from zobnn_edge.engine import Engine
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.faults.models import FaultSet
from zobnn_edge.faults.space import Filter
from zobnn_edge.harden import harden
from zobnn_edge.link.client import NoAnswer, Refused, Restarted
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy
from zobnn_edge.report.summary import summarise
from zobnn_edge.targets import Options, RunResult
from zobnn_edge.targets.emulated import EmulatedTarget
from zobnn_edge.targets.host import HostTarget

PLAN = Plan((1e-3, 1e-2), trials=15, seed=3)
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


@pytest.mark.parametrize(
    ("faulty", "apart"),
    [
        (scores([1, 2], [4, 3]), 0),
        (scores([1, 2.5], [3, 3]), 1),
        (scores([1, NAN], [4, 3]), inf),
        (scores([1, 2], [-inf, 3]), inf),
    ],
)
def test_deviation(faulty: np.ndarray, apart: float) -> None:
    assert deviation(scores([1, 2], [4, 3]), faulty) == apart
    assert deviation(faulty, faulty) == 0


def test_nan_is_no_class() -> None:
    assert top1(scores([1, NAN], [0, 7], [NAN, NAN])).tolist() == [-1, 1, -1]


def job(plan: Plan = PLAN, images: int = 6) -> Job:
    net = binary_chain(1)
    x = dyadic_inputs(net, images)
    return Job(plan, Model.of(net).to_bytes(), x, np.arange(images) % 10)


def run_all(path: Path, what: Job, workers: int = 1) -> tuple[list[Row], str]:
    places = lanes(what, ["host"], workers)
    with opened(what, path, places) as journal:
        run(what, journal, places)
        return list(journal.rows()), journal.digest()


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan((3.0,), 10, 1, "count", Filter(types=("S",))),
        Plan((1.0,), 25, 2, "single", Filter(bits=(0, 30, 31))),
        Plan((2.0, 9.0), 8, 5, "burst", parts=2),
        Plan((0.05,), 6, 5, "stuck1", Filter(roles=("weight",))),
    ],
    ids=lambda plan: plan.model,
)
def test_every_trial_is_what_plan_and_image_say(plan: Plan, tmp_path: Path) -> None:
    what = job(plan)
    rows, _ = run_all(tmp_path / "run.db", what)
    assert [r.number for r in rows] == list(range(plan.total))
    image, engine = what.model.image, Engine(what.model.plan)
    for row in rows:
        x, y = what.images(row.part)
        golden = engine.run(image.data, x)
        index = row.number % plan.trials
        flips = FaultSet(plan.model, row.amount, row.seed, index).addresses(what.space)
        assert (row.amount, row.part) == (plan.amounts[row.number // plan.trials], index % plan.parts)
        assert row.flips == len(flips)
        assert row.addresses == (tuple(flips.tolist()) if len(flips) <= 16 else None)
        faulty = engine.run(image.flipped(flips.tolist()).data, x)
        assert row.outcome is classify(golden, faulty)
        assert row.changed == int((top1(faulty) != top1(golden)).sum())
        apart = [abs(float(a) - float(b)) for a, b in zip(faulty.flat, golden.flat, strict=True) if a != b]
        assert row.deviation == max((inf if isnan(d) else d for d in apart), default=0)
        right = top1(faulty) == y
        assert (row.correct, row.inputs) == (int(right.sum()), len(y))
        assert unpacked(row.right, row.inputs).tolist() == right.tolist()
    drawn = {row.addresses or row.seed for row in rows}
    assert len(drawn) > 0.7 * len(rows)


@pytest.mark.parametrize("spec", ["host", "native"])
def test_cells_that_redundant_bits_put_right_are_counted(spec: str, tmp_path: Path) -> None:
    """Single flips in Hamming cells: one cell each, and no other scores."""
    model = Model.of(harden(binary_chain(3), Policy(protection="hamming")))
    where = Filter(types=("S",), bits=tuple(range(12)))
    what = Job(
        Plan((1.0,), 20, model="single", where=where), model.to_bytes(), dyadic_inputs(model.network, 2), np.zeros(2)
    )
    places = lanes(what, [spec])
    with opened(what, tmp_path / "run.db", places) as journal:
        run(what, journal, places)
        assert [(row.corrected, row.outcome) for row in journal.rows()] == [(1, Outcome.MASKED)] * 20
        assert summarise(journal).points[0].corrected == 1.0


def test_a_plan_is_its_line_of_json() -> None:
    plan = Plan((1.0,), 9, 4, "single", Filter(layers=("a", "b"), bits=(3,)), 2, 0.01)
    assert Plan.parse(plan.text()) == plan


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan((), 1), "at least one rate"),
        (Plan((1.5,), 1), "a fault rate of 1.5"),
        (Plan((0.5,), 1, model="count"), "0.5 bits to invert; it must be a whole number"),
        (Plan((1e9,), 1, model="adjacent"), "bits to invert"),
        (Plan((1.0,), 10**6, model="single"), r"1000000 trials, but there are only \d+ different ones; --trials all"),
        (Plan((0.1,), 1, seed=-1), "a seed of -1"),
        (Plan((0.1,), 1, half_width=1.0), "half width of 1"),
        (Plan((0.1,), 1, model="cosmic"), "no fault model cosmic"),
    ],
)
def test_impossible_plans_are_refused_before_anything_runs(plan: Plan, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_all(tmp_path / "run.db", job(plan))
    assert not list(tmp_path.iterdir())


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    one = run_all(tmp_path / "one.db", job(), 1)
    assert run_all(tmp_path / "two.db", job(), 2) == one


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run_all(path, job())
    with pytest.raises(InputError, match=r"run\.db: a journal of another campaign \(plan, plan_hash differ\)"):
        run_all(path, job(replace(PLAN, seed=4)))
    with pytest.raises(InputError, match=r"\(inputs differ\)"):
        run_all(path, job(images=3))
    with pytest.raises(InputError, match=r"\(firmware, targets differ\)"):
        Journal(path, job().header({"qemu:x": "another"}))
    with Journal(path) as journal:
        assert len(list(journal.rows())) == 30
        assert journal.plan == PLAN


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, longer than a header of SQLite would be " * 20)
    before = path.read_bytes()
    for header in ({}, None):
        with pytest.raises(InputError, match="not usable as a journal"):
            Journal(path, header)
    assert path.read_bytes() == before
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE mine (x)")
    with pytest.raises(InputError, match=r"other\.db: not a journal"):
        Journal(tmp_path / "other.db")
    with pytest.raises(InputError, match="there is no such file"):
        Journal(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def row(number: int, outcome: Outcome = Outcome.MASKED, correct: int = 3) -> Row:
    return Row(number, 0, 0.1, 1, 0, 2, (5, 6), None, outcome, 0, 0.5, 0, correct, 4, b"\xe0", None, "host")


def test_a_journal_is_only_appended_to(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.db", {}) as journal:
        journal.append([row(0)])
        with pytest.raises(InputError, match="trials 1, 0 cannot be recorded"):
            journal.append([row(1), row(0)])
        assert list(journal.rows()) == [row(0)], "all or nothing"
    db = sqlite3.connect(tmp_path / "run.db")
    for statement in ("UPDATE trial SET correct = 4", "DELETE FROM trial", "UPDATE header SET value = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="only appended to"):
            db.execute(statement)


class Scripted(HostTarget):
    """A target that does what a test says in its next runs: raise an error, or add something to the scores."""

    script: list[Any]

    def run(self) -> RunResult:
        result = super().run_plainly()
        step = self.script.pop(0) if self.script else 0
        if isinstance(step, Exception):
            raise step
        return RunResult(result.scores + np.float32(step), result.instructions)

    def run_plainly(self) -> RunResult:
        return self.run()

    def expect_many_runs(self) -> None:
        """Nothing: every run counts as one of the script."""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The script of the next target that is opened."""
    script: list[Any] = []

    def open_scripted(spec: str, model: Model, options: Options) -> Scripted:
        target = Scripted(model)
        target.script = script
        return target

    monkeypatch.setattr(bench_module, "open_target", open_scripted)
    return script


def test_outcomes_of_runs_that_give_no_scores(scripted: list[Any]) -> None:
    """Golden run and control, then five trials; a harness that fails is tried three times."""
    lost = TargetError("lost")
    scripted += [
        0,
        0,
        NoAnswer("nobody"),
        Restarted("fault", 3),
        Refused("no", "engine", 1),
        lost,
        lost,
        lost,
        lost,
        1e9,
    ]
    what = job()
    golden, control, *rows = Bench(what, "host").run([what.plan.trial(1, i) for i in range(5)]).entries
    assert isinstance(golden, Golden)
    assert control == Control("host", 0, Outcome.MASKED)
    assert [r.outcome.value for r in rows if isinstance(r, Row)] == [
        *("hang", "crash", "detected", "harness_error", "sdc_critical"),
    ]
    details = [r.detail for r in rows if isinstance(r, Row)]
    assert details[:2] == ["nobody; brought back by reset", "fault; brought back by reset"]
    assert rows[0].correct == 0  # type: ignore[union-attr]


def test_a_control_run_that_differs_invalidates_the_campaign(scripted: list[Any], tmp_path: Path) -> None:
    """Also for good: neither can the journal be gone on with, nor a report be made of it."""
    scripted += [0, 0, *[0] * 30, 1]
    message = r"run\.db: a run without faults gave other scores than the golden run \(host, after 30 trials\)"
    with pytest.raises(CampaignInvalid, match=message):
        run_all(tmp_path / "run.db", job())
    with pytest.raises(CampaignInvalid):
        run_all(tmp_path / "run.db", job())


def test_a_golden_run_that_differs_invalidates_the_campaign(scripted: list[Any], tmp_path: Path) -> None:
    run_all(tmp_path / "run.db", job(replace(PLAN, trials=2)))
    scripted += [1, 1]
    with Journal(tmp_path / "run.db") as journal, pytest.raises(CampaignInvalid, match="another golden run"):
        journal.append(Bench(job(), "host").run([PLAN.trial(0, 9)]).entries)


def test_controls_come_in_between() -> None:
    what = job(replace(PLAN, trials=1300), images=1)
    entries = Bench(what, "host").run([what.plan.trial(0, i) for i in range(1250)], last=True).entries
    assert [e.trials for e in entries if isinstance(e, Control)] == [0, 500, 1000, 1250]


def test_a_schedule_stops_an_amount_by_its_trials_alone() -> None:
    """One amount where all trials are alike, another that is bimodal; rows come back in any order."""
    plan = Plan((0.1, 0.2), 400, half_width=0.05)

    def accuracy(number: int) -> int:
        return 4 if number < 400 or number % 2 else 0

    for seed in range(3):
        schedule, order, seen = Schedule(plan), random.Random(seed), set[int]()
        under_way = schedule.take(30)
        while under_way:
            trial = under_way.pop(order.randrange(len(under_way)))
            assert trial.number not in seen
            seen.add(trial.number)
            schedule.record(replace(row(trial.number, correct=accuracy(trial.number)), point=trial.point))
            under_way += schedule.take(order.randrange(1, 20))
        assert seen == {*range(100), *range(400, 800)}
        assert schedule.done == schedule.total == 500
    rows = [replace(row(n, correct=accuracy(n)), point=int(n >= 400)) for n in sorted(seen)]
    assert Schedule(plan, rows).take(5) == []
    assert [t.number for t in Schedule(plan, rows[:-2]).take(5)] == [798, 799]


def test_an_emulator_that_dies_is_started_again(tmp_path: Path) -> None:
    """Killed before a trial and, by a watcher, during one: every trial still comes out as on the host."""
    what = job(replace(PLAN, trials=5))
    bench = Bench(what, "qemu:mps2-an386")
    target = bench.target
    assert isinstance(target, EmulatedTarget)
    entries = bench.run([what.plan.trial(1, i) for i in range(2)]).entries
    os.kill(target.pid, signal.SIGKILL)
    entries += bench.run([what.plan.trial(1, 2)]).entries
    killer = threading.Timer(0.05, lambda: os.kill(target.pid, signal.SIGKILL))
    killer.start()
    entries += bench.run([what.plan.trial(1, i) for i in range(3, 5)], last=True).entries
    killer.join()
    bench.close()
    expected = Bench(what, "host").run([what.plan.trial(1, i) for i in range(5)]).entries
    rows = [replace(e, target="host", instructions=None) for e in entries if isinstance(e, Row)]
    assert rows == [e for e in expected if isinstance(e, Row)]
    assert {e.outcome for e in entries if isinstance(e, Control)} == {Outcome.MASKED}


def test_two_targets_share_the_trials(tmp_path: Path) -> None:
    """Which of them ran what differs; what came out does not."""
    what = job(replace(PLAN, trials=6))
    hashes = set()
    for name in ("a.db", "b.db"):
        places = lanes(what, ["host", "qemu:mps2-an386"])
        with opened(what, tmp_path / name, places) as journal:
            run(what, journal, places)
            assert {r.target for r in journal.rows()} == {"host", "qemu:mps2-an386"}
            hashes.add(journal.digest())
    assert len(hashes) == 1
    alone, _ = run_all(tmp_path / "host.db", what)
    with Journal(tmp_path / "a.db") as journal:
        assert [replace(r, target="host", instructions=None) for r in journal.rows()] == alone
    with pytest.raises(InputError, match="given twice"):
        lanes(what, ["host", "host"])
