"""A journal summed up: estimates with intervals at every amount, strata, and what they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.campaign.journal import Golden, Journal, Row, unpacked
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.faults import statistics
from zobnn_edge.faults.robustness import Curve
from zobnn_edge.faults.space import Stratum
from zobnn_edge.faults.statistics import Crossed, Estimate, proportion
from zobnn_edge.link.client import Counters

FAILURES = (Outcome.HANG, Outcome.CRASH, Outcome.SDC_CRITICAL)
"""Outcomes in which the network fails and nobody is told."""
QUANTILES = (0.05, 0.25, 0.75, 0.95)


@dataclass(frozen=True)
class PointSummary:
    """All trials at one amount (a fault rate or a number of bits); harness errors are left out.

    Accuracies are in percent, of all images of a trial. `corrected` is the mean number of cells with redundant bits
    that were put right; `failures` is the share of trials that hang, crash or change
    the class of an image; `agreement` the share of images that keep the class of the golden run; `images` the mean
    accuracy with the errors of sampling faults and images kept apart (None: the trials had different images).
    """

    amount: float
    trials: int
    flips: float
    corrected: float
    accuracy: Estimate
    median: Estimate
    quantiles: tuple[float, ...]
    agreement: Estimate
    failures: Estimate
    outcomes: dict[str, int]
    images: Crossed | None
    samples: NDArray[np.float64]


@dataclass(frozen=True)
class StratumSummary:
    """What was seen in one stratum: how many bits it has, how many were tried, the share of trials that failed."""

    name: str
    bits: int
    trials: int
    failures: Estimate


@dataclass(frozen=True)
class Summary:
    """A journal summed up.

    `fault_free` is the golden run's accuracy in percent with its interval over images; `weighted`, of models that hit
    one place, the share of the fault space that fails, its strata weighted by their bits (None: some were not tried);
    `links` what the links have seen, by target.
    """

    header: dict[str, str]
    amount: str
    points: list[PointSummary]
    strata: list[StratumSummary]
    weighted: Estimate | None
    fault_free: Estimate
    controls: int
    harness_errors: int
    links: dict[str, Counters]
    digest: str

    @property
    def curve(self) -> Curve:
        """Accuracy against amount, for comparisons."""
        return Curve(self.fault_free.value, {p.amount: p.samples for p in self.points})


def summarise(journal: Journal) -> Summary:
    """Sum up a journal. Raises CampaignInvalid when a control in it failed."""
    journal.check()
    rows = list(journal.rows())
    counted = [row for row in rows if row.outcome is not Outcome.HARNESS_ERROR]
    return Summary(
        header=journal.header,
        amount="fault rate" if journal.plan.model in ("rate", "stuck0", "stuck1") else "bits inverted",
        points=points(counted),
        strata=strata(journal, counted),
        weighted=weighted(journal, counted),
        fault_free=fault_free(journal.golden()),
        controls=len(journal.controls()),
        harness_errors=len(rows) - len(counted),
        links=journal.links(),
        digest=journal.digest(),
    )


def fault_free(golden: Iterable[Golden]) -> Estimate:
    """Accuracy of the golden runs in percent."""
    runs = list(golden)
    return _percent(proportion(sum(g.correct for g in runs), sum(g.inputs for g in runs)))


def points(rows: Iterable[Row]) -> list[PointSummary]:
    """One summary an amount, ascending."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.amount, []).append(row)
    return [_point(amount, group) for amount, group in sorted(groups.items())]


def _point(amount: float, rows: list[Row]) -> PointSummary:
    samples = np.array([100 * row.accuracy for row in rows])
    failed = sum(row.outcome in FAILURES for row in rows)
    same = np.array([100 * (1 - row.changed / row.inputs) for row in rows])
    return PointSummary(
        amount=amount,
        trials=len(rows),
        flips=float(np.mean([row.flips for row in rows])),
        corrected=float(np.mean([row.corrected for row in rows])),
        accuracy=statistics.mean(samples),
        median=statistics.quantile(samples),
        quantiles=tuple(float(q) for q in np.quantile(samples, QUANTILES)),
        agreement=statistics.mean(same),
        failures=proportion(failed, len(rows)),
        outcomes=dict(Counter(row.outcome.value for row in rows)),
        images=_images(rows),
        samples=samples,
    )


def _images(rows: list[Row]) -> Crossed | None:
    if len({row.part for row in rows}) > 1:
        return None
    right = np.array([unpacked(row.right, row.inputs) for row in rows])
    return Crossed(*(_percent(estimate) for estimate in statistics.crossed(right)))


def strata(journal: Journal, rows: Iterable[Row]) -> list[StratumSummary]:
    """Of models that hit one place a trial: the strata tried, those first that surely fail often."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if row.stratum is not None:
            groups.setdefault(row.stratum, []).append(row)
    listed = journal.strata
    found = []
    for number, group in groups.items():
        name, bits = listed[number]
        failed = sum(row.outcome in FAILURES for row in group)
        found.append(StratumSummary(str(name), bits, len(group), proportion(failed, len(group))))
    return sorted(found, key=lambda s: (-s.failures.low, -s.failures.value, s.name))


def weighted(journal: Journal, rows: Iterable[Row]) -> Estimate | None:
    """The share of the fault space that fails when hit, strata weighted by their bits.

    Strata are layer, role and bit position; or layer and role, where not every bit position was tried; None where not
    even those were, or no model that hits one place was.
    """
    trials = [row for row in rows if row.stratum is not None]
    listed = journal.strata
    keys = ([s for s, _ in listed], [replace(s, bit=None) for s, _ in listed])
    for key in keys:
        found: dict[Stratum, list[int]] = {}
        for stratum, (_, bits) in zip(key, listed, strict=True):
            found.setdefault(stratum, [0, 0, 0])[0] += bits
        for row in trials:
            counts = found[key[row.stratum or 0]]
            counts[1] += 1
            counts[2] += row.outcome in FAILURES
        if all(n for _, n, _ in found.values()):
            return statistics.stratified([statistics.Stratum(*counts) for counts in found.values()])
    return None


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(*(100 * x for x in estimate))
