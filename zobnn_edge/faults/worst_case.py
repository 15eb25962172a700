"""The worst case beside the random one: a progressive search for the bits that do most harm.

After the bit-flip attack of Rakin, He and Fan (ICCV 2019), which ranks bits by gradients. Here every candidate is
tried: that needs no gradients, and finds bits whose harm is not differentiable, such as those of exponents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zobnn_edge import engine
from zobnn_edge.encoding import FloatArray
from zobnn_edge.faults.space import Addresses, FaultSpace


class Harm(NamedTuple):
    """How bad scores are; greater is worse. `loss` lies in [-1, 1]: see `Judge`."""

    loss: float
    wrong: int


@dataclass(frozen=True)
class Judge:
    """Judges scores (N, outputs) against labels (N,).

    The loss is the mean of `tanh(m / spread)`, m the greatest score of another class less that of the right one, spread
    the standard deviation of the fault-free scores. It is bounded, so that one image gone to infinity does not count
    for more than one image; scores that hold NaN count 1.
    """

    labels: NDArray[np.int64]
    spread: float

    @staticmethod
    def of(golden: FloatArray, labels: NDArray[np.int64]) -> Judge:
        """The judge that measures by fault-free scores."""
        return Judge(np.asarray(labels, np.int64), max(float(np.std(golden, dtype=np.float64)), 1e-30))

    def __call__(self, scores: FloatArray) -> Harm:
        """How bad these scores are."""
        x = scores.astype(np.float64)
        rows = np.arange(len(x))
        broken = np.isnan(x).any(axis=1)
        x = np.nan_to_num(x, nan=0.0, posinf=1e300, neginf=-1e300)
        right = x[rows, self.labels]
        x[rows, self.labels] = -np.inf
        other = x.max(axis=1)
        with np.errstate(over="ignore"):
            loss = np.where(broken, 1.0, np.tanh((other - right) / self.spread))
        return Harm(float(loss.mean()), int((broken | (other > right)).sum()))


class Step(NamedTuple):
    """One more bit inverted: its address, and the harm of all so far."""

    address: int
    harm: Harm


def search(
    space: FaultSpace,
    harm_of: Callable[[Addresses], Harm],
    flips: int,
    candidates: int,
    seed: int = 0,
    shortlist: int = 200,
) -> Iterator[Step]:
    """Invert up to `flips` bits one after the other, each time the one that is worst together with those before.

    The first step tries `candidates` bits of the space, drawn at random (all of it, if it has no more); later ones the
    `shortlist` of these that were worst. `harm_of` runs the network with some addresses inverted.
    """
    n = min(candidates, space.size)
    drawn = space.addresses(engine.random_order(0, n, space.size, seed))
    chosen: list[int] = []
    for _ in range(min(flips, n)):
        harms = [harm_of(np.array([*chosen, address])) for address in drawn.tolist()]
        order = sorted(range(len(harms)), key=lambda i: (harms[i], -int(drawn[i])), reverse=True)
        chosen.append(int(drawn[order[0]]))
        yield Step(chosen[-1], harms[order[0]])
        drawn = drawn[order[1 : shortlist + 1]]
        if not len(drawn):
            return
