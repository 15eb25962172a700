"""docs/study.md: written from the journals, so that no figure in it was typed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.study import costs, exhaustive, pictures
from tools.study.campaigns import IMAGES, PARTS, SINGLE, SINGLE_IMAGES, journal
from tools.study.costs import CORES, Cost
from tools.study.variants import BEST, CODED, FRACBNN, RESNET, VARIANTS
from zobnn_edge.campaign.journal import Journal
from zobnn_edge.errors import InputError
from zobnn_edge.faults.robustness import Ratio, drop_ratio, rate_ratio
from zobnn_edge.faults.statistics import Estimate
from zobnn_edge.files import write_atomic
from zobnn_edge.policy import load
from zobnn_edge.report.summary import PointSummary, Summary, summarise

PAGE, PICTURES = Path("docs/study.md"), Path("docs/study")
SHOWN = (1e-5, 1e-4, 1e-3, 2e-3, 1e-2, 2e-2)
DESCRIBED = [n for n, v in VARIANTS.items() if v.network == FRACBNN and v.where is CODED and n != "published"]
"""Variants whose cost is measured: those that are stored otherwise than another."""
MOST_CRITICAL = 12


def write() -> None:
    """Write the page and its pictures from what is in the journals."""
    summaries = {name: _summary(name) for name in VARIANTS if journal(name).exists()}
    spent = costs.read()
    ours = {n: s for n, s in summaries.items() if VARIANTS[n].network == FRACBNN}
    _pictures(summaries)
    parts = [
        _INTRODUCTION.format(images=IMAGES, parts=PARTS),
        "## What the bits of the parameters can do\n",
        "![Accuracy against fault rate](study/curves.svg)\n",
        _accuracies(ours),
        "![Spread of the trials](study/spread.svg)\n",
        _SPREAD,
        _asked(summaries, spent),
        "## Beside a conventional network\n",
        "![FracBNN and ResNet-8](study/resnet.svg)\n",
        _accuracies({n: s for n, s in summaries.items() if VARIANTS[n].network == RESNET}),
        _ratios(summaries),
        "## What it costs\n",
        _costs(ours, spent),
        "![Accuracy against memory](study/costs.svg)\n",
        f"The best policy, `{BEST}`:\n\n```toml\n{load(BEST).text()}```\n",
        _single(),
        _PLACES,
        "## The journals\n",
        _journals(summaries),
    ]
    write_atomic(PAGE, "\n".join(parts))


def _summary(name: str) -> Summary:
    with Journal(journal(name)) as book:
        return summarise(book)


def _pictures(summaries: dict[str, Summary]) -> None:
    def labelled(names: list[str]) -> dict[str, Summary]:
        return {VARIANTS[n].label: summaries[n] for n in names if n in summaries}

    pictures.curves(labelled([n for n in VARIANTS if VARIANTS[n].network == FRACBNN]), PICTURES / "curves.svg")
    compared = ["float32", "bits8", "best", *(n for n in VARIANTS if VARIANTS[n].network == RESNET)]
    pictures.curves(labelled(compared), PICTURES / "resnet.svg")
    pictures.distribution(labelled(["float32", "bits8", "best", "resnet8"]), 1e-4, PICTURES / "spread.svg")
    spent = costs.read()
    points = [
        (VARIANTS[n].label, float(spent[n].bytes), _at(summaries[n], 1e-2).accuracy.value)
        for n in spent
        if n in summaries and VARIANTS[n].network == FRACBNN
    ]
    pictures.costs(points, "accuracy at a fault rate of 1e-2, %", PICTURES / "costs.svg")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _at(summary: Summary, rate: float) -> PointSummary:
    return next(p for p in summary.points if np.isclose(p.amount, rate, rtol=1e-9))


def _interval(estimate: Estimate, digits: int = 1) -> str:
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f}-{estimate.high:.{digits}f})"


def _accuracies(summaries: dict[str, Summary]) -> str:
    rates = [r for r in SHOWN if any(np.isclose(p.amount, r) for s in summaries.values() for p in s.points)]
    rows = []
    for name, s in summaries.items():
        have = {p.amount for p in s.points}
        cells = [_interval(_at(s, r).accuracy) if r in have else "" for r in rates]
        rows.append([VARIANTS[name].label, f"{s.fault_free.value:.1f}", *cells])
    return _table(["accuracy, %", "no faults", *(f"{r:g}" for r in rates)], rows)


def _asked(summaries: dict[str, Summary], spent: dict[str, Cost]) -> str:
    """What the project asked of itself, and what was seen."""
    hard, best = summaries["bits8"], summaries["best"]
    at4, at3 = _at(hard, 1e-4).accuracy, _at(hard, 1e-3).accuracy
    gains = [at4.value - _at(summaries[n], 1e-4).accuracy.value for n in ("published", "float32")]
    best3, best2 = _at(best, 1e-3).accuracy, _at(best, 1e-2).accuracy
    clean, clean_best = hard.fault_free.value, best.fault_free.value
    rows = [
        ["8 bits at 1e-4", "at most 0.5 points below clean", f"{clean - at4.value:.2f} below; {_interval(at4, 2)}"],
        [
            "8 bits at 1e-4, above float32",
            "at least 35 points",
            f"{gains[0]:.1f} as published, {gains[1]:.1f} as imported",
        ],
        ["8 bits at 1e-3", "at most 5 points below clean", f"{clean - at3.value:.2f} below; {_interval(at3, 2)}"],
        ["best at 1e-3", "at most 1 point below clean", f"{clean_best - best3.value:.2f} below; {_interval(best3, 2)}"],
        ["best at 1e-2", "at least 84 %", _interval(best2, 2)],
    ]
    published, imported = costs.published_bytes(), spent["float32"].bytes
    for name, least in (("bits8", 30), ("bits12", 25)):
        saved = [f"{100 * (1 - spent[name].bytes / whole):.1f} %" for whole in (published, imported)]
        seen = f"{saved[0]} less than the {published:,} bytes published, {saved[1]} less than the {imported:,} imported"
        rows.append([f"memory, {VARIANTS[name].label}", f"at least {least} % less", seen])
    for name in ("bits8", "bits12", "best"):
        more = [f"{core} {_percent_more(spent, name, core):+.3f} %" for core in CORES]
        least = "under 1 % more" if name == "best" else "no more than float32"
        rows.append([f"instructions, {VARIANTS[name].label}", least, ", ".join(more)])
    return "## What was asked, and what was seen\n\n" + _table(["", "asked", "seen"], rows) + _MEMORY


def _percent_more(spent: dict[str, Cost], name: str, core: str) -> float:
    return 100 * (spent[name].instructions[core] / spent["float32"].instructions[core] - 1)


def _ratios(summaries: dict[str, Summary]) -> str:
    base = summaries["resnet8"].curve
    cases: list[tuple[str, str, Callable[[Summary], Ratio]]] = [
        ("by drop, at 1e-4", "bits8", lambda s: drop_ratio(s.curve, base, 1e-4)),
        ("by rate, at 5 points lost", "bits8", lambda s: rate_ratio(s.curve, base, 5)),
        ("by drop, at 1e-4", "best", lambda s: drop_ratio(s.curve, base, 1e-4)),
        ("by rate, at 5 points lost", "best", lambda s: rate_ratio(s.curve, base, 5)),
    ]
    asked = {("bits8", "by drop, at 1e-4"): "100", ("bits8", "by rate, at 5 points lost"): "200"}
    asked["best", "by rate, at 5 points lost"] = "2,000"
    rows = []
    for what, name, compute in cases:
        try:
            ratio = compute(summaries[name])
            value, low, high = ratio.ratio
            seen = f"{ratio.bound} {value:,.0f} ({low:,.0f}-{high:,.0f})".strip()
        except InputError as error:
            seen = str(error)
        rows.append([VARIANTS[name].label, what, asked.get((name, what), ""), seen])
    head = ["times more robust than ResNet-8, float32", "", "asked: at least", "seen (95 %)"]
    return _table(head, rows) + _RATIOS


def _costs(summaries: dict[str, Summary], spent: dict[str, Cost]) -> str:
    rows = []
    for name, cost in spent.items():
        if name not in summaries:
            continue
        more = [f"{cost.instructions[core]:,} ({_percent_more(spent, name, core):+.3f} %)" for core in CORES]
        accuracy = _interval(_at(summaries[name], 1e-2).accuracy)
        rows.append([VARIANTS[name].label, f"{cost.bytes:,}", f"{cost.real_bits:,}", *more, accuracy])
    head = ["", "bytes, all", "bits of reals", *(f"instructions, {core}" for core in CORES), "accuracy at 1e-2, %"]
    return _table(head, rows)


def _single() -> str:
    if not journal(SINGLE).exists():
        return ""
    model = VARIANTS["bits8"].model()
    with Journal(journal(SINGLE)) as book:
        bits = exhaustive.bits(book, model.image)
    pictures.critical(bits, PICTURES / "critical.svg")
    found = exhaustive.coverage(bits)
    order = sorted(range(len(bits.regions)), key=lambda r: -bits.critical[bits.region == r].mean())
    rows = []
    for r in order[:MOST_CRITICAL]:
        here = bits.region == r
        worst = bits.deviation[here].max()
        share = f"{100 * bits.critical[here].mean():.1f}"
        rows.append([bits.regions[r], f"{here.sum():,}", share, f"{worst:.4g}", str(bits.changed[here].max())])
    return (
        "## Every single bit\n\n"
        f"All {len(bits.critical):,} bits of the real parameters (8-bit codes), one by one, {SINGLE_IMAGES} images "
        f"each: {100 * bits.share:.2f} % of them change the class of at least one image. No single bit moves a score "
        f"by more than {bits.deviation.max():.4g}, or changes more than {bits.changed.max()} of {bits.images} "
        "classes.\n\n"
        "![Critical share by parameter and bit](study/critical.svg)\n\n"
        + _table(["parameter", "bits", "critical, %", "worst deviation of a score", "most classes changed"], rows)
        + f"\nThe {MOST_CRITICAL} parameters with the largest critical share; the picture has all. Sampling would have "
        f"done: of {exhaustive.REPETITIONS} samples of {found.size:,} bits (enough for {100 * exhaustive.ERROR:g} "
        f"points), the 95 % interval held the exact share {found.simple} times; of as many stratified ones, "
        f"{found.stratified} times.\n"
    )


def _journals(summaries: dict[str, Summary]) -> str:
    rows = [
        [VARIANTS[n].label, f"{sum(p.trials for p in s.points):,}", str(s.controls), f"`{s.digest[:16]}`",
         f"`{s.header['model'][:16]}`"]
        for n, s in summaries.items()
    ]  # fmt: skip
    return _table(["campaign", "trials", "controls, all masked", "hash of the journal", "of the model"], rows)


_INTRODUCTION = """# What bit flips do to FracBNN, and what hardening does about it

