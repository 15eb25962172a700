"""Summaries as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.faults.statistics import Estimate
from zobnn_edge.link.client import Counters
from zobnn_edge.report.summary import FAILURES, PointSummary, StratumSummary, Summary

LARGEST_STRATA = 15
ENDED = (Outcome.HANG, Outcome.CRASH)


def points_table(title: str, summaries: Mapping[str, Summary]) -> Table:
    """One line a variant (such as float32, hardened) and amount."""
    out = _table(title)
    out.add_column("variant", no_wrap=True)
    unit = next(iter(summaries.values())).amount if summaries else "fault rate"
    columns = ("rate" if unit == "fault rate" else "bits", "trials", "flips", "accuracy % (95 %)", "median", "5-95 %")
    any_ended = any(_count(p, ENDED) for summary in summaries.values() for p in summary.points)
    for name in (*columns, "fail/end" if any_ended else "fail"):
        out.add_column(name, justify="right", no_wrap=True)
    for variant, summary in summaries.items():
        for p in summary.points:
            out.add_row(
                variant,
                f"{p.amount:,.0f}" if p.amount >= 1 else f"{p.amount:.3g}",
                str(p.trials),
                f"{p.flips:.3g}" if p.flips < 100 else f"{p.flips:.0f}",
                interval(p.accuracy),
                f"{p.median.value:.1f}",
                f"{p.quantiles[0]:.0f}-{p.quantiles[-1]:.0f}",
                f"{_count(p, FAILURES)}/{_count(p, ENDED)}" if any_ended else str(_count(p, FAILURES)),
            )
        out.add_section()
    out.caption = "fail: trials in which the class of an image changed, or that hung or crashed"
    if any_ended:
        out.caption += "; end: these last alone"
    out.caption_justify = "left"
    return out


def _count(point: PointSummary, outcomes: tuple[Outcome, ...]) -> int:
    return sum(point.outcomes.get(outcome, 0) for outcome in outcomes)


def strata_table(title: str, strata: list[StratumSummary]) -> Table:
    """The strata that fail most often."""
    out = _table(title)
    out.add_column("layer, role, bit")
    for name in ("bits", "tried", "fails % (95 %)"):
        out.add_column(name, justify="right", no_wrap=True)
    for s in strata[:LARGEST_STRATA]:
        out.add_row(s.name, f"{s.bits:,}", str(s.trials), percent(s.failures))
    left = len(strata) - LARGEST_STRATA
    if left > 0:
        out.caption = f"and {left} more"
        out.caption_justify = "left"
    return out


def link(seen: Counters) -> str:
    """What the link to a target has seen."""
    return (
        f"{seen.requests:,} requests, {seen.resends} frames sent again; dropped as damaged {seen.bad_frames} here, "
        f"{seen.board_bad_frames} there, astray {seen.strays}, bytes lost {seen.overruns}; {seen.resets} resets, "
        f"{seen.restarts} restarts by itself"
    )


def percent(share: Estimate) -> str:
    """A share with its interval, in percent."""
    return interval(Estimate(*(100 * x for x in share)))


def interval(estimate: Estimate) -> str:
    """An estimate with its interval."""
    return f"{estimate.value:.1f} ({estimate.low:.1f}-{estimate.high:.1f})"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
