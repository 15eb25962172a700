"""Activations of two or four levels as sums of binary ones, so that convolutions of them count bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from converters.keras_functions import Steps

TOLERANCE = 1e-6
"""How far levels and edges may be from the ones they are taken for: a few roundings of float32."""

TWO_BIT = Steps((-1.0, -1 / 3, 1 / 3, 1.0), (-2 / 3, 0.0, 2 / 3))
"""FracBNN's 2-bit activation."""


@dataclass(frozen=True)
class Planes:
    """A real tensor as `unit * (sum of count * plane) + offset`; `terms` are the counts and the binary tensors."""

    unit: float
    terms: tuple[tuple[int, str], ...]
    offset: float = 0.0

    def pad_value(self, outside: float) -> Literal[0, 1] | None:
        """What convolutions of the planes must read outside the input for it to stand for `outside`; None: nothing.

        >>> Planes(-1 / 6, ((1, "a"), (1, "b"), (1, "c")), 1 / 2).pad_value(0.0)
        1
        """
        ones = self.unit * sum(count for count, _ in self.terms) + self.offset
        if abs(outside - self.offset) < TOLERANCE:
            return 0
        return 1 if abs(outside - ones) < TOLERANCE else None


def why_not(steps: Steps) -> str | None:
    """Why an activation of steps cannot be made of planes, with the way out; None when it can."""
    levels = np.array(steps.levels)
    if len(levels) == 3:
        return "is ternary; use ste_sign (1 bit) or DoReFa (2 bits)"
    if len(levels) not in (2, 4):
        return f"has {len(levels)} levels; use two (1 bit) or four (2 bits)"
    if np.ptp(np.diff(levels)) > TOLERANCE * np.ptp(levels):
        return "has levels of unequal distances; use equal ones"
    if abs(levels[0]) > TOLERANCE and abs(levels[0] + levels[-1]) > TOLERANCE * np.ptp(levels):
        return f"has levels from {levels[0]:g} to {levels[-1]:g}; they must begin at 0 or be symmetric about it"
    return None


def is_two_bit(steps: Steps) -> bool:
    """True for FracBNN's levels and edges, however they were rounded."""
    values = (*steps.levels, *steps.edges)
    return len(values) == 7 and np.allclose(values, (*TWO_BIT.levels, *TWO_BIT.edges), rtol=0, atol=TOLERANCE)


def from_zero(steps: Steps) -> bool:
    """True when the lowest level is 0, which "same" padding reads."""
    return abs(steps.levels[0]) <= TOLERANCE
