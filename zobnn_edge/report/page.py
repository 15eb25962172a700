"""Summaries as an interactive page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.files import write_atomic
from zobnn_edge.report.summary import Summary
from zobnn_edge.report.table import interval, link, percent

_LINES = ("31,119,180", "214,39,40", "44,160,44", "148,103,189", "255,127,14")
_OUTCOME_COLOURS = {
    Outcome.MASKED: "#4c9f70",
    Outcome.SDC_BENIGN: "#a8d5ba",
    Outcome.SDC_CRITICAL: "#d1495b",
    Outcome.DETECTED: "#edae49",
    Outcome.CRASH: "#6a4c93",
    Outcome.HANG: "#30292f",
}
_STYLE = "body{font:15px system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em}\
div.wide{overflow-x:auto}table{border-collapse:collapse;margin:1em 0}\
td,th{padding:.25em .6em;text-align:right;vertical-align:bottom;border-bottom:1px solid #ddd}td{white-space:nowrap}\
td:first-child,th:first-child{text-align:left}table.about td{text-align:left;white-space:normal;vertical-align:top}\
code{font-size:85%;word-break:break-all}"


def write_page(title: str, summaries: Mapping[str, Summary], path: Path) -> None:
    """Write the page: accuracy against amount with intervals, median and quantiles; shares of outcomes; tables; and of
    every journal what it is about and its hash."""
    charts = [_accuracy(summaries), *(_outcomes(name, s) for name, s in summaries.items())]
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for i, chart in enumerate(charts):
        parts.append(chart.to_html(full_html=False, include_plotlyjs=i == 0, default_height=560 if i == 0 else 320))
        if i == 0:
            parts.append(_points(summaries))
    for name, summary in summaries.items():
        parts.append(_about(name, summary))
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    write_atomic(path, head + "\n".join(parts) + "</html>\n")


def _accuracy(summaries: Mapping[str, Summary]) -> Any:
    import plotly.graph_objects as go  # slow to import, and only needed here

    figure = go.Figure()
    for (name, s), colour in zip(summaries.items(), cycle(_LINES), strict=False):
        x = [p.amount for p in s.points]
        label = f"{name} (fault-free {s.fault_free.value:.1f} %)"
        centre = [p.accuracy.value for p in s.points]
        error = {
            "type": "data",
            "array": [p.accuracy.high - p.accuracy.value for p in s.points],
            "arrayminus": [p.accuracy.value - p.accuracy.low for p in s.points],
        }
        line = {"color": f"rgb({colour})"}
        figure.add_scatter(x=x, y=centre, error_y=error, mode="lines+markers", name=label, line=line)
        median = [p.median.value for p in s.points]
        dashed = {**line, "dash": "dot"}
        figure.add_scatter(x=x, y=median, mode="lines", name=f"{name}: median", line=dashed)
        for low, high, shade in ((0, 3, 0.10), (1, 2, 0.18)):
            band = [p.quantiles[high] for p in s.points] + [p.quantiles[low] for p in reversed(s.points)]
            what = "5 to 95 % of the trials" if low == 0 else "middle half of the trials"
            figure.add_scatter(
                x=x + x[::-1],
                y=band,
                fill="toself",
                fillcolor=f"rgba({colour},{shade})",
                line={"width": 0},
                mode="lines",
                name=f"{name}: {what}",
                hoverinfo="skip",
            )
    _amount_axis(figure, summaries)
    figure.update_yaxes(title="accuracy, %", range=[0, 102])
    figure.update_layout(
        title="Mean accuracy with 95 % interval, median and quantiles", template="simple_white", hovermode="x unified"
    )
    return figure


def _outcomes(name: str, summary: Summary) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    x = [f"{p.amount:.3g}" for p in summary.points]
    for outcome, colour in _OUTCOME_COLOURS.items():
        share = [100 * p.outcomes.get(outcome.value, 0) / p.trials for p in summary.points]
        if any(share):
            figure.add_bar(x=x, y=share, name=outcome.value, marker_color=colour)
    figure.update_xaxes(title=summary.amount, type="category")
    figure.update_yaxes(title="share of trials, %", range=[0, 100])
    figure.update_layout(title=f"{name}: outcomes", template="simple_white", barmode="stack")
    return figure


def _amount_axis(figure: Any, summaries: Mapping[str, Summary]) -> None:
    ticks = sorted({p.amount for s in summaries.values() for p in s.points})
    unit = next(iter(summaries.values())).amount
    text = [f"{tick:.3g}" for tick in ticks]
    title = "fault rate (probability that a stored parameter bit is hit)" if unit == "fault rate" else unit
    figure.update_xaxes(title=title, type="log", tickvals=ticks, ticktext=text)


def _points(summaries: Mapping[str, Summary]) -> str:
    rows = [
        [
            name,
            f"{p.amount:.3g}",
            str(p.trials),
            f"{p.flips:.4g}",
            f"{p.corrected:.4g}",
            interval(p.accuracy),
            interval(p.images.both) if p.images else "",
            interval(p.median),
            f"{p.quantiles[0]:.1f}-{p.quantiles[-1]:.1f}",
            percent(p.failures),
            interval(p.agreement),
        ]
        for name, s in summaries.items()
        for p in s.points
    ]
    unit = next(iter(summaries.values())).amount
    head = [
        "",
        unit,
        "trials",
        "flips a trial",
        "cells put right",
        "accuracy, %",
        "with image sampling",
        "median",
        "5-95 %",
    ]
    note = (
        "<p>Intervals are of 95 %. That of the accuracy is about other faults on these images (bootstrap over trials); "
        "“with image sampling” about other faults on other images. Failing: hang, crash, or another class for an image "
        "(Wilson interval); agreement: images with the class of the fault-free run.</p>"
    )
    return _html_table([*head, "trials failing, %", "agreement, %"], rows) + note


def _about(name: str, s: Summary) -> str:
    header = {key: value for key, value in s.header.items() if key != "strata"}
    rows = [[html.escape(key), f"<code>{html.escape(value)}</code>"] for key, value in header.items()]
    rows.append(["controls without faults, all masked", str(s.controls)])
    rows.append(["harness errors, not counted", str(s.harness_errors)])
    rows += [[f"link to {html.escape(target)}", link(seen)] for target, seen in s.links.items()]
    rows.append(["hash of the journal", f"<code>{s.digest}</code>"])
    text = f"<h2>{html.escape(name)}</h2>" + _html_table([], rows, "about")
    if s.strata:
        lines = [[html.escape(x.name), f"{x.bits:,}", str(x.trials), percent(x.failures)] for x in s.strata]
        text += _html_table(["layer, role, bit", "bits", "tried", "failing, % (Wilson)"], lines)
    return text


def _html_table(head: list[str], rows: list[list[str]], kind: str = "numbers") -> str:
    titles = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>" if head else ""
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table class={kind}>{titles}{lines}</table></div>"
