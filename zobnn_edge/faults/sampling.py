"""How many trials: sample sizes, their allocation to strata, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from zobnn_edge.errors import InputError


def sample_size(population: int | None, error: float, confidence: float = 0.95, p: float = 0.5) -> int:
    """Faults to inject, of a population of that many (None: without end), to know a proportion to +-`error`.

    `n = N / (1 + e^2 (N - 1) / (t^2 p (1 - p)))`, rounded up (Leveugle et al., "Statistical fault injection:
    quantified error and confidence", DATE 2009). `p` is the proportion expected; 0.5 is the worst. Raises InputError
    for an error, confidence or p outside (0, 1).
    """
    for name, value in (("error", error), ("confidence", confidence), ("proportion", p)):
        if not 0 < value < 1:
            raise InputError(f"{name} {value:g}: it must lie between 0 and 1")
    t = float(stats.norm.ppf((1 + confidence) / 2))
    endless = t**2 * p * (1 - p) / error**2
    if population is None:
        return math.ceil(endless)
    return math.ceil(population / (1 + (population - 1) / endless))


def error_of(n: int, population: int | None, confidence: float = 0.95, p: float = 0.5) -> float:
    """The error that n faults of a population leave: the reverse of `sample_size`."""
    t = float(stats.norm.ppf((1 + confidence) / 2))
    left = 1.0 if population is None else (population - n) / max(1, population - 1)
    return t * math.sqrt(p * (1 - p) / n * left)


def allocate(trials: int, populations: Sequence[int]) -> list[int]:
    """Share trials among strata in proportion to their populations: at least one each, at most all of it.

    Raises InputError when there are fewer trials than strata, or more than faults.
    """
    if not len(populations) <= trials <= sum(populations):
        raise InputError(
            f"{trials} trials for {len(populations)} strata of {sum(populations)} faults; "
            "give at least one each, and at most as many as there are faults"
        )
    sizes = np.asarray(populations, np.float64)
    shares = np.minimum(np.maximum(1, np.floor(trials * sizes / sizes.sum())), sizes).astype(np.int64)
    while shares.sum() != trials:  # a few steps: rounding, and strata at their bounds
        more = shares.sum() < trials
        lack = trials * sizes / sizes.sum() - shares
        open_ = shares < sizes if more else shares > 1
        at = int(np.argmax(np.where(open_, lack if more else -lack, -np.inf)))
        shares[at] += 1 if more else -1
    return [int(share) for share in shares]


@dataclass(frozen=True)
class Stopping:
    """When the trials at one point suffice: the mean of samples in [0, 1] is known to +-`half_width`.

    To be asked only after every `every` trials, so that the decision depends on the trials alone. Stopped early at a
    lucky moment, intervals cover less often than they say; two things keep that small. There are at least
    `least` trials: so many that an outcome none of them showed, were it the worst one, moves the mean by less than
    `half_width`. And the width asked for is absolute, not relative to the mean (Chow and Robbins 1965).
    """

    half_width: float
    confidence: float = 0.95
    every: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1:
            raise InputError(f"a half width of {self.half_width:g}; it must lie between 0 and 1 (0.01 is one point)")

    @property
    def least(self) -> int:
        """The number of trials below which it never stops, from `unseen(n) <= half_width`."""
        return math.ceil(math.log(1 - self.confidence) / math.log(1 - self.half_width))

    def suffices(self, samples: ArrayLike) -> bool:
        """True when these trials, in the order of their numbers, are enough."""
        x = np.asarray(samples, np.float64)
        n = len(x)
        if n < self.least:
            return False
        t = stats.t.ppf((1 + self.confidence) / 2, n - 1)
        return bool(t * x.std(ddof=1) / math.sqrt(n) <= self.half_width)
