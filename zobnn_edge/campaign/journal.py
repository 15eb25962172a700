"""The journal: SQLite, append-only, one row a trial, committed before the next trial begins.

Stop it at any instant, open it again with the same header, and it goes on: nothing twice, nothing lost. A journal made
for something else is refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.errors import InputError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trial (
    number INTEGER PRIMARY KEY,
    rate REAL NOT NULL,
    seed INTEGER NOT NULL,
    flips INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    correct INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    instructions INTEGER
);
"""


@dataclass(frozen=True)
class Row:
    """One trial: its number, fault rate and seed; how many bits flipped; its outcome; how many inputs were classified
    rightly, of how many; instructions of the last inference (None where they cannot be counted)."""

    number: int
    rate: float
    seed: int
    flips: int
    outcome: Outcome
    correct: int
    inputs: int
    instructions: int | None


class Journal:
    """An open journal. `header` says what it is about: hashes, seed, rates, tool version."""

    def __init__(self, path: Path, header: dict[str, str]) -> None:
        """Open or create; raises InputError when the file is no journal, or one of another header."""
        self.path = path
        header = {"schema": str(SCHEMA_VERSION), **header}
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript("PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL;" + _SCHEMA)
            found = dict(self._db.execute("SELECT key, value FROM header"))
            if not found:
                self._db.execute("BEGIN")
                self._db.executemany("INSERT INTO header VALUES (?, ?)", header.items())
                self._db.execute("COMMIT")
                found = header
        except sqlite3.Error as error:
            raise InputError(f"{path}: not usable as a journal: {error}") from None
        different = sorted(k for k in found.keys() | header.keys() if found.get(k) != header.get(k))
        if different:
            self.close()
            raise InputError(f"{path}: a journal of another campaign ({', '.join(different)} differ); name a new file")
        self.header = found

    def append(self, row: Row) -> None:
        """Commit one trial to the disk; raises InputError when its number is there already or the disk is full."""
        values = (row.number, row.rate, row.seed, row.flips, row.outcome.value, row.correct, row.inputs)
        try:
            self._db.execute("INSERT INTO trial VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, row.instructions))
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: trial {row.number} cannot be recorded: {error}") from None

    def rows(self) -> Iterator[Row]:
        """The trials so far, in order of their numbers."""
        for number, rate, seed, flips, outcome, *rest in self._db.execute("SELECT * FROM trial ORDER BY number"):
            yield Row(number, rate, seed, flips, Outcome(outcome), *rest)

    def done(self) -> set[int]:
        """Numbers of the trials that need not be run again."""
        return {number for (number,) in self._db.execute("SELECT number FROM trial")}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def header_value(value: object) -> str:
    """A header entry as text."""
    return value if isinstance(value, str) else json.dumps(value)
