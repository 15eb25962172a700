"""An audit held against another, and against a budget."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zobnn_edge.audit.report import rows_by
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOTALS = ("flash", "ram", "stack", "arena", "parameters")
"""What a budget may limit."""
COLUMNS = ("region", "section", "role", "object", "source", "symbol", "layer")


@dataclass(frozen=True)
class Difference:
    """Bytes before and after of one name in one column; 0 where there was or is none."""

    column: str
    region: str
    name: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """Bytes more."""
        return self.after - self.before


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What changed between two audits (as JSON), by every column, the largest change first."""
    found = []
    for column in COLUMNS:
        old, new = rows_by(before, column), rows_by(after, column)
        for region, name in old.keys() | new.keys():
            a, b = old.get((region, name), 0), new.get((region, name), 0)
            if a != b:
                found.append(Difference(column, region, name, a, b))
    totals = {key: (before["totals"].get(key, 0), after["totals"].get(key, 0)) for key in ("stack", "arena")}
    found += [Difference("total", "", key, a, b) for key, (a, b) in totals.items() if a != b]
    return sorted(found, key=lambda d: (COLUMNS.index(d.column) if d.column in COLUMNS else -1, -abs(d.change), d.name))


@dataclass(frozen=True)
class Excess:
    """A budget that is not kept: what, how many bytes it takes and may take (None: not known)."""

    what: str
    bytes: int | None
    limit: int

    def __str__(self) -> str:
        if self.bytes is None:
            return f"{self.what}: not known, at most {self.limit:,} bytes are allowed"
        return f"{self.what}: {self.bytes:,} bytes, {self.bytes - self.limit:,} over the {self.limit:,} allowed"


def read_budget(path: Path) -> dict[str, Any]:
    """A budget file: flash, ram, stack, arena = BYTES; tables [region] and [layer] with a line a name.

    Raises InputError for what is no budget.
    """
    try:
        budget: dict[str, Any] = tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a usable budget: {error}") from None
    for key, value in budget.items():
        tables = key in ("region", "layer")
        if not tables and key not in TOTALS:
            raise InputError(
                f"{path}: there is no budget for {key}; there are {', '.join(TOTALS)}, [region] and [layer]"
            )
        numbers = list(value.values()) if tables and isinstance(value, dict) else [None if tables else value]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise InputError(f"{path}: {key}: a budget is a whole number of bytes")
    return budget


def excesses(audit: Mapping[str, Any], budget: Mapping[str, Any], where: str) -> list[Excess]:
    """What an audit (as JSON) exceeds. Raises InputError for regions and layers that it does not have."""
    return [excess for excess in _checked(audit, budget, where) if excess.bytes is None or excess.bytes > excess.limit]


def _checked(audit: Mapping[str, Any], budget: Mapping[str, Any], where: str) -> Iterator[Excess]:
    for key in TOTALS:
        if key in budget:
            yield Excess(key, audit["totals"].get(key), budget[key])
    regions = {r["name"]: r["used"] for r in audit["regions"]}
    layers = {row["name"]: row["parameters"] for row in (audit["network"] or {}).get("layers", ())}
    for table, known in (("region", regions), ("layer", layers)):
        for name, limit in budget.get(table, {}).items():
            if name not in known:
                raise InputError(f"{where}: there is no {table} {name}; there are {', '.join(known) or 'none'}")
            yield Excess(f"{table} {name}", known[name], limit)


def read_audit(path: Path) -> dict[str, Any]:
    """An audit written with --json; raises InputError for anything else."""
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or not {"version", "totals", "parts", "regions"} <= found.keys():
        raise InputError(f"{path}: not an audit; write one with zobnn audit --json")
    return found
