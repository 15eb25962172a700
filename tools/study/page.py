"""docs/study.md: written from the journals, so that no figure in it was typed by hand."""

from __future__ import annotations

from pathlib import Path

from tools.study import costs, exhaustive, pictures
from tools.study.campaigns import IMAGES, PARTS, SINGLE, SINGLE_IMAGES, journal
from tools.study.costs import CORES, Cost
from tools.study.figures import Figure, all_figures, at, interval, percent_more
from tools.study.variants import BEST, CODED, DECADES, FRACBNN, VARIANTS
from zobnn_edge.campaign.journal import Journal
from zobnn_edge.files import write_atomic
from zobnn_edge.policy import load
from zobnn_edge.report.summary import Summary, summarise

PAGE, PICTURES = Path("docs/study.md"), Path("docs/study")
DESCRIBED = [n for n, v in VARIANTS.items() if v.where is CODED and n != "published"]
"""Variants whose cost is measured: those that are stored otherwise than another."""
MOST_CRITICAL = 12
POINTS = ("published",)
"""Variants tried at one rate only: no curve."""


def write() -> list[Figure]:
    """Write the page and its pictures from what is in the journals; returns the figures asked for."""
    summaries = {name: _summary(name) for name in VARIANTS}
    spent, single = costs.read(), _single_bits()
    ours = {n: s for n, s in summaries.items() if VARIANTS[n].network == FRACBNN}
    asked = all_figures(summaries, spent, exhaustive.coverage(single))
    _pictures(summaries, spent, single)
    write_atomic(PICTURES / "single.csv", exhaustive.csv_of(single))
    parts = [
        _INTRODUCTION.format(
            images=IMAGES, parts=PARTS, plain=VARIANTS["bits8"].trials, many=VARIANTS["published"].trials
        ),
        "## What the bits of the parameters can do\n",
        "![Accuracy against fault rate](study/curves.svg)\n",
        _accuracies(ours),
        "![Spread of the trials](study/spread.svg)\n",
        _SPREAD,
        "## What was asked, and what was seen\n",
        _table(["", "asked", "seen", "met"], [[f.what, f.asked, f.seen, "yes" if f.met else "**no**"] for f in asked]),
        _ASKED,
        "## Beside a conventional network\n",
        "![FracBNN and ResNet-8](study/resnet.svg)\n",
        _accuracies({n: s for n, s in summaries.items() if n not in ours}),
        _conventional_costs(spent),
        "## What it costs\n",
        _costs(ours, {n: cost for n, cost in spent.items() if n in ours}),
        "![Accuracy against memory](study/costs.svg)\n",
        f"The best policy, `{BEST}`:\n\n```toml\n{load(BEST).text()}```\n",
        _single(single),
        _PLACES,
        "## The journals\n",
        _JOURNALS,
        _journals(summaries),
    ]
    write_atomic(PAGE, "\n".join(parts))
    return asked


def _summary(name: str) -> Summary:
    with Journal(journal(name)) as book:
        return summarise(book)


def _single_bits() -> exhaustive.Bits:
    with Journal(journal(SINGLE)) as book:
        return exhaustive.bits(book, VARIANTS["bits8"].model().image)


def _pictures(summaries: dict[str, Summary], spent: dict[str, Cost], single: exhaustive.Bits) -> None:
    def labelled(names: list[str]) -> dict[str, Summary]:
        return {VARIANTS[n].label: summaries[n] for n in names}

    drawn = [n for n in summaries if VARIANTS[n].network == FRACBNN and n not in POINTS]
    pictures.curves(labelled(drawn), PICTURES / "curves.svg")
    compared = ["float32", "bits8", "best", *(n for n, v in VARIANTS.items() if v.network != FRACBNN)]
    pictures.curves(labelled(compared), PICTURES / "resnet.svg")
    pictures.distribution(labelled(["float32", "bits8", "best", "resnet8"]), 1e-4, PICTURES / "spread.svg")
    points = [
        (VARIANTS[n].label, float(cost.bytes), at(summaries[n], 1e-2).accuracy.value)
        for n, cost in spent.items()
        if n in drawn
    ]
    pictures.costs(points, "accuracy at a fault rate of 1e-2, %", PICTURES / "costs.svg")
    pictures.critical(single, PICTURES / "critical.svg")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _accuracies(summaries: dict[str, Summary]) -> str:
    rows = []
    for name, s in summaries.items():
        have = {p.amount for p in s.points}
        cells = [interval(at(s, r).accuracy) if r in have else "" for r in DECADES]
        rows.append([VARIANTS[name].label, f"{s.fault_free.value:.1f}", *cells])
    return _table(["accuracy, %", "no faults", *(f"{r:.0e}".replace("e-0", "e-") for r in DECADES)], rows)


