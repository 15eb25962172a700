"""Running a campaign: trials go out to lanes, rows come back into the journal, until the schedule is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zobnn_edge.campaign.bench import Batch
from zobnn_edge.campaign.journal import Journal, Row
from zobnn_edge.campaign.lanes import Lane
from zobnn_edge.campaign.plan import Job
from zobnn_edge.campaign.schedule import Schedule
from zobnn_edge.errors import TargetError

CHUNK_SECONDS = 0.25
"""What a lane gets at once should take about so long: rows are committed that often."""
MOST = 1000
"""Trials a lane gets at once at most."""


@dataclass(frozen=True)
class Effort:
    """What a run took: new trials, work in trials in which everything is computed, seconds."""

    trials: int
    work: float
    seconds: float


@contextmanager
def opened(job: Job, path: Path, lanes: Sequence[Lane]) -> Iterator[Journal]:
    """Bring the job to every lane and open the journal of what runs there; in the end close them all.

    Raises InputError for an impossible plan or a journal of another campaign, CampaignInvalid for a journal whose
    controls failed, and what targets raise that cannot be opened.
    """
    try:
        job.plan.check(job.space)
        opening = [(lane, lane.open()) for lane in lanes]
        firmware = {lane.spec: future.result() for lane, future in opening}
        with Journal(path, job.header(firmware)) as journal:
            journal.check()
            yield journal
    finally:
        for lane in lanes:
            lane.close()


def run(
    job: Job,
    journal: Journal,
    lanes: Sequence[Lane],
    progress: Callable[[Schedule], None] = lambda schedule: None,
) -> Effort:
    """Run every trial that the journal lacks; `progress` is called whenever some are done. Returns what it took.

    Raises CampaignInvalid when a run without faults gives other scores than the golden run, and TargetError when a
    target is lost. Interrupted in any way, the journal holds whole trials only, and the same call goes on.
    """
    schedule = Schedule(job.plan, journal.rows())
    progress(schedule)
    paces = {lane: _Pace() for lane in lanes}
    busy: dict[Future[Batch], tuple[Lane, float, int]] = {}
    begun, started_with, work = time.monotonic(), schedule.done, 0.0
    while True:
        for lane in set(lanes) - {lane for lane, _, _ in busy.values()}:
            trials = schedule.take(paces[lane].chunk)
            if trials:
                busy[lane.run(trials)] = (lane, time.monotonic(), len(trials))
        if not busy:
            break
        done, _ = wait(busy, return_when=FIRST_COMPLETED)
        for future in done:
            lane, started, count = busy.pop(future)
            batch = _commit(journal, schedule, future, lane)
            work += batch.work
            paces[lane].learn(count, time.monotonic() - started)
        progress(schedule)
    for lane, future in [(lane, lane.run([], last=True)) for lane in lanes]:
        _commit(journal, schedule, future, lane)
    return Effort(schedule.done - started_with, work, time.monotonic() - begun)


def _commit(journal: Journal, schedule: Schedule, future: Future[Batch], lane: Lane) -> Batch:
    try:
        batch = future.result()
    except BrokenExecutor:
        raise TargetError(f"{lane.spec}: a worker process ended; run the same command again to go on") from None
    journal.append(batch.entries)
    for entry in batch.entries:
        if isinstance(entry, Row):
            schedule.record(entry)
    return batch


class _Pace:
    """How many trials a lane gets at once: first one, later what takes CHUNK_SECONDS."""

    def __init__(self) -> None:
        self.chunk = 1

    def learn(self, count: int, seconds: float) -> None:
        fitting = int(count * CHUNK_SECONDS / max(seconds, 1e-6))
        self.chunk = max(1, min(MOST, fitting, 4 * count))
