"""Integer arithmetic of 8-bit networks, as TensorFlow Lite's reference kernels and gemmlowp do it (docs/spec.md).

Arrays are int64 that hold 32-bit numbers: sums wrap around, as the engine's do, so that both agree whatever flipped
parameters hold. A multiplier is a pair (fraction of 2^31, power of 2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)
SOFTMAX_BITS = 5
"""Integer bits of the differences that an int8 softmax takes the exponential of."""


def multiplier(real: float) -> tuple[int, int]:
    """The pair for a factor, TFLite's QuantizeMultiplier: `real` is about `fraction * 2^(shift - 31)`."""
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    fraction = math.floor(mantissa * (1 << 31) + 0.5)
    if fraction == 1 << 31:
        fraction, shift = fraction // 2, shift + 1
    if shift < -31:
        return 0, 0
    return (INT32_MAX, 30) if shift > 30 else (fraction, shift)


def wrap(x: Integers) -> Integers:
    """Modulo 2^32, as a signed number."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def high_mul(a: Integers, b: Integers | int) -> Integers:
    """The product in fractions of 2^31, rounded to nearest (gemmlowp's SaturatingRoundingDoublingHighMul)."""
    a, b = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(b, np.int64))
    ab = a * b
    nudged = ab + np.where(ab >= 0, 1 << 30, 1 - (1 << 30))
    result = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    return np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, result)


def divide_by_power(x: Integers, exponent: Integers | int) -> Integers:
    """`x / 2^exponent` rounded to nearest, ties away from zero (gemmlowp's RoundingDivideByPOT); exponent 0 to 31."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


def scaled(x: Integers, pairs: Integers) -> Integers:
    """x times the factor of pairs (..., 2); shifts beyond -31 to 30 count as those."""
    fraction, shift = pairs[..., 0], np.clip(pairs[..., 1], -31, 30)
    left = wrap(x << np.maximum(shift, 0))
    return divide_by_power(high_mul(left, fraction), np.maximum(-shift, 0))


def mean(total: Integers, count: Integers) -> Integers:
    """`total / count` rounded to nearest, ties away from zero."""
    size = (np.abs(total) + count // 2) // count
    return np.where(total > 0, size, -size)


def _saturated_shift(x: Integers, by: int) -> Integers:
    return np.clip(x << by, INT32_MIN, INT32_MAX)


_EXP_STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-1/4), exp(-1/2), exp(-1), ... exp(-16), in fractions of 2^31."""


def exp_negative(a: Integers) -> Integers:
    """exp of numbers <= 0 in units of 2^-26, in fractions of 2^31 (gemmlowp's exp_on_negative_values)."""
    quarter = 1 << 24
    rest = (a & (quarter - 1)) - quarter
    x = wrap(_saturated_shift(rest, SOFTMAX_BITS) + (1 << 28))
    x2 = high_mul(x, x)
    x3, x4 = high_mul(x2, x), high_mul(x2, x2)
    series = divide_by_power(wrap(high_mul(wrap(divide_by_power(x4, 2) + x3), 715827883) + x2), 1)
    result = wrap(1895147668 + high_mul(wrap(x + series), 1895147668))
    remainder = wrap(rest - a)
    for i, step in enumerate(_EXP_STEPS):
        result = np.where(remainder & (quarter << i), high_mul(result, step), result)
    return np.where(a == 0, INT32_MAX, result)


def _reciprocal(x: Integers) -> tuple[Integers, Integers]:
    """1 / x for sums of exponentials in units of 2^-19: (fraction of 2^31, bits of x above the unit)."""
    headroom = np.minimum(32 - np.frompyfunc(int.bit_length, 1, 1)(x & 0xFFFFFFFF).astype(np.int64), 31)
    a = wrap((x << headroom) - (1 << 31))
    total = a + INT32_MAX
    half = np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))
    y = wrap(1515870810 + high_mul(half, -1010580540))
    for _ in range(3):
        rest = wrap((1 << 29) - high_mul(half, y))
        y = wrap(y + _saturated_shift(high_mul(y, rest), 2))
    return _saturated_shift(y, 1), 12 - headroom


def softmax(q: Integers, pair: Integers) -> Integers:
    """Int8 softmax over the last axis, -128 to 127 for 0 to 255/256 (TFLite's reference_ops::Softmax)."""
    shift = int(np.clip(pair[1], 0, 30))
    least = -(((1 << SOFTMAX_BITS) - 1) << (31 - SOFTMAX_BITS) >> shift)
    difference = q - q.max(axis=-1, keepdims=True)
    counts = difference >= least
    e = exp_negative(high_mul(wrap(difference << shift), pair[0]))
    total = wrap(np.where(counts, divide_by_power(e, 12), 0).sum(axis=-1, keepdims=True))
    fraction, over = _reciprocal(total)
    exponent = np.clip(over + 31 - 8, 0, 31)
    scores = divide_by_power(high_mul(fraction, e), exponent) - 128
    return np.where(counts, np.clip(scores, -128, 127), -128)