def _costs(summaries: dict[str, Summary], spent: dict[str, Cost]) -> str:
    rows = []
    for name, cost in spent.items():
        more = [f"{cost.instructions[core]:,} ({percent_more(spent, name, core):+.3f} %)" for core in CORES]
        accuracy = interval(at(summaries[name], 1e-2).accuracy)
        rows.append([VARIANTS[name].label, f"{cost.bytes:,}", f"{cost.real_bits:,}", *more, accuracy])
    head = ["", "bytes, all", "bits of reals", *(f"instructions, {core}" for core in CORES), "accuracy at 1e-2, %"]
    return _table(head, rows)


def _conventional_costs(spent: dict[str, Cost]) -> str:
    rows = [
        [VARIANTS[n].label, f"{cost.bytes:,}", f"{cost.instructions['M4']:,}"]
        for n, cost in spent.items()
        if n == "bits8" or VARIANTS[n].network != FRACBNN
    ]
    return _table(["", "bytes, all", "instructions, M4"], [["FracBNN, " + rows[0][0], *rows[0][1:]], *rows[1:]])


def _single(bits: exhaustive.Bits) -> str:
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
        + f"\nThe {MOST_CRITICAL} parameters with the largest critical share; the picture has all, and "
        "[single.csv](study/single.csv) what was seen at every bit position of each. Sampling would have "
        f"done: of {exhaustive.REPETITIONS} samples of {found.size:,} bits (enough for {100 * exhaustive.ERROR:g} "
        f"points), the 95 % interval held the exact share {found.simple} times; of as many stratified ones, "
        f"{found.stratified} times.\n"
    )


def _journals(summaries: dict[str, Summary]) -> str:
    rows = [
        [f"`{n}`", VARIANTS[n].label, f"{sum(p.trials for p in s.points):,}", str(s.controls), f"`{s.digest[:16]}`",
         f"`{s.header['model'][:16]}`"]
        for n, s in summaries.items()
    ]  # fmt: skip
    return _table(["NAME", "campaign", "trials", "controls, all masked", "hash of the journal", "of the model"], rows)


_INTRODUCTION = """# What bit flips do to FracBNN, and what hardening does about it

FracBNN for CIFAR-10 in the host engine, whose bits are those of the boards. Every stored bit of every parameter flips
with the probability named, those of the binary weights included; scales and zero points of codes lie in flash and are
not hit. Bits that fill up rows of binary weights to whole words are hit in one variant only, which says so: other tools
do not store them, and here they count (a sixteenth of the binary bits, and more harm than all the others together).
100 trials a point, {plain} of plain 8-bit codes, {many:,} where shifts are not merged; each on {images:,} images,
{parts} disjoint sets in turn, so that all of the test set is seen. Intervals are of 95 %, over trials (bootstrap); NaN
scores are wrong. Written by `python -m tools.study write` from the journals that `python -m tools.study run` makes.
"""
_SPREAD = """Means hide what happens: with float32 parameters a trial is either fine or lost, as soon as a high bit of
an exponent is hit.
"""
_ASKED = """
*Fewer points lost* compares drops of accuracy at one rate; *borne* compares the rates at which 5 points are lost
(docs/method.md, "Campaigns"); "at least" where one of the curves does not come down that far within the rates measured.
*Published*: batch norm folded, all else as trained. Import merges shifts that follow each other, so that fewer real
parameters are left, and can be hit, before anything is coded.
"""
_JOURNALS = """`python -m tools.study run NAME` repeats a campaign; its journal then has the same hash, on any machine.
"""
_PLACES = """## The same in every place

`tests/conformance/test_places.py` (a part of `make study`) draws 200 fault sets, 50 at each of 1e-5 to 1e-2, and
tries them on the host, on an emulated Cortex-M4, in LCE's interpreter (bits inverted in the flatbuffer), and, with a
network that fits its RAM, on an emulated STM32F405. All outcomes must be alike, trial by trial; on boards to the last
bit of the scores.
"""
