"""Encodings: what a code stands for, how codes are packed, and that no flip leaves the range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zobnn_edge.encoding import Binary, Float32, Uniform, pack, stored_bits, unpack

BITS = st.integers(2, 16)
VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50).map(lambda v: np.array(v, np.float32))


def codes_of(bits: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, n, dtype=np.uint32)


@given(bits=BITS, n=st.integers(1, 70), seed=st.integers(0, 1000))
def test_packing_is_dense_and_reversible(bits: int, n: int, seed: int) -> None:
    encoding, codes = Uniform(bits, 1.0, 0), codes_of(bits, n, seed)
    data = pack(codes, encoding)
    assert len(data) == -(-n * bits // 8)
    assert stored_bits(encoding, n) == n * bits
    np.testing.assert_array_equal(unpack(data, encoding, n), codes)
    whole = int.from_bytes(data, "little")
    assert [whole >> (i * bits) & ((1 << bits) - 1) for i in range(n)] == codes.tolist()


@given(row=st.sampled_from([1, 3, 31, 32, 33, 64, 65]), rows=st.integers(1, 5), seed=st.integers(0, 1000))
def test_rows_begin_new_words(row: int, rows: int, seed: int) -> None:
    encoding, bits = Binary(row=row), codes_of(1, row * rows, seed)
    data = pack(bits, encoding)
    words = -(-row // 32)
    assert len(data) * 8 == stored_bits(encoding, row * rows) == rows * words * 32
    np.testing.assert_array_equal(unpack(data, encoding, row * rows), bits)
    for r in range(rows):
        value = int.from_bytes(data[4 * words * r : 4 * words * (r + 1)], "little")
        assert value == sum(int(b) << i for i, b in enumerate(bits[row * r : row * (r + 1)]))


def test_incomplete_rows_and_short_data_are_refused() -> None:
    with pytest.raises(ValueError, match="whole rows"):
        pack(codes_of(1, 5), Binary(row=3))
    with pytest.raises(ValueError, match="need 2 bytes, not 1"):
        unpack(b"\0", Uniform(12, 1.0, 0), 1)


@given(values=VALUES, bits=BITS)
def test_min_max_codes_are_within_half_a_step(values: np.ndarray, bits: int) -> None:
    encoding = Uniform.of_range(values.min(), values.max(), bits)
    decoded = encoding.decode(encoding.encode(values))
    # Half a step for the code, half for a zero point that is a whole number, and float32's own rounding.
    slack = 2e-7 * np.abs(values).max()
    assert np.abs(decoded.astype(np.float64) - values).max() <= encoding.scale * 1.0 + slack


@given(
    bits=BITS,
    scale=st.floats(2.0**-60, 2.0**60, width=32),
    zero=st.integers(-(1 << 23), 1 << 23),
    flip=st.integers(0, 15),
)
def test_no_flip_leaves_the_range(bits: int, scale: float, zero: int, flip: int) -> None:
    encoding = Uniform(bits, scale, zero)
    low, high = encoding.range
    codes = np.array([0, 1, encoding.levels - 1], np.uint32) ^ np.uint32(1 << (flip % bits))
    decoded = encoding.decode(codes).astype(np.float64)
    assert np.isfinite(decoded).all()
    tolerance = 1e-6 * max(abs(low), abs(high))
    assert ((decoded >= low - tolerance) & (decoded <= high + tolerance)).all()


@given(bits=BITS, seed=st.integers(0, 1000))
def test_decoded_values_encode_to_themselves(bits: int, seed: int) -> None:
    encoding = Uniform.of_range(-0.7, 3.1, bits)
    codes = codes_of(bits, 40, seed)
    np.testing.assert_array_equal(encoding.encode(encoding.decode(codes)), codes)


def test_values_outside_take_the_nearest_end() -> None:
    encoding = Uniform(4, 0.5, 8)
    assert encoding.range == (-4.0, 3.5)
    assert encoding.decode(encoding.encode(np.array([-1e9, 1e9, 0.2], np.float32))).tolist() == [-4.0, 3.5, 0.0]


@given(value=st.floats(-(2.0**100), 2.0**100, width=32), bits=BITS)
def test_a_range_of_no_width_keeps_its_value(value: float, bits: int) -> None:
    encoding = Uniform.of_range(value, value, bits)
    assert encoding.decode(encoding.encode(np.float32([value])))[0] == pytest.approx(value, rel=1e-6, abs=1e-30)


def test_float32_keeps_every_bit_pattern() -> None:
    patterns = np.array([0, 0x80000000, 0x7F800000, 0xFFC12345, 0x00000001, 0x3F800000], np.uint32)
    assert Float32().encode(Float32().decode(patterns)).tolist() == patterns.tolist()


def test_binary_convention_is_that_of_lce() -> None:
    assert Binary().encode(np.array([1.0, -1.0, 0.0, -0.5])).tolist() == [0, 1, 0, 1]
    assert Binary().decode(np.array([0, 1], np.uint32)).tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1.0, 0), "2 to 16 bits"),
        ((17, 1.0, 0), "2 to 16 bits"),
        ((8, 0.0, 0), "positive scale"),
        ((8, float("nan"), 0), "positive scale"),
        ((8, 0.1, 0), "not a float32"),
        ((8, 1.0, 1 << 24), "zero point"),
    ],
)
def test_impossible_codes_are_refused(arguments: tuple[int, float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Uniform(*arguments)


def test_impossible_ranges_are_refused() -> None:
    for low, high in ((1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="no range"):
            Uniform.of_range(low, high, 8)