FracBNN for CIFAR-10 in the host engine, whose bits are those of the boards. Every stored bit of every parameter flips
with the probability named, those of the binary weights included; scales and zero points of codes lie in flash and are
not hit. Bits that fill up rows of binary weights to whole words are hit in one variant only, which says so: other tools
do not store them, and here they count (a sixteenth of the binary bits, and more harm than all the others together).
100 trials a point, 400 where shifts are not merged; each on {images:,} images, {parts} disjoint sets in turn, so that
all of the test set is seen. Intervals are of 95 %, over trials (bootstrap); NaN scores are wrong. Written by `python
-m tools.study write` from the journals that `python -m tools.study run` makes.
"""
_SPREAD = """Means hide what happens: with float32 parameters a trial is either fine or lost, as soon as a high bit of
an exponent is hit.
"""
_RATIOS = """
*By drop*: how many times fewer points are lost at one rate. *By rate*: how many times the rate that is borne before 5
points are lost (docs/method.md, "Campaigns"). "At least" where one of the curves does not come down that far within
the rates measured.
"""
_MEMORY = """
*Published*: batch norm folded, all else as trained. Import merges shifts that follow each other, so that fewer real
parameters are left, and can be hit, before anything is coded.
"""
_PLACES = """## The same in every place

`tests/conformance/test_places.py` (a part of `make study`) draws 200 fault sets, 50 at each of 1e-5 to 1e-2, and
tries them on the host, on an emulated Cortex-M4, in LCE's interpreter (bits inverted in the flatbuffer), and, with a
network that fits its RAM, on an emulated STM32F405. All outcomes must be alike, trial by trial; on boards to the last
bit of the scores.
"""
