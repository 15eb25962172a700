"""What the exhaustive campaign says: every bit of the real parameters inverted by itself."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.campaign.journal import Journal
from zobnn_edge.faults.sampling import allocate, sample_size
from zobnn_edge.faults.statistics import Stratum, proportion, stratified
from zobnn_edge.image import ParameterImage
from zobnn_edge.report.summary import FAILURES

REPETITIONS, ERROR = 100, 0.02
"""Samples drawn from the exhaustive campaign, and the error that their size is worked out for."""


@dataclass(frozen=True)
class Bits:
    """Every bit of the fault space: region and position in its code; whether the class of an image changed, of how many
    images, and how far a score went at most."""

    regions: list[str]
    region: NDArray[np.int64]
    bit: NDArray[np.int64]
    critical: NDArray[np.bool_]
    changed: NDArray[np.int64]
    deviation: NDArray[np.float64]
    images: int

    @cached_property
    def share(self) -> float:
        """The share that is critical, exactly."""
        return float(self.critical.mean())

    def by_position(self) -> NDArray[np.float64]:
        """The share that is critical of every region (rows) and bit position (columns)."""
        width = int(self.bit.max()) + 1
        out = np.full((len(self.regions), width), np.nan)
        for region in range(len(self.regions)):
            for bit in range(width):
                here = (self.region == region) & (self.bit == bit)
                if here.any():
                    out[region, bit] = self.critical[here].mean()
        return out


def bits(journal: Journal, image: ParameterImage) -> Bits:
    """The bits of a finished exhaustive campaign; raises ValueError when trials are missing."""
    rows = list(journal.rows())
    if len(rows) != journal.plan.total:
        raise ValueError(f"{journal.path}: {len(rows)} of {journal.plan.total} trials")
    at = [image.locate(row.addresses[0]) for row in rows if row.addresses]
    regions = [r.name for r in image.regions if any(r.name == a.region.name for a in at)]
    number = {name: i for i, name in enumerate(regions)}
    return Bits(
        regions=regions,
        region=np.array([number[a.region.name] for a in at]),
        bit=np.array([-1 if a.bit is None else a.bit for a in at]),
        critical=np.array([row.outcome in FAILURES for row in rows]),
        changed=np.array([row.changed for row in rows]),
        deviation=np.array([row.deviation for row in rows]),
        images=rows[0].inputs,
    )


def csv_of(all_bits: Bits) -> str:
    """A line for every parameter and bit position: bits, how many are critical, and the worst that any of them did."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["parameter", "bit", "bits", "critical", "worst_deviation", "most_classes_changed"])
    for region, name in enumerate(all_bits.regions):
        for bit in np.unique(all_bits.bit[all_bits.region == region]):
            here = (all_bits.region == region) & (all_bits.bit == bit)
            worst = f"{all_bits.deviation[here].max():.6g}"
            out.writerow([name, bit, here.sum(), all_bits.critical[here].sum(), worst, all_bits.changed[here].max()])
    return text.getvalue()


@dataclass(frozen=True)
class Coverage:
    """How often intervals of samples of `size` bits covered the exact share: drawn from all alike, and from strata (of
    a region and a bit position) in proportion."""

    size: int
    simple: int
    stratified: int


def coverage(all_bits: Bits, seed: int = 0) -> Coverage:
    """Draw samples from the bits tried, again and again, and see whether their 95 % intervals hold the truth."""
    rng = np.random.default_rng(seed)
    size = sample_size(len(all_bits.critical), ERROR)
    strata = np.unique(all_bits.region * 64 + all_bits.bit, return_inverse=True)[1]
    members = [np.flatnonzero(strata == s) for s in range(int(strata.max()) + 1)]
    shares = allocate(max(size, len(members)), [len(m) for m in members])
    simple = in_strata = 0
    for _ in range(REPETITIONS):
        drawn = rng.choice(len(all_bits.critical), size, replace=False)
        estimate = proportion(int(all_bits.critical[drawn].sum()), size)
        simple += estimate.low <= all_bits.share <= estimate.high
        parts = []
        for member, n in zip(members, shares, strict=True):
            hit = all_bits.critical[rng.choice(member, n, replace=False)]
            parts.append(Stratum(len(member), n, int(hit.sum())))
        estimate = stratified(parts)
        in_strata += estimate.low <= all_bits.share <= estimate.high
    return Coverage(size, simple, in_strata)
