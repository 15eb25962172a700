"""An audit as data for programs, as CSV, and as a summary for a pull request."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zobnn_edge.audit.audit import SCHEMA_VERSION, Audit

SCHEMA = Path(__file__).with_name("audit.schema.json")
"""JSON Schema (2020-12) of `as_json`."""

PART_COLUMNS = ("region", "section", "role", "object", "source", "symbol", "layer", "address", "bytes")


def as_json(audit: Audit) -> dict[str, Any]:
    """The whole audit as plain data."""
    return {
        "version": SCHEMA_VERSION,
        "name": audit.name,
        "board": audit.board,
        "predicted": audit.predicted,
        "fits": audit.fits,
        "totals": audit.totals,
        "regions": [asdict(r) for r in audit.regions],
        "parts": [asdict(p) for p in audit.parts],
        "network": _plain(asdict(audit.contents)) if audit.contents else None,
        "stack": _plain(asdict(audit.stack)) if audit.stack else None,
        "policies": list(audit.policies),
        "vulnerability": audit.vulnerability,
        "notes": list(audit.notes),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def rows_by(audit: Mapping[str, Any], column: str) -> dict[tuple[str, str], int]:
    """Bytes by region and a column of the parts of an audit as JSON, the largest first."""
    sums = Counter[tuple[str, str]]()
    for part in audit["parts"]:
        if part[column] or column != "layer":
            sums[part["region"], part[column]] += part["bytes"]
    return dict(sums.most_common())


def as_csv(audit: Audit) -> str:
    """A line a part."""
    out = io.StringIO()
    writer = csv.DictWriter(out, PART_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in audit.parts:
        writer.writerow(asdict(part))
    return out.getvalue()


def as_markdown(audit: Audit, changes: Sequence[Any] = (), over: Sequence[Any] = ()) -> str:
    """A summary fit for a pull request: regions, stack, the largest roles; changes and budgets that are not kept."""
    title = f"## Memory of {_escaped(audit.name)}" + (f" on {audit.board}" if audit.board else "")
    lines = [title + (" (predicted)" if audit.predicted else ""), ""]
    rows = [
        (r.name, _number(r.used), _number(r.capacity), _number(r.free), _share(r.used, r.capacity))
        for r in audit.regions
    ]
    if audit.stack:
        s = audit.stack
        rows.append(
            ("stack, worst case", _number(s.worst), _number(s.reserved), _number(s.margin), _share(s.worst, s.reserved))
        )
    lines += _table(("", "bytes", "of", "left", "%"), rows)
    lines += ["", *_table(("region", "for", "bytes"), [(r, n, _number(b)) for (r, n), b in audit.by("role").items()])]
    if audit.policies:
        columns = tuple(audit.policies[0])
        lines += ["", "### Policies", ""]
        lines += _table(columns, [tuple(_cell(row.get(c)) for c in columns) for row in audit.policies])
    if changes:
        lines += ["", "### Changes", ""]
        shown = [d for d in changes if d.column in ("total", "region", "role", "symbol")][:20]
        lines += _table(
            ("", "region", "name", "before", "after", "change"),
            [(d.column, d.region, d.name, _number(d.before), _number(d.after), f"{d.change:+,}") for d in shown],
        )
    if over:
        lines += ["", "### Over budget", "", *(f"- {_escaped(str(excess))}" for excess in over)]
    if audit.notes:
        lines += ["", *(f"> {_escaped(note)}" for note in audit.notes)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; columns of numbers are aligned right."""
    rows = [[_escaped(cell) for cell in row] for row in rows]
    numeric = [all(row[i][:1] in "+-0123456789" for row in rows if row[i]) and bool(rows) for i in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" ---: " if n else " --- " for n in numeric) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        ""
        if value is None
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3g}"
        if isinstance(value, float)
        else str(value)
    )


def _share(used: int | None, capacity: int | None) -> str:
    return f"{100 * used / capacity:.1f}" if used is not None and capacity else ""
