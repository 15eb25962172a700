"""The journal: SQLite, append-only, one row a trial.

What a worker brings is committed at once and before it gets more to do. Stop it at any instant, open it again with the
same header, and it goes on: what was under way is tried again and gives the same rows, nothing is there twice. A
journal made for something else is refused.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Plan
from zobnn_edge.errors import InputError, ZobnnError
from zobnn_edge.faults.space import Stratum
from zobnn_edge.link.client import Counters

SCHEMA_VERSION = 4
PLACES = ("targets", "firmware")
"""Keys of the header that say where a campaign ran, not what was asked."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS golden (
    part INTEGER PRIMARY KEY,
    scores TEXT NOT NULL,
    right BLOB NOT NULL,
    correct INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS trial (
    number INTEGER PRIMARY KEY,
    point INTEGER NOT NULL,
    amount REAL NOT NULL,
    seed INTEGER NOT NULL,
    part INTEGER NOT NULL,
    flips INTEGER NOT NULL,
    addresses TEXT,
    stratum INTEGER,
    outcome TEXT NOT NULL,
    changed INTEGER NOT NULL,
    deviation REAL NOT NULL,
    corrected INTEGER NOT NULL,
    correct INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    right BLOB NOT NULL,
    instructions INTEGER,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS control (
    number INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    trials INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS link (
    number INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    requests INTEGER NOT NULL,
    resends INTEGER NOT NULL,
    bad_frames INTEGER NOT NULL,
    strays INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    resets INTEGER NOT NULL,
    board_bad_frames INTEGER NOT NULL,
    board_repeats INTEGER NOT NULL,
    overruns INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
"""
_APPEND_ONLY = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'a journal is only appended to'); END;"
    for table in ("header", "golden", "trial", "control", "link")
    for verb in ("UPDATE", "DELETE")
)


class CampaignInvalid(ZobnnError):
    """A run without faults gave other scores than the golden run: something but the faults changes results."""


@dataclass(frozen=True)
class Golden:
    """The fault-free run on one part of the images: SHA-256 of the scores, which images were right (packed bits)."""

    part: int
    scores: str
    right: bytes
    correct: int
    inputs: int


@dataclass(frozen=True)
class Row:
    """One trial: number, number of its amount, amount and seed of its fault set, part of the images; bits inverted,
    their addresses if they are few, and of models that hit one place the number of its stratum; outcome; images of
    another class than in the golden run; the largest difference of a score from its (infinite: NaN, or no scores);
    cells with redundant bits that are put right when the parameters are read (docs/spec.md, "Protection"); images
    right, of how many, and which (packed bits); instructions of the last inference where they are counted;
    where it ran; details of a failure."""

    number: int
    point: int
    amount: float
    seed: int
    part: int
    flips: int
    addresses: tuple[int, ...] | None
    stratum: int | None
    outcome: Outcome
    changed: int
    deviation: float
    corrected: int
    correct: int
    inputs: int
    right: bytes
    instructions: int | None
    target: str
    detail: str = ""

    @property
    def accuracy(self) -> float:
        """Share of the images that were right."""
        return self.correct / self.inputs


@dataclass(frozen=True)
class Control:
    """A run without faults, all the way through the target, after so many trials there; valid if masked."""

    target: str
    trials: int
    outcome: Outcome


@dataclass(frozen=True)
class Link:
    """What the link to a target has seen since its entry before."""

    target: str
    counters: Counters


Entry = Golden | Row | Control | Link


def packed(right: NDArray[np.bool_]) -> bytes:
    """Which images were right, a bit each, the first the highest of its byte."""
    return np.packbits(right).tobytes()


def unpacked(right: bytes, inputs: int) -> NDArray[np.bool_]:
    """The reverse of `packed`."""
    return np.unpackbits(np.frombuffer(right, np.uint8), count=inputs).astype(bool)


def _versioned(header: dict[str, str]) -> dict[str, str]:
    return {"schema": str(SCHEMA_VERSION), **header}


def _crc(values: object) -> int:
    return zlib.crc32(repr(values).encode())


def _damaged(path: Path, how: str) -> InputError:
    return InputError(f"{path}: a damaged journal ({how}); take a copy of it from before, or start anew")


class Journal:
    """An open journal. `header` says what it is about: hashes, plan, tool version."""

    def __init__(self, path: Path, header: dict[str, str] | None = None) -> None:
        """Open a journal to go on with it, or create it; without `header` open one that is there, to read it.

        Raises InputError when the file is no journal, or one of another header; CampaignInvalid when one of its
        controls failed.
        """
        self.path = path
        if header is None and not path.exists():
            raise InputError(f"{path}: there is no such file")
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript("PRAGMA synchronous = NORMAL; PRAGMA journal_mode = WAL;")
            if header is None and not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'trial'").fetchone():
                raise InputError(f"{path}: not a journal of a campaign")
            if header is not None:
                self._begin(header)
            damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            self.header = dict(self._db.execute("SELECT key, value FROM header"))
        except sqlite3.Error as error:
            raise InputError(f"{path}: not usable as a journal: {error}") from None
        if damage != "ok":
            raise _damaged(path, damage.splitlines()[-1])
        old = self.header.get("schema") != str(SCHEMA_VERSION)
        if self.header.pop("crc", None) != str(_crc(sorted(self.header.items()))) and not old:
            raise _damaged(path, "its header is not as it was written")
        wanted = _versioned(header or self.header)
        different = sorted(k for k in self.header.keys() | wanted.keys() if self.header.get(k) != wanted.get(k))
        if different:
            self.close()
            raise InputError(f"{path}: a journal of another campaign ({', '.join(different)} differ); name a new file")

    def _begin(self, header: dict[str, str]) -> None:
        """Make the tables and write the header, whole or not at all, unless that was done before."""
        self._db.executescript(_SCHEMA + _APPEND_ONLY)
        self._db.execute("BEGIN IMMEDIATE")
        if not self._db.execute("SELECT 1 FROM header").fetchone():
            written = _versioned(header)
            written["crc"] = str(_crc(sorted(written.items())))
            self._db.executemany("INSERT INTO header VALUES (?, ?)", written.items())
        self._db.execute("COMMIT")

    @property
    def strata(self) -> list[tuple[Stratum, int]]:
        """The strata of the fault space with the number of bits in each."""
        listed = json.loads(self.header["strata"])
        return [(Stratum(layer, role, bit), population) for layer, role, bit, population in listed]

    @property
    def plan(self) -> Plan:
        """The plan of the campaign."""
        return Plan.parse(self.header["plan"])

    def append(self, entries: Iterable[Entry]) -> None:
        """Commit what a worker brought, all or nothing.

        Raises InputError when a trial is there already or the disk is full, and CampaignInvalid, after it is recorded,
        for a control that is not masked or a golden run that differs from the one recorded.
        """
        entries = list(entries)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for entry in entries:
                self._insert(entry)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            numbers = [str(e.number) for e in entries if isinstance(e, Row)]
            raise InputError(f"{self.path}: trials {', '.join(numbers)} cannot be recorded: {error}") from None
        if any(isinstance(e, (Control, Golden)) for e in entries):
            self.check()

    def _insert(self, entry: Entry) -> None:
        if isinstance(entry, Row):
            values = {f.name: getattr(entry, f.name) for f in fields(entry)}
            few = None if entry.addresses is None else " ".join(map(str, entry.addresses))
            values.update(amount=float(entry.amount), addresses=few, outcome=entry.outcome.value)
            self._write("trial", tuple(values.values()))
        elif isinstance(entry, Control):
            self._insert_control(entry)
        elif isinstance(entry, Link):
            self._write("link", (self._count("link"), entry.target, *astuple(entry.counters)))
        else:
            known = [g for g in self.golden() if g.part == entry.part]
            if not known:
                self._write("golden", astuple(entry))
            elif known != [entry]:
                self._insert_control(Control("another golden run", 0, Outcome.SDC_BENIGN))

    def _insert_control(self, control: Control) -> None:
        self._write("control", (self._count("control"), control.target, control.trials, control.outcome.value))

    def _count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def _write(self, table: str, values: tuple[Any, ...]) -> None:
        marks = ", ".join("?" * (len(values) + 1))
        self._db.execute(f"INSERT INTO {table} VALUES ({marks})", (*values, _crc(values)))

    def _read(self, table: str, order: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table; raises InputError for one that is not as it was written."""
        try:
            found = self._db.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
        except sqlite3.DatabaseError as error:
            raise _damaged(self.path, str(error)) from None
        for *values, crc in found:
            if crc != _crc(tuple(values)):
                raise _damaged(self.path, f"{table} {values[0]} is not as it was written")
            yield tuple(values)

    def check(self) -> None:
        """Raise CampaignInvalid when a control failed."""
        bad = [c for c in self.controls() if c.outcome is not Outcome.MASKED]
        if bad:
            raise CampaignInvalid(
                f"{self.path}: a run without faults gave other scores than the golden run ({bad[0].target}, after "
                f"{bad[0].trials} trials): the campaign is invalid"
            )

    def rows(self) -> Iterator[Row]:
        """The trials so far, in order of their numbers. Raises InputError for one that is not as it was written."""
        for values in self._read("trial", "number"):
            row = dict(zip((f.name for f in fields(Row)), values, strict=True))
            few = row["addresses"]
            row["addresses"] = None if few is None else tuple(map(int, few.split()))
            row["outcome"] = Outcome(row["outcome"])
            yield Row(**row)

    def golden(self) -> list[Golden]:
        """The fault-free runs, by part."""
        return [Golden(*values) for values in self._read("golden", "part")]

    def controls(self) -> list[Control]:
        """The runs without faults, in the order they were made."""
        return [Control(target, trials, Outcome(name)) for _, target, trials, name in self._read("control", "number")]

    def links(self) -> dict[str, Counters]:
        """What the links have seen, by target."""
        total: dict[str, Counters] = {}
        for _, target, *counts in self._read("link", "number"):
            total[target] = total.get(target, Counters()) + Counters(*counts)
        return total

    def digest(self) -> str:
        """SHA-256 of header, golden runs and trials, but for what says where they ran.

        Equal for equal campaigns, however often they were stopped, however many workers there were, whichever of the
        targets ran what, and on whichever machine.
        """
        asked = {key: value for key, value in self.header.items() if key not in PLACES}
        total = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        for golden in self.golden():
            total.update(repr(astuple(golden)).encode())
        for row in self.rows():
            total.update(repr(astuple(replace(row, instructions=None, target="", detail=""))).encode())
        return total.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
