"""Integer arithmetic against exact fractions, and the pairs that stand for factors."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zobnn_edge import integers

INT32 = st.integers(integers.INT32_MIN, integers.INT32_MAX)


def one(x: int) -> np.ndarray:
    return np.array([x], np.int64)


def nearest(x: Fraction) -> int:
    """To the nearest whole number, ties away from zero."""
    size = math.floor(abs(x) + Fraction(1, 2))
    return size if x >= 0 else -size


@given(st.floats(1e-9, 1e9))
def test_a_multiplier_is_its_factor_to_thirty_bits(real: float) -> None:
    fraction, shift = integers.multiplier(real)
    assert 1 << 30 <= fraction <= integers.INT32_MAX
    assert abs(Fraction(fraction) * Fraction(2) ** (shift - 31) / Fraction(real) - 1) <= Fraction(1, 1 << 30)


def test_multipliers_at_the_ends() -> None:
    assert integers.multiplier(0.0) == (0, 0)
    assert integers.multiplier(1.0) == (1 << 30, 1)
    assert integers.multiplier(1 - 2**-40) == (1 << 30, 1), "a mantissa that rounds up to 1"
    assert integers.multiplier(2.0**-40) == (0, 0)
    assert integers.multiplier(2.0**40) == (integers.INT32_MAX, 30)


@given(INT32, INT32)
def test_products_are_rounded_to_nearest(a: int, b: int) -> None:
    expected = Fraction(a * b, 1 << 31)
    made = int(integers.high_mul(one(a), b)[0])
    if a == b == integers.INT32_MIN:
        assert made == integers.INT32_MAX
    else:
        assert abs(made - expected) <= Fraction(1, 2)


@given(INT32, st.integers(0, 31))
def test_division_by_a_power_rounds_ties_away_from_zero(x: int, exponent: int) -> None:
    assert int(integers.divide_by_power(one(x), exponent)[0]) == nearest(Fraction(x, 1 << exponent))


@given(st.integers(-(1 << 30), 1 << 30), st.floats(1e-4, 0.99))
def test_scaling_is_off_by_one_at_most(x: int, factor: float) -> None:
    made = int(integers.scaled(one(x), np.array(integers.multiplier(factor)))[0])
    assert abs(made - Fraction(x) * Fraction(factor)) <= 1


@given(st.integers(-10000, 10000), st.integers(1, 100))
def test_a_mean_rounds_ties_away_from_zero(total: int, count: int) -> None:
    assert int(integers.mean(one(total), one(count))[0]) == nearest(Fraction(total, count))


@pytest.mark.parametrize("x", [0.0, -1e-6, -0.1, -0.25, -1.0, -3.7, -10.0, -31.9])
def test_exponentials(x: float) -> None:
    made = int(integers.exp_negative(one(round(x * (1 << 26))))[0]) / (1 << 31)
    assert made == pytest.approx(math.exp(x), abs=1e-6)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=12), st.floats(0.01, 0.5))
def test_softmax_is_that_of_real_numbers_to_a_step(q: list[int], step: float) -> None:
    scores = integers.softmax(np.array(q), np.array(integers.multiplier(step * (1 << 26))))
    e = np.exp(step * (np.array(q, np.float64) - max(q)))
    assert np.abs(scores - np.clip(256 * e / e.sum() - 128, -128, 127)).max() <= 1
