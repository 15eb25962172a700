"""A campaign that is left alone: emulators that die, boards that must be switched off and on."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.boards.conftest import small
from tests.networks import dyadic_inputs
from zobnn_edge.campaign import lanes as lanes_module
from zobnn_edge.campaign.journal import Journal, Row
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.campaign.schedule import Schedule
from zobnn_edge.model_file import Model

SPEC = "qemu:mps2-an386"
KILLS = 20


def job(trials: int) -> Job:
    model = Model.of(small())
    return Job(Plan((0.003, 0.03), trials), model.to_bytes(), dyadic_inputs(model.network, 4), np.arange(4) % 10)


def ignore(schedule: Schedule) -> None:
    """What is called when some trials are done, if nothing is to be."""


def rows_of(what: Job, spec: str, path: Path, progress: Callable[[Schedule], None] = ignore) -> list[Row]:
    places = lanes(what, [spec])
    with opened(what, path, places) as journal:
        run(what, journal, places, progress)
        assert {control.outcome for control in journal.controls()} == {Outcome.MASKED}
        return [replace(row, target="", instructions=None, detail="") for row in journal.rows()]


def test_the_journal_tells_what_the_link_has_seen(tmp_path: Path) -> None:
    what, spec, path = job(60), "native", tmp_path / "run.db"
    targets = []

    def disturb(schedule: Schedule) -> None:
        """While nothing is under way: the end of the process, and noise."""
        (bench,) = lanes_module._benches.values()
        targets.append(bench.target)
        if len(targets) == 3:
            os.kill(bench.target.pid, signal.SIGKILL)
        elif len(targets) == 5:
            bench.target._client._transport.write(b"\0noise\0")

    rows_of(what, spec, path, disturb)
    with Journal(path) as journal:
        (seen,) = journal.links().values()
    assert seen == targets[-1].counters
    assert seen.requests > 3 * len(what.plan.amounts) * what.plan.trials
    assert (seen.board_bad_frames, seen.resets, seen.restarts) == (1, 1, 0)


def test_an_emulator_killed_twenty_times_changes_no_result(tmp_path: Path) -> None:
    """At random instants: in a trial, in a control, in the recovery from the kill before. The last kills are ordered
    when less than a third is done, so that none comes after the end."""
    what, when, killed = job(300), random.Random(4), list[int]()
    timers: list[threading.Timer] = []

    def kill() -> None:
        for bench in list(lanes_module._benches.values()):
            for _ in range(10_000):  # it may just be started again
                pid = getattr(bench.target, "pid", 0)
                if pid and pid not in killed:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                        break
                time.sleep(0.001)

    def progress(schedule: Schedule) -> None:
        while len(timers) < KILLS and len(timers) * 9 <= schedule.done:
            timers.append(threading.Timer(when.uniform(0, 0.1), kill))
            timers[-1].start()

    disturbed = rows_of(what, SPEC, tmp_path / "disturbed.db", progress)
    for timer in timers:
        timer.join()
    assert len(killed) == KILLS
    assert disturbed == rows_of(what, "host", tmp_path / "host.db")
