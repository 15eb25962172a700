"""Fault models: what happens to the stored bits in one trial (docs/spec.md, "Faults").

A fault set is data: a model, an amount, a seed. What it expands to, bit addresses to be inverted, follows from that
data, the fault space and the stored bits alone, and is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zobnn_edge import _engine, engine
from zobnn_edge.errors import InputError
from zobnn_edge.faults.space import Addresses, FaultSpace

_BURST = 2
"""The last counter word of the words that decide the inner bits of bursts."""


@dataclass(frozen=True)
class FaultSet:
    """One fault set, as data.

    `amount` is a probability (models rate, stuck0, stuck1) or a number of bits (count, adjacent, burst; 1 for single).
    The models that hit one place take element `index` of the random order of places that `seed` fixes, so that trials
    0, 1, 2 ... of one seed never hit the same place twice and end up having hit every place once.
    """

    model: str
    amount: float
    seed: int
    index: int = 0

    def addresses(self, space: FaultSpace) -> Addresses:
        """The bit addresses to invert, ascending. Raises InputError where the space has no room for amount or index."""
        return np.sort(model(self.model).expand(space, self))


@dataclass(frozen=True)
class FaultModel:
    """A fault model: what its amount is, and how it expands; `one_place` if it hits one place a trial."""

    amount: Literal["rate", "bits"]
    one_place: bool
    expand: Callable[[FaultSpace, FaultSet], Addresses]

    def places(self, space: FaultSpace, amount: float) -> int | None:
        """How many different trials there are, of models that hit one place; None: any number."""
        return _starts(space, int(amount)).size if self.one_place else None


def model(name: str) -> FaultModel:
    """The fault model of a name; raises InputError when there is none."""
    if name not in MODELS:
        raise InputError(f"there is no fault model {name}; use {', '.join(MODELS)}")
    return MODELS[name]


def _starts(space: FaultSpace, length: int) -> FaultSpace:
    return space if length == 1 else space.starts(length)


def _rate(space: FaultSpace, faults: FaultSet) -> Addresses:
    flips = engine.fault_set(len(space.image.data), space.ranges, faults.amount, faults.seed)
    return flips if space.regions is not None else flips[space.contains(flips)]


def _count(space: FaultSpace, faults: FaultSet) -> Addresses:
    return space.addresses(engine.random_order(0, int(faults.amount), space.size, faults.seed))


def _place(space: FaultSpace, faults: FaultSet) -> int:
    """The bit address at which a model that hits one place begins."""
    starts = _starts(space, int(faults.amount))
    return int(starts.addresses(engine.random_order(faults.index, 1, starts.size, faults.seed))[0])


def _adjacent(space: FaultSpace, faults: FaultSet) -> Addresses:
    return _place(space, faults) + np.arange(int(faults.amount), dtype=np.int64)


def _burst(space: FaultSpace, faults: FaultSet) -> Addresses:
    first, length = _place(space, faults), int(faults.amount)
    key = (faults.seed & 0xFFFFFFFF, faults.seed >> 32)
    words = [w for b in range(-(-length // 128)) for w in _engine.philox((first, b, 0, _BURST), key)]
    hit = np.unpackbits(np.array(words, "<u4").view(np.uint8), bitorder="little")[:length].astype(bool)
    hit[[0, -1]] = True
    addresses: Addresses = first + np.flatnonzero(hit)
    return addresses


def _stuck(space: FaultSpace, faults: FaultSet, value: int) -> Addresses:
    """Stuck bits that hold the other value: parameters are only read, so the others make no difference."""
    if space.memory != "parameters":
        raise InputError(f"stuck cells of {space.memory} are not modelled: what they hold changes; use rate")
    cells = _rate(space, faults)
    held = np.frombuffer(space.image.data, np.uint8)[cells // 8] >> (cells % 8).astype(np.uint8) & 1
    stuck: Addresses = cells[held != value]
    return stuck


MODELS: dict[str, FaultModel] = {
    "rate": FaultModel("rate", False, _rate),
    "single": FaultModel("bits", True, _adjacent),
    "count": FaultModel("bits", False, _count),
    "adjacent": FaultModel("bits", True, _adjacent),
    "burst": FaultModel("bits", True, _burst),
    "stuck0": FaultModel("rate", False, lambda space, faults: _stuck(space, faults, 0)),
    "stuck1": FaultModel("rate", False, lambda space, faults: _stuck(space, faults, 1)),
}
"""Fault models by name: independent flips at a rate, one bit, an exact number of bits without replacement, neighbours,
bursts, and cells stuck at 0 or 1 at a rate."""
