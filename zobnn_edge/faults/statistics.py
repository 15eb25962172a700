"""Estimates with intervals: proportions, means, quantiles, strata, and trials crossed with images.

Fault outcomes are bimodal (all is well, or all is lost) and proportions lie near 0 or 1, so that nothing here rests on
a normal approximation of the samples. Every random resampling has a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from zobnn_edge.errors import InputError

RESAMPLES = 9999
"""Bootstrap resamples; 9,999 put the percentiles of a 95 % interval on order statistics."""


class Estimate(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2


def proportion(
    successes: int, n: int, confidence: float = 0.95, method: Literal["wilson", "exact"] = "wilson"
) -> Estimate:
    """A proportion with its Wilson score interval (Wilson 1927), or the exact one (Clopper and Pearson 1934).

    The exact interval never covers less often than it says, and is wider. With no trials: (nan, 0, 1).
    """
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method=method)
    return Estimate(successes / n, float(interval.low), float(interval.high))


def mean(samples: ArrayLike, confidence: float = 0.95) -> Estimate:
    """A mean with its bootstrap percentile interval (Efron 1979); trials are the unit.

    Samples that are all equal, or a single one, give an interval of no width: it then says nothing about the tail,
    which `unseen` bounds.
    """
    x = np.asarray(samples, np.float64)
    return Estimate(float(x.mean()), *percentiles(resampled_means(x), confidence))


def resampled_means(samples: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Means (resamples,) of samples drawn anew with replacement.

    How often each distinct value is drawn is multinomial, which is the same distribution as drawing one by one and
    costs no more for many trials than for few.
    """
    values, counts = np.unique(np.asarray(samples, np.float64), return_counts=True)
    n = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, resamples)
    means: NDArray[np.float64] = drawn @ values / n
    return means


def percentiles(resampled: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The ends of the percentile interval of resampled estimates; infinite ones are allowed."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail), method="inverted_cdf")
    return float(low), float(high)


def quantile(samples: ArrayLike, q: float = 0.5, confidence: float = 0.95) -> Estimate:
    """A quantile (0.5: the median) with its distribution-free interval between order statistics.

    The number of samples below the true quantile is binomial (Thompson 1936). Where there are too few samples for the
    confidence, an end is the least or greatest sample, and covers less often.
    """
    x = np.sort(np.asarray(samples, np.float64))
    n, tail = len(x), (1 - confidence) / 2
    low = int(stats.binom.ppf(tail, n, q)) - 1
    high = int(stats.binom.ppf(1 - tail, n, q))
    return Estimate(float(np.quantile(x, q)), float(x[max(low, 0)]), float(x[min(high, n - 1)]))


def unseen(n: int, confidence: float = 0.95) -> float:
    """What an outcome that n trials never showed is at most likely: 1 - (1 - confidence)^(1/n), about 3/n at 95 %."""
    return float(1 - (1 - confidence) ** (1 / n)) if n else 1.0


@dataclass(frozen=True)
class Stratum:
    """What was seen in one stratum: of `population` faults `n` were tried, drawn at random without replacement, and
    `successes` of them counted."""

    population: int
    n: int
    successes: int


def stratified(strata: Sequence[Stratum], confidence: float = 0.95) -> Estimate:
    """The proportion in the whole population, each stratum weighted by its population.

    The interval is what two methods give together, as each fails where the other does not. One combines the strata's
    Wilson intervals by the method of variance estimates recovery (Zou and Donner 2008): right for few strata, also
    where one saw no success, too narrow for many with a handful of trials each. The other is the Wilson interval of the
    effective sample size (Korn and Graubard 1998), the strata's shares pulled towards the whole one by two trials. Both
    are corrected for finite populations: there is no width where every stratum was tried exhaustively. Raises
    InputError for a stratum without trials.
    """
    if not all(s.n for s in strata):
        raise InputError("a stratum without trials has no estimate; give every stratum at least one")
    total = sum(s.population for s in strata)
    value = sum(s.population / total * s.successes / s.n for s in strata)
    below = above = variance = 0.0
    for s in strata:
        weight, p = s.population / total, s.successes / s.n
        left = (s.population - s.n) / max(1, s.population - 1)
        low, high = _wilson(p, s.n, confidence)
        below += (weight * (p - low)) ** 2 * left
        above += (weight * (high - p)) ** 2 * left
        share = (s.successes + 2 * value) / (s.n + 2)
        variance += weight**2 * share * (1 - share) / s.n * left
    low, high = value - below**0.5, value + above**0.5
    if variance > 0 and 0 < value < 1:
        effective = _wilson(value, value * (1 - value) / variance, confidence)
        low, high = min(low, effective[0]), max(high, effective[1])
    return Estimate(value, max(0.0, low), min(1.0, high))


def _wilson(p: float, n: float, confidence: float) -> tuple[float, float]:
    """The Wilson score interval of a share p of n trials, which need be no whole number."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
    return centre - half, centre + half


class Crossed(NamedTuple):
    """The mean of trials x images with the errors of sampling kept apart."""

    faults: Estimate
    """Other faults, these images."""
    images: Estimate
    """Other images, these faults."""
    both: Estimate
    """Other faults and other images."""


def crossed(right: NDArray[np.bool_], confidence: float = 0.95, resamples: int = 1999) -> Crossed:
    """The share of right answers of a matrix (trials, images), every trial having seen every image.

    Trials, images, or both are drawn anew with replacement (the pigeonhole bootstrap of Owen 2007, which for `both`
    errs on the wide side).
    """
    matrix = np.asarray(right, np.float32)
    n, m = matrix.shape
    rng = np.random.default_rng(0)
    trials = rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float32)
    images = rng.multinomial(m, np.full(m, 1 / m), resamples).astype(np.float32)
    by_trials = trials @ matrix
    value = float(matrix.mean(dtype=np.float64))
    faults = by_trials.sum(axis=1, dtype=np.float64) / (n * m)
    pictures = images @ matrix.sum(axis=0) / (n * m)
    both = (by_trials * images).sum(axis=1, dtype=np.float64) / (n * m)
    ends = (percentiles(np.asarray(e, np.float64), confidence) for e in (faults, pictures, both))
    return Crossed(*(Estimate(value, *interval) for interval in ends))
