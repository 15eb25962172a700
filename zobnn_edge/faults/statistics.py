"""Estimates with intervals. Every function returns (estimate, low, high) at the given confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Estimate = tuple[float, float, float]


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A proportion with its Wilson score interval (Wilson 1927); with no trials, (nan, 0, 1)."""
    if n == 0:
        return (float("nan"), 0.0, 1.0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return (successes / n, float(interval.low), float(interval.high))


def mean(samples: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """A mean with its bootstrap percentile interval (trials are the unit; 9,999 resamples, fixed seed).

    Fault outcomes are bimodal, so that no normal approximation is made. Samples that are all equal, or a single one,
    give an interval of no width: it then says nothing about the tail.
    """
    x = np.asarray(samples, np.float64)
    centre = float(x.mean())
    if len(x) < 2 or np.ptp(x) == 0:
        return (centre, centre, centre)
    rng = np.random.default_rng(0)
    result = stats.bootstrap((x,), np.mean, confidence_level=confidence, method="percentile", random_state=rng)
    return (centre, float(result.confidence_interval.low), float(result.confidence_interval.high))
