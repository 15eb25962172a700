"""Which range the codes of a parameter get: how many values it reaches, against what a flipped bit does within it.

A bit j of a code of scale s that is read wrongly moves the value by `s * 2^j`. With every bit wrong with probability p
the expected squared error is `p * s^2 * (4^bits - 1) / 3`, about `p * range^2 / 3`: it grows with the range and hardly
with the bits, while rounding gets finer with the bits and coarser with the range (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from zobnn_edge.encoding import FloatArray, Uniform
from zobnn_edge.policy import Coding

NARROW = np.linspace(1.0, 0.7, 16).tolist()
"""How much narrower an end of a range of least error may be than the values reach."""
NARROWER = NARROW + np.geomspace(0.65, 0.05, 12).tolist()
"""The same of a range of least damage."""


def choose(values: FloatArray, coding: Coding) -> Uniform:
    """The uniform code that a coding gives to some values."""
    return CHOICES[coding.range](values, coding)


def squared_error(values: FloatArray, code: Uniform) -> float:
    """Sum of the squares by which the values' codes are off."""
    coded = code.decode(code.encode(values)).astype(np.float64)
    return float(np.square(coded - values).sum())


def damage(values: FloatArray, code: Uniform, coding: Coding) -> float:
    """Expected sum of the squares by which decoded values are off where stored bits flip at the design fault rate."""
    flips = float((coding.wrong_bits() * 4.0 ** np.arange(code.bits)).sum()) * code.scale**2
    return squared_error(values, code) + values.size * flips


def _minmax(values: FloatArray, coding: Coding) -> Uniform:
    return _code(float(values.min()), float(values.max()), coding)


def _symmetric(values: FloatArray, coding: Coding) -> Uniform:
    reach = float(np.abs(values).max())
    return _code(-reach, reach, coding)


def _percentile(values: FloatArray, coding: Coding) -> Uniform:
    outside = (100 - coding.percentile) / 2
    low, high = np.percentile(values, [outside, 100 - outside])
    return _code(float(low), float(high), coding)


def _power(values: FloatArray, coding: Coding) -> Uniform:
    """The least power of two whose steps reach all values."""
    code = _minmax(values, coding)
    scale = float(2.0 ** np.ceil(np.log2(code.scale)))
    if coding.codes == "symmetric":
        return Uniform(code.bits, scale, code.zero_point)
    return Uniform(code.bits, scale, int(np.rint(-float(values.min()) / scale)))


def _least_error(values: FloatArray, coding: Coding) -> Uniform:
    return min(_candidates(values, coding, NARROW), key=lambda code: squared_error(values, code))


def _least_damage(values: FloatArray, coding: Coding) -> Uniform:
    return min(_candidates(values, coding, NARROWER), key=lambda code: damage(values, code, coding))


CHOICES: dict[str, Callable[[FloatArray, Coding], Uniform]] = {
    "error": _least_error,
    "minmax": _minmax,
    "symmetric": _symmetric,
    "percentile": _percentile,
    "damage": _least_damage,
    "power": _power,
}


def _candidates(values: FloatArray, coding: Coding, shrinkages: list[float]) -> Iterator[Uniform]:
    """The code of all values, then those of narrower ranges; ends are never pulled past each other."""
    low, high = float(values.min()), float(values.max())
    yield _code(low, high, coding)
    if coding.codes == "symmetric":
        yield from (_code(low * s, high * s, coding) for s in shrinkages)
        return
    lows = [low * s for s in shrinkages if low * s <= high] if low < 0 else [low]
    highs = [high * s for s in shrinkages if high * s >= low] if high > 0 else [high]
    yield from (_code(a, b, coding) for a in lows for b in highs if a <= b)


def _code(low: float, high: float, coding: Coding) -> Uniform:
    if coding.codes == "affine":
        return Uniform.of_range(low, high, coding.bits)
    middle = 1 << (coding.bits - 1)
    reach = max(abs(low), abs(high), 1e-30)
    return Uniform(coding.bits, float(np.float32(reach / (middle - 1))), middle)
