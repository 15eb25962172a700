"""How many "times more robust", said in both ways it can be meant, with intervals.

The term is undefined where it is used; a figure without its definition says nothing (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.errors import InputError
from zobnn_edge.faults.statistics import Estimate, percentiles, resampled_means

Samples = NDArray[np.float64]
_RESAMPLES = 1999


@dataclass(frozen=True)
class Curve:
    """Accuracy against fault rate: without faults, and of every trial at each rate, in percent."""

    fault_free: float
    trials: Mapping[float, Samples]

    @property
    def rates(self) -> list[float]:
        """The fault rates, ascending."""
        return sorted(self.trials)

    def resampled(self, seed: int) -> Samples:
        """Mean accuracies (resamples + 1, rates): the first row of the trials themselves, the others of trials drawn
        anew, each rate by itself."""
        columns = []
        for i, rate in enumerate(self.rates):
            drawn = resampled_means(self.trials[rate], seed * 1000 + i, _RESAMPLES)
            columns.append(np.concatenate([[np.mean(self.trials[rate])], drawn]))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Ratio:
    """How many times more robust, with its interval.

    `bound` is "at least" or "at most" where one of the curves does not come down to the drop within the rates
    measured, so that only one end is known; else "".
    """

    ratio: Estimate
    bound: str = ""


def rate_ratio(hard: Curve, plain: Curve, drop: float, confidence: float = 0.95) -> Ratio:
    """By rate: how many times the fault rate that `plain` bears does `hard` bear, before the mean accuracy has fallen
    by `drop` points from its own fault-free value?

    Mean accuracy is interpolated linearly over the logarithm of the rate; beyond the rates measured nothing is assumed.
    """
    a, b = _rates_at(hard, drop, 1), _rates_at(plain, drop, 2)
    ratios = np.exp(a.log_rate - b.log_rate)
    bound = ""
    if a.above[0] and not b.above[0]:
        bound = "at least"
    elif b.above[0] and not a.above[0]:
        bound = "at most"
    elif a.above[0] and b.above[0]:
        raise InputError(f"neither network loses {drop:g} points at the rates measured; measure at higher rates")
    if b.below[0] and not bound:
        bound = "at least"
    return Ratio(Estimate(float(ratios[0]), *percentiles(ratios[1:], confidence)), bound)


def drop_ratio(hard: Curve, plain: Curve, rate: float, confidence: float = 0.95) -> Ratio:
    """By drop: at one fault rate, how many times fewer points of accuracy does `hard` lose than `plain`?

    Infinite where `hard` loses nothing. Raises InputError for a rate that was not measured for both, or where `plain`
    loses nothing.
    """
    for curve in (hard, plain):
        if rate not in curve.trials:
            raise InputError(f"a fault rate of {rate:g} was not measured for both networks")
    lost = []
    for seed, curve in ((1, hard), (2, plain)):
        lost.append(curve.fault_free - curve.resampled(seed)[:, curve.rates.index(rate)])
    if lost[1][0] <= 0:
        raise InputError(f"at a fault rate of {rate:g} the network compared with loses nothing; take a higher rate")
    ratios = np.full(len(lost[0]), np.inf)
    np.divide(np.maximum(lost[1], 0), lost[0], out=ratios, where=lost[0] > 0)
    return Ratio(Estimate(float(ratios[0]), *percentiles(ratios[1:], confidence)))


@dataclass(frozen=True)
class _Crossings:
    """Where resampled curves have lost `drop` points: ln(rate), limited to the rates measured, and which were."""

    log_rate: Samples
    below: NDArray[np.bool_]
    above: NDArray[np.bool_]


def _rates_at(curve: Curve, drop: float, seed: int) -> _Crossings:
    logs, means = np.log(curve.rates), curve.resampled(seed)
    lost = curve.fault_free - means >= drop
    rows = np.arange(len(means))
    first = np.argmax(lost, axis=1)
    above, below = ~lost.any(axis=1), lost[:, 0]
    left = np.maximum(first - 1, 0)
    high, low = means[rows, left], means[rows, first]
    part = np.divide(high - (curve.fault_free - drop), high - low, out=np.zeros(len(means)), where=high > low)
    at = logs[left] + part * (logs[first] - logs[left])
    return _Crossings(np.where(above, logs[-1], np.where(below, logs[0], at)), below, above)
