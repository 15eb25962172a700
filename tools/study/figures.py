"""The figures that the project asked of itself: what was asked, what was seen, and whether that is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tools.study.costs import CORES, Cost, published_bytes
from tools.study.exhaustive import REPETITIONS, Coverage
from tools.study.variants import VARIANTS
from zobnn_edge.errors import InputError
from zobnn_edge.faults.robustness import Ratio, drop_ratio, rate_ratio
from zobnn_edge.faults.statistics import Estimate
from zobnn_edge.report.summary import PointSummary, Summary


@dataclass(frozen=True)
class Figure:
    """One figure."""

    what: str
    asked: str
    seen: str
    met: bool


def at(summary: Summary, rate: float) -> PointSummary:
    """The trials at one rate."""
    return next(p for p in summary.points if np.isclose(p.amount, rate, rtol=1e-9))


def interval(estimate: Estimate, digits: int = 1) -> str:
    """An estimate with its interval."""
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f}-{estimate.high:.{digits}f})"


def percent_more(spent: Mapping[str, Cost], name: str, core: str) -> float:
    """How many percent more instructions a variant takes on a core than float32 parameters do."""
    return 100 * (spent[name].instructions[core] / spent["float32"].instructions[core] - 1)


def all_figures(summaries: Mapping[str, Summary], spent: Mapping[str, Cost], single: Coverage) -> list[Figure]:
    """All of them, in the order of the page."""
    return [
        *_accuracies(summaries),
        *_robustness(summaries),
        *_memory(spent),
        *_instructions(spent),
        Figure(
            "sampled estimates of single bits whose 95 % interval holds the exact share",
            f"at least 93 of {REPETITIONS}",
            str(single.simple),
            single.simple >= 93,
        ),
    ]


def _accuracies(summaries: Mapping[str, Summary]) -> list[Figure]:
    hard, best = summaries["bits8"], summaries["best"]
    hard4, best2 = at(hard, 1e-4).accuracy, at(best, 1e-2).accuracy
    float4 = at(summaries["published"], 1e-4).accuracy
    above = hard4.value - float4.value

    def below(what: str, summary: Summary, rate: float, most: float) -> Figure:
        accuracy = at(summary, rate).accuracy
        lost = summary.fault_free.value - accuracy.value
        asked = f"at most {most:g} points below clean"
        return Figure(f"{what} at {rate:g}", asked, f"{lost:.2f} below; {interval(accuracy, 2)}", lost <= most)

    return [
        below("8 bits", hard, 1e-4, 0.5),
        Figure(
            "8 bits at 0.0001, above float32 (shifts not merged)",
            "at least 35 points",
            f"{above:.1f}: {interval(hard4)} and {interval(float4)}",
            above >= 35,
        ),
        below("8 bits", hard, 1e-3, 5),
        below("best policy", best, 1e-3, 1),
        Figure("best policy at 0.01", "at least 84 %", interval(best2, 2), best2.value >= 84),
    ]


def _robustness(summaries: Mapping[str, Summary]) -> list[Figure]:
    """How many times more robust than the conventional network."""
    base = summaries["resnet8"].curve
    by_drop = "fewer points lost at 0.0001 than ResNet-8, float32"
    by_rate = "the fault rate of ResNet-8, float32, borne before 5 points are lost"
    cases: list[tuple[str, str, Callable[[Summary], Ratio], float]] = [
        ("bits8", by_drop, lambda s: drop_ratio(s.curve, base, 1e-4), 100),
        ("bits8", by_rate, lambda s: rate_ratio(s.curve, base, 5), 200),
        ("best", by_rate, lambda s: rate_ratio(s.curve, base, 5), 2000),
    ]
    figures = []
    for name, what, compute, least in cases:
        asked, label = f"at least {least:,.0f} times", f"{VARIANTS[name].label}: {what}"
        try:
            ratio = compute(summaries[name])
        except InputError as error:
            figures.append(Figure(label, asked, str(error), False))
            continue
        value, low, high = ratio.ratio
        seen = f"{ratio.bound} {value:,.0f} ({low:,.0f}-{high:,.0f}) times".strip()
        figures.append(Figure(label, asked, seen, value >= least))
    return figures


def _memory(spent: Mapping[str, Cost]) -> list[Figure]:
    whole, imported = published_bytes(), spent["float32"].bytes
    figures = []
    for name, least in (("bits8", 30), ("bits12", 25)):
        saved, of_ours = (100 * (1 - spent[name].bytes / n) for n in (whole, imported))
        seen = f"{saved:.1f} % less than the {whole:,} bytes published, {of_ours:.1f} % than the {imported:,} imported"
        figures.append(Figure(f"memory, {VARIANTS[name].label}", f"at least {least} % less", seen, saved >= least))
    return figures


def _instructions(spent: Mapping[str, Cost]) -> list[Figure]:
    figures = []
    for name, most in (("bits8", 0.0), ("bits12", 0.0), ("best", 1.0)):
        more = {core: percent_more(spent, name, core) for core in CORES}
        asked = f"under {most:g} % more" if most else "no more than float32"
        seen = ", ".join(f"{core} {x:+.3f} %" for core, x in more.items())
        figures.append(Figure(f"instructions, {VARIANTS[name].label}", asked, seen, max(more.values()) <= most))
    return figures
