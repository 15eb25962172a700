"""A campaign that is left alone: emulators that die, boards that must be switched off and on."""

from __future__ import annotations

import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.boards.conftest import small
from tests.networks import dyadic_inputs
from zobnn_edge.campaign import lanes as lanes_module
from zobnn_edge.campaign.journal import Row
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.model_file import Model
from zobnn_edge.targets.process import ProcessTarget

SPEC = "qemu:mps2-an386"
KILLS = 20


def job(trials: int) -> Job:
    model = Model.of(small())
    return Job(Plan((0.003, 0.03), trials), model.to_bytes(), dyadic_inputs(model.network, 4), np.arange(4) % 10)


def rows_of(what: Job, spec: str, path: Path) -> list[Row]:
    places = lanes(what, [spec])
    with opened(what, path, places) as journal:
        run(what, journal, places)
        assert {control.outcome for control in journal.controls()} == {Outcome.MASKED}
        return [replace(row, target="", instructions=None, detail="") for row in journal.rows()]


def test_an_emulator_killed_twenty_times_changes_no_result(tmp_path: Path) -> None:
    """At random instants: in a trial, in a control, in the recovery from the kill before."""
    what = job(130)
    when, killed, done = random.Random(4), 0, threading.Event()

    def kill_again_and_again() -> None:
        nonlocal killed
        while not done.wait(when.uniform(0.1, 0.9)) and killed < KILLS:
            for bench in list(lanes_module._benches.values()):
                target = bench.target
                if isinstance(target, ProcessTarget) and target.pid:
                    os.kill(target.pid, signal.SIGKILL)
                    killed += 1

    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    try:
        disturbed = rows_of(what, SPEC, tmp_path / "disturbed.db")
    finally:
        done.set()
        killer.join()
    assert killed == KILLS
    assert disturbed == rows_of(what, "host", tmp_path / "host.db")
