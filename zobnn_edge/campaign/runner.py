"""Running a campaign on a target: golden run, trials, control trials."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from zobnn_edge import __version__
from zobnn_edge.campaign.journal import Journal, Row, header_value
from zobnn_edge.campaign.outcome import Outcome, classify, top1
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import TargetError
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Target


@dataclass(frozen=True)
class Campaign:
    """What is to be tried: at each fault rate, `trials` trials; `seed` fixes every fault set."""

    rates: tuple[float, ...]
    trials: int
    seed: int = 0

    def plan(self) -> Iterator[tuple[int, float, int]]:
        """(number, rate, seed of the fault set) of every trial. The seed is `seed * 2^32 + number`, modulo 2^63."""
        for number in range(len(self.rates) * self.trials):
            yield number, self.rates[number // self.trials], ((self.seed << 32) + number) % (1 << 63)

    def header(self, model: Model, inputs: InputArray, target: str) -> dict[str, str]:
        """What a journal of this campaign records about itself."""
        return {
            "tool": f"zobnn-edge {__version__}",
            "network": model.network.name,
            "model": hashlib.sha256(model.to_bytes()).hexdigest(),
            "inputs": hashlib.sha256(np.ascontiguousarray(inputs).tobytes()).hexdigest(),
            "target": target,
            "rates": header_value(self.rates),
            "trials": header_value(self.trials),
            "seed": header_value(self.seed),
        }


def run(
    campaign: Campaign,
    target: Target,
    inputs: InputArray,
    labels: InputArray,
    journal: Journal,
    progress: Callable[[int], None] = lambda done: None,
) -> FloatArray:
    """Run every trial that the journal lacks; `progress` is told how many are done. Returns the golden scores.

    The target must hold the model already. After the last trial the fault-free run is repeated: if its scores differ,
    something but the faults has changed them, and TargetError is raised.
    """
    target.restore()
    target.put_inputs(inputs)
    golden = target.run().scores
    done = journal.done()
    for number, rate, seed in campaign.plan():
        if number not in done:
            journal.append(_trial(target, golden, labels, number, rate, seed))
        progress(number + 1)
    if classify(golden, target.run().scores) is not Outcome.MASKED:
        raise TargetError(f"{journal.path}: the fault-free control run gave other scores; the campaign is invalid")
    return golden


def _trial(target: Target, golden: FloatArray, labels: InputArray, number: int, rate: float, seed: int) -> Row:
    flips = target.inject(rate, seed)
    try:
        result = target.run()
    finally:
        target.restore()
    correct = int((top1(result.scores) == labels).sum())
    outcome = classify(golden, result.scores)
    return Row(number, rate, seed, flips, outcome, correct, len(labels), result.instructions)
