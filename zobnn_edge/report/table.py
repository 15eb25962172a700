"""Trials summed up a fault rate at a time, as data, as a terminal table and as a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from zobnn_edge.campaign.journal import Row
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.faults.statistics import Estimate, mean
from zobnn_edge.files import write_atomic

SHOWN = {Outcome.MASKED: "masked", Outcome.SDC_BENIGN: "benign", Outcome.SDC_CRITICAL: "critical"}


@dataclass(frozen=True)
class RateSummary:
    """All trials at one fault rate: how many, bits flipped a trial, accuracy in percent with its interval, outcomes."""

    rate: float
    trials: int
    flips: float
    accuracy: Estimate
    outcomes: dict[str, int]


def summarise(rows: Iterable[Row]) -> list[RateSummary]:
    """One summary a fault rate, in ascending order; harness errors are left out."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        if row.outcome is not Outcome.HARNESS_ERROR:
            groups.setdefault(row.rate, []).append(row)
    return [
        RateSummary(
            rate,
            len(group),
            float(np.mean([r.flips for r in group])),
            mean(np.array([100 * r.correct / r.inputs for r in group])),
            dict(Counter(r.outcome.value for r in group)),
        )
        for rate, group in sorted(groups.items())
    ]


def table(title: str, variants: dict[str, list[RateSummary]]) -> Table:
    """A terminal table: one line a variant (such as float32, hardened) and rate."""
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    out.add_column("variant", no_wrap=True)
    for name in ("rate", "trials", "flips", "accuracy % (95 %)", *SHOWN.values()):
        out.add_column(name, justify="right", no_wrap=True)
    for variant, summaries in variants.items():
        for s in summaries:
            estimate, low, high = s.accuracy
            out.add_row(
                variant,
                f"{s.rate:g}",
                str(s.trials),
                f"{s.flips:.3g}" if s.flips < 100 else f"{s.flips:.0f}",
                f"{estimate:.1f} ({low:.1f}-{high:.1f})",
                *(str(s.outcomes.get(o.value, 0)) for o in SHOWN),
            )
        out.add_section()
    out.caption = "masked: same scores; benign: other scores, same classes; critical: the class of some image changed"
    out.caption_justify = "left"
    return out


def plot(title: str, variants: dict[str, list[RateSummary]], fault_free: dict[str, float], path: Path) -> None:
    """Write an interactive page: accuracy over fault rate with intervals, one line a variant; needs no network."""
    import plotly.graph_objects as go  # slow to import, and only needed here

    figure = go.Figure()
    for variant, summaries in variants.items():
        rates = [s.rate for s in summaries]
        centre, low, high = (np.array([s.accuracy[i] for s in summaries]) for i in range(3))
        figure.add_scatter(
            x=rates,
            y=centre,
            error_y={"type": "data", "array": high - centre, "arrayminus": centre - low},
            mode="lines+markers",
            name=f"{variant} (fault-free {fault_free[variant]:.1f} %)",
        )
    ticks = sorted({s.rate for summaries in variants.values() for s in summaries})
    figure.update_xaxes(
        title="fault rate (probability that a stored parameter bit is flipped)",
        type="log",
        tickvals=ticks,
        ticktext=[f"{rate:g}" for rate in ticks],
    )
    figure.update_yaxes(title="accuracy, %", range=[0, 102])
    figure.update_layout(title=title, template="simple_white", legend={"x": 0.02, "y": 0.05}, hovermode="x unified")
    write_atomic(path, figure.to_html(include_plotlyjs=True, default_height="95vh"))
