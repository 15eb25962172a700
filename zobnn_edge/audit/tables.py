"""An audit as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from zobnn_edge.audit.audit import Audit, StackRow
from zobnn_edge.audit.compare import COLUMNS, Difference
from zobnn_edge.audit.network import Contents
from zobnn_edge.audit.report import CAPACITY_COLUMNS, capacities, cell, findings, number

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
    for title, rows in findings(audit):
        yield _rows(title, rows)
    if changes:
        yield _changes(changes)


def _regions(audit: Audit) -> Table:
    title = audit.name + (f" on {audit.board}" if audit.board else "") + (", predicted" if audit.predicted else "")
    out = _table(title, "region", CAPACITY_COLUMNS)
    for i, row in enumerate(capacities(audit)):
        if i == len(audit.regions):
            out.add_section()
        out.add_row(*row)
    return out


def _parts(audit: Audit, by: str) -> Table:
    out = _table(f"by {by}", "region", ())
    out.add_column(by)
    out.add_column("bytes", justify="right")
    rows = list(audit.by(by).items()) if by != "region" else []
    for (region, name), size in rows[:LARGEST]:
        out.add_row(region, name or "(none)", number(size))
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
        out.add_row(row.name + mark, _operations(row.operations), *map(number, numbers))
    holes = arena.bytes - arena.peak
    out.caption = f"arena {arena.bytes:,} bytes, * {arena.peak:,} live at most" + (
        f", {holes:,} in holes" if holes else ""
    )
    out.caption_justify = "left"
    return out


def _operations(names: Sequence[str]) -> str:
    return "+".join(names[:3]) + ("+..." if len(names) > 3 else "")


def _stack(stack: StackRow) -> Table:
    out = _table("stack in the worst case", "function", ("bytes", "with all below"))
    for step in stack.path:
        out.add_row(step["function"], number(step["bytes"]), number(step["below"]))
    out.add_section()
    out.add_row("interrupt on top", number(stack.interrupt), "")
    return out


def _changes(changes: Sequence[Difference]) -> Table:
    out = _table("changes", "by", ())
    for name in ("region", "name"):
        out.add_column(name)
    for name in ("before", "after", "change"):
        out.add_column(name, justify="right")
    for column in ("total", *COLUMNS):
        own = [d for d in changes if d.column == column]
        for d in own[:LARGEST]:
            out.add_row(d.column, d.region, d.name or "(none)", number(d.before), number(d.after), f"{d.change:+,}")
        if own:
            out.add_section()
    return out


def _rows(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    first, *others = rows[0]
    out = _table(title, first, others)
    for row in rows:
        out.add_row(*(cell(row[key]) for key in (first, *others)))
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
