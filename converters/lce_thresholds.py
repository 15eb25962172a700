"""Thresholds as LCE compares them: a binary convolution answers -1 where the number of differing bits exceeds one.

With K = taps of the kernel times channels, `dot = K - 2 * differing`; the engine asks for +1 iff `dot >= t` (a hardened
network) or iff `dot * scale + bias >= 0` (batch norm before a sign), each in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.encoding import FloatArray, Uniform


@dataclass(frozen=True)
class Folded:
    """What batch norm and sign become: a threshold a channel (int32), and which filters to negate."""

    thresholds: NDArray[np.int32]
    negated: NDArray[np.bool_]


def fold(scale: FloatArray, bias: FloatArray | None, taps: int, most: int) -> Folded:
    """Thresholds that decide as `dot * scale[c] + bias[c] >= 0` decides in float32, for every number of differing bits.

    taps: K; most: how many bits can differ, row padding of the weights included (in negated filters: K). Rounding
    keeps order and NaN counts as +1, so that the decision of a channel changes at most once, whatever its parameters.
    """
    dots = (taps - 2 * np.arange(most + 1)).astype(np.float32)
    thresholds = np.empty(scale.size, np.int32)
    negated = np.zeros(scale.size, np.bool_)
    with np.errstate(all="ignore"):
        for c in range(scale.size):
            y = dots * scale[c]
            plus = ~((y if bias is None else y + bias[c]) < 0)
            count = int(plus.sum())
            if plus[:count].all():
                thresholds[c] = count - 1
            else:
                # +1 for most + 1 - count differing bits or more: of the negated filter, K minus that or fewer.
                thresholds[c] = taps - (most + 1 - count)
                negated[c] = True
    return Folded(thresholds, negated)


def rounding(encoding: Uniform, taps: int, most: int) -> Literal["none", "ceil", "floor"] | None:
    """How to make an integer of `taps / 2 - t / 2`, in float32 at run time, that decides as `dot >= t` for every code.

    "none": truncate it; "ceil": round t / 2 up before; "floor": round the difference down before it is truncated.
    None: a code is left for which each of them decides wrongly (the difference was rounded over an integer).
    """
    codes = np.arange(encoding.levels, dtype=np.uint32)
    t = encoding.decode(codes)
    half = np.float32(encoding.scale / 2) * (codes.astype(np.int64) - encoding.zero_point).astype(np.float32)
    middle = np.float32(taps / 2)
    if not (2 * half == t).all() or not (np.abs(middle - half) < 2**31).all():
        return None
    wanted = np.clip(np.floor((taps - np.ceil(t.astype(np.float64))) / 2), -1, most)
    ways: dict[Literal["none", "ceil", "floor"], FloatArray] = {
        "none": np.trunc(middle - half),
        "ceil": np.trunc(middle - np.ceil(half)),
        "floor": np.floor(middle - half),
    }
    return next((way for way, limits in ways.items() if (np.clip(limits, -1, most) == wanted).all()), None)
