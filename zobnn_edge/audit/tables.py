"""An audit as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from zobnn_edge.audit.audit import Audit, StackRow
from zobnn_edge.audit.compare import COLUMNS, Difference
from zobnn_edge.audit.network import Contents

LARGEST = 25


def tables(audit: Audit, by: str, changes: Sequence[Difference] = ()) -> Iterator[Table]:
    """All that there is to say, one table a subject; parts by one of their columns."""
    if audit.regions:
        yield _regions(audit)
        yield _parts(audit, by)
    if audit.contents:
        yield _layers(audit.contents)
    if audit.stack and audit.stack.path:
        yield _stack(audit.stack)
    if audit.policies:
        yield _rows("policies", audit.policies)
    if audit.vulnerability:
        yield from _vulnerability(audit.vulnerability)
    if changes:
        yield _changes(changes)


def _regions(audit: Audit) -> Table:
    title = audit.name + (f" on {audit.board}" if audit.board else "") + (", predicted" if audit.predicted else "")
    out = _table(title, "region", ("bytes", "of", "left", "%"))
    for r in audit.regions:
        out.add_row(r.name, _number(r.used), _number(r.capacity), _number(r.free), _share(r.used, r.capacity))
    if (s := audit.stack) is not None:
        out.add_section()
        row = (_number(s.worst), _number(s.reserved), _number(s.margin), _share(s.worst, s.reserved))
        out.add_row("stack, worst case", *row)
    return out


def _parts(audit: Audit, by: str) -> Table:
    out = _table(f"by {by}", "region", ())
    out.add_column(by)
    out.add_column("bytes", justify="right")
    rows = list(audit.by(by).items()) if by != "region" else []
    for (region, name), size in rows[:LARGEST]:
        out.add_row(region, name or "(none)", _number(size))
    _say_rest(out, len(rows))
    return out


def _layers(contents: Contents) -> Table:
    arena = contents.arena
    columns = ("parameters", "lost bits", "scratch", "output", "live")
    out = _table("layers", "layer", ())
    out.add_column("operations")
    for name in columns:
        out.add_column(name, justify="right")
    for row in contents.layers:
        lost = 8 * row.parameters - row.code_bits
        mark = " *" if row.name == arena.peak_layer else ""
        numbers = (row.parameters, lost, row.scratch, row.output, row.live)
        out.add_row(row.name + mark, _operations(row.operations), *map(_number, numbers))
    holes = arena.bytes - arena.peak
    out.caption = f"arena {arena.bytes:,} bytes, * {arena.peak:,} live at most" + (
        f", {holes:,} in holes" if holes else ""
    )
    out.caption_justify = "left"
    return out


def _operations(names: Sequence[str]) -> str:
    shown = "+".join(names[:3])
    return shown + (f"+{len(names) - 3}" if len(names) > 3 else "")


def _stack(stack: StackRow) -> Table:
    out = _table("stack in the worst case", "function", ("bytes", "with all below"))
    for step in stack.path:
        out.add_row(step["function"], _number(step["bytes"]), _number(step["below"]))
    out.add_section()
    out.add_row("interrupt on top", _number(stack.interrupt), "")
    return out


def _vulnerability(found: dict[str, Any]) -> Iterator[Table]:
    yield _rows("bits in RAM", found["regions"])
    if "mission" in found:
        m = found["mission"]
        row = {"FIT/Mbit": m["fit_per_mbit"], "hours": m["hours"], "parameter bits": found["parameter_bits"]}
        yield _rows("upsets to be expected in parameters", [row | {"upsets": m["upsets"]}])
    if found["critical"]:
        rows = []
        for c in found["critical"]:
            row = {"journal": c["journal"], "trials": c["trials"], "critical % (95 %)": _estimate(c["share"], 100)}
            row["critical bits"] = _estimate(c["bits"])
            if "upsets" in c:
                row |= {"critical upsets": _estimate(c["upsets"]), "no failure %": _estimate(c["survives"], 100)}
            rows.append(row)
        yield _rows("critical bits", rows)


def _estimate(values: Sequence[float], factor: float = 1) -> str:
    value, low, high = (factor * v for v in values)
    return f"{value:.3g} ({low:.3g}-{high:.3g})"


def _changes(changes: Sequence[Difference]) -> Table:
    out = _table("changes", "by", ())
    for name in ("region", "name"):
        out.add_column(name)
    for name in ("before", "after", "change"):
        out.add_column(name, justify="right")
    for column in ("total", *COLUMNS):
        own = [d for d in changes if d.column == column]
        for d in own[:LARGEST]:
            out.add_row(d.column, d.region, d.name or "(none)", _number(d.before), _number(d.after), f"{d.change:+,}")
        if own:
            out.add_section()
    return out


def _rows(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    first, *others = rows[0]
    out = _table(title, first, others)
    for row in rows:
        out.add_row(*(_cell(row[key]) for key in (first, *others)))
    return out


def _table(title: str, first: str, numbers: Sequence[str]) -> Table:
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    out.add_column(first)
    for name in numbers:
        out.add_column(name.replace("_", " "), justify="right")
    return out


def _say_rest(out: Table, rows: int) -> None:
    if rows > LARGEST:
        out.caption = f"and {rows - LARGEST} more (--json and --csv have all)"
        out.caption_justify = "left"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return _number(value) if isinstance(value, int) else str(value or "")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _share(used: int | None, capacity: int | None) -> str:
    return f"{100 * used / capacity:.1f}" if used is not None and capacity else ""
