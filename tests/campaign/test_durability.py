"""A campaign stopped at any instant goes on with nothing twice or lost; a damaged journal is refused."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaign.test_campaign import PLAN, job, run_all
from zobnn_edge.campaign.journal import Journal
from zobnn_edge.errors import InputError

WORKER = """
import sys
from pathlib import Path
from tests.campaign.test_durability import *
import zobnn_edge.campaign.runner as runner
runner.CHUNK_SECONDS = 0.02  # many commits to be killed between, before and in
fast = Journal.append
def append(self, entries):
    time.sleep(0.01)
    fast(self, entries)
Journal.append = append
run_all(Path(sys.argv[1]), job(replace(PLAN, trials=int(sys.argv[2]))), 1)
"""


@pytest.mark.parametrize("wanted", [4, pytest.param(50, marks=pytest.mark.study)])
def test_killed_again_and_again_it_ends_as_if_never_stopped(wanted: int, tmp_path: Path) -> None:
    """kill -9 at random instants, then on: the same rows and the same hash as a campaign that nobody stopped."""
    plan = replace(PLAN, trials=150 * wanted)
    whole = run_all(tmp_path / "whole.db", job(plan))
    path, kills, when = tmp_path / "killed.db", 0, random.Random(1)

    def recorded() -> int:
        if not path.exists() or not path.stat().st_size:
            return 0
        with sqlite3.connect(path) as db:
            try:
                return int(db.execute("SELECT count(*) FROM trial").fetchone()[0])
            except sqlite3.OperationalError:  # killed before it had tables
                return 0

    while kills < wanted:
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(path), str(plan.trials)])
        before, deadline = recorded(), time.monotonic() + 30
        while recorded() == before and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(when.uniform(0, 0.2))
        worker.kill()
        assert worker.wait() == -signal.SIGKILL, "it had ended before"
        kills += 1
    assert 0 < recorded() < plan.total
    assert run_all(path, job(plan)) == whole


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond that: to SQLite the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [1, 30_000, 100_000, 200_000])
def test_a_disk_that_fills_up(size: int, tmp_path: Path) -> None:
    """One clear line; with room again, the campaign goes on and ends as if nothing had been."""
    plan = replace(PLAN, trials=1000)
    whole = run_all(tmp_path / "whole.db", job(plan))
    path = tmp_path / "full.db"
    with largest_file(size), pytest.raises(InputError, match=r"full\.db: .*(full|disk I/O error)") as caught:
        run_all(path, job(plan))
    assert "\n" not in str(caught.value)
    assert run_all(path, job(plan)) == whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("durable") / "run.db"
    run_all(path, job(replace(PLAN, trials=300)))
    return path


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 0.99])
def test_a_truncated_journal_is_refused(part: float, finished: Path, tmp_path: Path) -> None:
    whole = finished.read_bytes()
    path = tmp_path / "cut.db"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=r"cut\.db: (not usable as a journal|a damaged journal)") as caught:
        run_all(path, job(replace(PLAN, trials=300)))
    assert "\n" not in str(caught.value)


def test_a_truncated_log_loses_only_what_was_not_committed(finished: Path, tmp_path: Path) -> None:
    """The write-ahead log of a campaign that was killed, cut anywhere: the trials before, and the same end."""
    plan = replace(PLAN, trials=150)
    whole = run_all(tmp_path / "whole.db", job(plan))
    rows = whole[0]
    source = tmp_path / "source.db"
    with Journal(source, job(plan).header(_firmware(tmp_path / "whole.db"))) as book:
        book._db.execute("PRAGMA wal_autocheckpoint = 0")
        with Journal(tmp_path / "whole.db") as other:
            book.append(other.golden())
        for row in rows[:200]:
            book.append([row])
        for suffix in ("", "-wal"):
            shutil.copy(f"{source}{suffix}", f"{tmp_path / 'killed.db'}{suffix}")
    log = Path(f"{tmp_path / 'killed.db'}-wal")
    log.write_bytes(log.read_bytes()[: 2 * log.stat().st_size // 3])
    with Journal(tmp_path / "killed.db") as book:
        left = list(book.rows())
    assert 0 < len(left) < 200
    assert left == rows[: len(left)]
    assert run_all(tmp_path / "killed.db", job(plan)) == whole


def _firmware(path: Path) -> dict[str, str]:
    import json

    with Journal(path) as book:
        return dict(json.loads(book.header["firmware"]))


def test_a_row_that_is_not_as_it_was_written_is_refused(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "rotten.db"
    shutil.copy(finished, path)
    blob = bytearray(path.read_bytes())
    at = blob.rfind(b"sdc_benign")
    blob[at - 3] ^= 1  # in a row, of which SQLite itself keeps no checksum
    path.write_bytes(blob)
    with pytest.raises(InputError, match=r"rotten\.db: a damaged journal \(trial \d+ is not as it was written\)"):
        run_all(path, job(replace(PLAN, trials=300)))


def test_damage_anywhere_never_goes_unnoticed(finished: Path, tmp_path: Path) -> None:
    """Bits inverted at random places of the file: refused, or without any effect on what it says."""
    with Journal(finished) as book:
        digest = book.digest()
    whole, rng, refused = finished.read_bytes(), random.Random(5), 0
    path = tmp_path / "rotten.db"
    for _ in range(60):
        blob = bytearray(whole)
        blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
        path.write_bytes(blob)
        try:
            with Journal(path) as book:
                assert book.digest() == digest
        except InputError:
            refused += 1
    assert refused > 20
