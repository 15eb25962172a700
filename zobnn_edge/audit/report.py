"""An audit as data for programs, as CSV, and as a summary for a pull request."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zobnn_edge.audit.audit import SCHEMA_VERSION, Audit

SCHEMA = Path(__file__).with_name("audit.schema.json")
"""JSON Schema (2020-12) of `as_json`."""

CAPACITY_COLUMNS = ("bytes", "of", "left", "%")
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
    lines += _table(("", *CAPACITY_COLUMNS), capacities(audit))
    lines += ["", *_table(("region", "for", "bytes"), [(r, n, number(b)) for (r, n), b in audit.by("role").items()])]
    for title, rows in findings(audit):
        columns = tuple(rows[0])
        lines += ["", f"### {title.capitalize()}", ""]
        lines += _table(columns, [tuple(cell(row[c]) for c in columns) for row in rows])
    if changes:
        lines += ["", "### Changes", ""]
        shown = [d for d in changes if d.column in ("total", "region", "role", "symbol")][:20]
        lines += _table(
            ("", "region", "name", "before", "after", "change"),
            [(d.column, d.region, d.name, number(d.before), number(d.after), f"{d.change:+,}") for d in shown],
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


def capacities(audit: Audit) -> list[tuple[str, ...]]:
    """A row a region, and one for the stack: name, then CAPACITY_COLUMNS."""
    rows: list[tuple[str, int | None, int | None, int | None]]
    rows = [(r.name, r.used, r.capacity, r.free) for r in audit.regions]
    if (s := audit.stack) is not None:
        rows.append(("stack, worst case", s.worst, s.reserved, s.margin))
    return [(name, number(used), number(of), number(left), share(used, of)) for name, used, of, left in rows]


def findings(audit: Audit) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What is said of policies and of vulnerable bits: (title, rows with the same keys)."""
    if audit.policies:
        yield "policies", list(audit.policies)
    found = audit.vulnerability
    if not found:
        return
    yield "bits in RAM", found["regions"]
    if "mission" in found:
        m = found["mission"]
        row = {"FIT/Mbit": m["fit_per_mbit"], "hours": m["hours"], "parameter bits": found["parameter_bits"]}
        yield "upsets to be expected in parameters", [row | {"upsets": m["upsets"]}]
    if found["critical"]:
        yield "critical bits", [_critical(c) for c in found["critical"]]
    if "saved" in found:
        yield "what is saved", found["saved"]


def _critical(c: Mapping[str, Any]) -> dict[str, Any]:
    row = {"journal": c["journal"], "trials": c["trials"], "critical % (95 %)": _estimate(c["share"], 100)}
    row["critical bits"] = _estimate(c["bits"])
    if "upsets" in c:
        row |= {"critical upsets": _estimate(c["upsets"]), "no failure %": _estimate(c["survives"], 100)}
    return row


def _estimate(values: Sequence[float], factor: float = 1) -> str:
    value, low, high = (factor * v for v in values)
    return f"{value:.3g} ({low:.3g}-{high:.3g})"


def number(value: int | None) -> str:
    """A number with separators; nothing where it is not known."""
    return "" if value is None else f"{value:,}"


def share(used: int | None, capacity: int | None) -> str:
    """Used of capacity in percent."""
    return f"{100 * used / capacity:.1f}" if used is not None and capacity else ""


def cell(value: Any) -> str:
    """Any value of a row."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"
    return number(value) if isinstance(value, int) else str(value or "")
