"""What became of a trial: one outcome, the first of the list that applies."""

from __future__ import annotations

from enum import Enum

import numpy as np

from zobnn_edge.encoding import FloatArray


class Outcome(str, Enum):
    """Outcomes in order of precedence; they exclude each other."""

    HARNESS_ERROR = "harness_error"
    """Link or host failed: says nothing about the network and is never counted."""
    HANG = "hang"
    CRASH = "crash"
    DETECTED = "detected"
    SDC_CRITICAL = "sdc_critical"
    """Silent data corruption: the top-1 class of at least one input differs from the fault-free run."""
    SDC_BENIGN = "sdc_benign"
    """Scores differ, every top-1 class is the same."""
    MASKED = "masked"
    """All scores are bit-identical to the fault-free run's."""


def classify(golden: FloatArray, scores: FloatArray) -> Outcome:
    """The outcome of a trial that returned scores (N, outputs), against those of the golden run. NaN is never right."""
    if np.array_equal(golden.view(np.uint32), scores.view(np.uint32)):
        return Outcome.MASKED
    same = top1(golden) == top1(scores)
    return Outcome.SDC_BENIGN if same.all() else Outcome.SDC_CRITICAL


def deviation(golden: FloatArray, scores: FloatArray) -> float:
    """The largest difference of a score from the golden run's; infinite where one is NaN or infinite instead."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(scores.astype(np.float64) - golden)
    same = scores.view(np.uint32) == golden.view(np.uint32)
    return float(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart)).max(initial=0.0))


def top1(scores: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The class (N,) of the highest score; -1, which is no class, where any score is NaN."""
    best = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
    return best.astype(np.int64)
