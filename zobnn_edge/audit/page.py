"""An audit as a page that needs no network: treemap of memory, timeline of the arena, tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zobnn_edge.audit.audit import Audit, PartRow
from zobnn_edge.audit.compare import Difference
from zobnn_edge.audit.network import Contents
from zobnn_edge.audit.report import CAPACITY_COLUMNS, capacities, cell, findings
from zobnn_edge.files import write_atomic

_COLOURS = {
    "engine": "#4878a8",
    "agent": "#7fa8cc",
    "board": "#a9c4dc",
    "library": "#8d99ae",
    "code": "#4878a8",
    "constants": "#b8b8c8",
    "plan": "#c9a66b",
    "parameters": "#d1795b",
    "arena": "#4c9f70",
    "stack": "#8a6fb0",
    "link buffers": "#a8c686",
    "inputs": "#78b7a6",
    "static": "#c2b280",
    "heap": "#b07aa1",
    "padding": "#d8d8d8",
    "left": "#f2f2f2",
}
_STYLE = "body{font:15px system-ui,sans-serif;max-width:80em;margin:2em auto;padding:0 1em;color:#222;\
background:#fff;color-scheme:light}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child,.names td:nth-child(2),.names th:nth-child(2){text-align:left}\
p.note{color:#555}"
_LEAST_SHARE = 0.002
"""Parts of less than this share of their region are drawn together."""
_WHOLE = ("padding", "arena", "stack", "inputs", "plan", "heap")
"""Roles that are one thing each: nothing to see inside."""


def write_page(audit: Audit, path: Path, changes: Sequence[Difference] = ()) -> None:
    """Write the page, whole or not at all."""
    title = f"Memory of {audit.name}" + (f" on {audit.board}" if audit.board else "")
    title += " (predicted)" if audit.predicted else ""
    body = [f"<h1>{html.escape(title)}</h1>", _summary(audit)]
    figures = [_treemap(audit, kind) for kind in ("flash", "ram") if any(r.kind == kind for r in audit.regions)]
    if audit.contents:
        figures.append(_timeline(audit.contents))
    for i, figure in enumerate(figures):
        options = {"full_html": False, "include_plotlyjs": i == 0, "config": {"displaylogo": False}}
        body.append(figure.to_html(**options))
    if audit.contents:
        body.append(_layers(audit.contents))
    body += [_stack(audit), _findings(audit), _changes(changes)]
    body += [f"<p class=note>{html.escape(note)}</p>" for note in audit.notes]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    write_atomic(path, head + "\n".join(body) + "</html>\n")


def _treemap(audit: Audit, kind: str) -> Any:
    """Region, role, then layer or source file, then symbol; colours are roles."""
    import plotly.graph_objects as go  # slow to import, and only needed here

    nodes: dict[tuple[str, ...], int] = {}
    regions = [r for r in audit.regions if r.kind == kind and r.used]
    for region in regions:
        parts = [p for p in audit.parts if p.region == region.name]
        for part in parts:
            where = _place(part, part.bytes < _LEAST_SHARE * region.used)
            for depth in range(1, len(where) + 1):
                nodes[where[:depth]] = nodes.get(where[:depth], 0) + part.bytes
    names = list(nodes)
    figure = go.Figure(
        go.Treemap(
            ids=["/".join(n) for n in names],
            labels=[html.escape(_label(n)) for n in names],
            parents=["/".join(n[:-1]) for n in names],
            values=[nodes[n] for n in names],
            branchvalues="total",
            marker={"colors": [_COLOURS.get(n[1], "#4878a8") if len(n) > 1 else "#ffffff" for n in names]},
            texttemplate="%{label}<br>%{value:,} B",
            hovertemplate="%{label}<br>%{value:,} bytes, %{percentRoot:.1%}<extra></extra>",
            textfont={"size": 14, "color": [_ink(n) for n in names]},
            tiling={"pad": 1},
            maxdepth=3,
        )
    )
    title = ", ".join(f"{r.name}: {_of(r.used, r.capacity)}" for r in regions)
    figure.update_layout(title=title, margin={"t": 50, "l": 5, "r": 5, "b": 10}, height=520, template="simple_white")
    figure.update_layout(uniformtext={"minsize": 10, "mode": "hide"})
    return figure


def _ink(place: tuple[str, ...]) -> str:
    """Dark text on light colours, white on dark ones."""
    colour = _COLOURS.get(place[1], "#4878a8") if len(place) > 1 else "#ffffff"
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#222" if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "#fff"


def _place(part: PartRow, small: bool) -> tuple[str, ...]:
    """Where a part stands in the treemap, from the region inwards."""
    if part.role in _WHOLE:
        return (part.region, part.role)
    middle = part.layer or part.source or part.object or part.section
    leaf = part.symbol.split(": ")[-1].removeprefix(f"{middle}/")
    places = [part.region, part.role, middle, "" if small else leaf]
    return tuple(p for i, p in enumerate(places) if p and p not in places[:i])


def _label(place: tuple[str, ...]) -> str:
    """The innermost name of a place; a source file's folder that is the role's name is left out."""
    return place[-1].removeprefix(f"{place[1]}/") if len(place) > 1 else place[-1]


def _of(used: int, capacity: int | None) -> str:
    return f"{used:,} of {capacity:,} bytes" if capacity else f"{used:,} bytes"


def _timeline(contents: Contents) -> Any:
    """Blocks of the arena as rectangles: layers across, addresses up."""
    import plotly.graph_objects as go

    figure, names = go.Figure(), [row.name for row in contents.layers]
    for block in contents.arena.blocks:
        scratch = block.name.startswith("scratch of ")
        x0, x1 = block.first - 0.48, block.last + 0.48
        figure.add_scatter(
            x=[x0, x1, x1, x0, x0],
            y=[block.offset] * 2 + [block.offset + block.bytes] * 2 + [block.offset],
            fill="toself",
            mode="lines",
            line={"width": 1, "color": "#8a5a2b" if scratch else "#2f6b4f"},
            fillcolor="#e0b070" if scratch else "#8cc4a4",
            name="scratch" if scratch else "tensors",
            legendgroup="scratch" if scratch else "tensors",
            showlegend=False,
            text=f"{html.escape(block.name)}: {block.bytes:,} bytes at {block.offset:,}",
            hoverinfo="text",
        )
    live = [row.live for row in contents.layers]
    figure.add_scatter(
        x=list(range(len(names))), y=live, name="live bytes", line={"color": "#222", "shape": "hvh", "width": 1.5}
    )
    for name, colour in (("tensors", "#8cc4a4"), ("scratch", "#e0b070")):
        marker = {"color": colour, "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)
    figure.add_hline(y=contents.arena.bytes, line={"dash": "dot", "color": "#a33"})
    step = max(1, len(names) // 30)
    figure.update_xaxes(title="layer", tickvals=list(range(0, len(names), step)), ticktext=names[::step], tickangle=-40)
    figure.update_yaxes(title="byte of the arena", rangemode="tozero")
    arena = contents.arena
    title = f"Arena: {arena.bytes:,} bytes, most live ({arena.peak:,}) in {html.escape(arena.peak_layer)}"
    figure.update_layout(title=title, template="simple_white", height=460, hovermode="closest")
    return figure


def _summary(audit: Audit) -> str:
    rows = [[html.escape(name), *numbers] for name, *numbers in capacities(audit)]
    return _html_table(["", *CAPACITY_COLUMNS], rows)


def _layers(contents: Contents) -> str:
    rows = [
        [
            html.escape(row.name),
            ", ".join(row.operations),
            f"{row.parameters:,}",
            f"{row.code_bits:,}",
            f"{8 * row.parameters - row.code_bits:,}",
            f"{row.scratch:,}",
            f"{row.output:,}",
            f"{row.live:,}",
        ]
        for row in contents.layers
    ]
    head = [
        "layer",
        "operations",
        "parameters, bytes",
        "code bits",
        "lost bits",
        "scratch",
        "output",
        "live in the arena",
    ]
    return "<h2>Layers</h2><div class=names>" + _html_table(head, rows) + "</div>"


def _stack(audit: Audit) -> str:
    if audit.stack is None or not audit.stack.path:
        return ""
    rows = [[html.escape(s["function"]), f"{s['bytes']:,}", f"{s['below']:,}"] for s in audit.stack.path]
    rows.append(["interrupt on top", f"{audit.stack.interrupt:,}", ""])
    return "<h2>Stack in the worst case</h2>" + _html_table(["function", "bytes", "with all below"], rows)


def _findings(audit: Audit) -> str:
    """Policies and vulnerable bits."""
    out = []
    for title, rows in findings(audit):
        cells = [[html.escape(cell(value)) for value in row.values()] for row in rows]
        out.append(f"<h2>{title.capitalize()}</h2>" + _html_table([name.replace("_", " ") for name in rows[0]], cells))
    return "".join(out)


def _changes(changes: Sequence[Difference]) -> str:
    if not changes:
        return ""
    rows = [
        [d.column, html.escape(d.region), html.escape(d.name), f"{d.before:,}", f"{d.after:,}", f"{d.change:+,}"]
        for d in changes
    ]
    return "<h2>Changes</h2>" + _html_table(["by", "region", "name", "before", "after", "change"], rows)


def _html_table(head: list[str], rows: list[list[str]]) -> str:
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{lines}</table>"
