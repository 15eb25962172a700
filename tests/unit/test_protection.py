"""Protection: codes come back; any single flipped bit is put right; what is noticed is as documented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zobnn_edge import protection
from zobnn_edge.encoding import (
    Clamped,
    Encoding,
    Float16,
    Float32,
    Guarded,
    Protected,
    Uniform,
    health,
    pack,
    read_values,
    stored_bits,
)
from zobnn_edge.protection import Hamming, Health, Secded, Voted

CODES = {
    "hamming": Protected(Uniform(8, 0.5, 100), Hamming()),
    "voted 4 of 4": Protected(Uniform(4, 0.5, 3), Voted(4)),
    "voted 3 of 6": Protected(Uniform(6, 0.5, 3), Voted(3)),
    "voted 16 of 16": Protected(Uniform(16, 0.5, 3), Voted(16)),
    "voted float32": Protected(Float32(), Voted(32)),
    "secded 5": Protected(Uniform(5, 0.5, 3), Secded()),
    "secded float32": Protected(Float32(), Secded()),
    "secded float16": Protected(Float16(), Secded()),
}
"""Every bit stored of these is protected, but the lower three of "voted 3 of 6"."""


def flipped(data: bytes, *bits: int) -> bytes:
    out = bytearray(data)
    for bit in bits:
        out[bit // 8] ^= 1 << (bit % 8)
    return bytes(out)


def values_of(encoding: Encoding, count: int, seed: int = 0) -> np.ndarray:
    low, high = (-2.0, 2.0) if not isinstance(encoding, Protected) or encoding.bits > 16 else (-60.0, 60.0)
    raw = np.random.default_rng(seed).uniform(low, high, count).astype(np.float32)
    return encoding.decode(encoding.encode(raw))


@pytest.mark.parametrize("name", CODES)
@given(count=st.integers(1, 40), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_what_is_stored_comes_back(name: str, count: int, seed: int) -> None:
    encoding, values = CODES[name], values_of(CODES[name], count, seed)
    data = pack(encoding.encode(values), encoding)
    assert len(data) == -(-stored_bits(encoding, count) // 8)
    assert read_values(data, encoding, count).tobytes() == values.tobytes()
    assert health(data, encoding, count) == Health()


@pytest.mark.parametrize("name", CODES)
def test_any_single_flip_is_put_right_and_counted(name: str) -> None:
    encoding, count = CODES[name], 11
    values = values_of(encoding, count)
    data = pack(encoding.encode(values), encoding)
    for bit in range(stored_bits(encoding, count)):
        hit = flipped(data, bit)
        if name == "voted 3 of 6" and bit % 12 < 3:
            assert health(hit, encoding, count) == Health()
            continue
        assert read_values(hit, encoding, count).tobytes() == values.tobytes(), bit
        assert health(hit, encoding, count) == Health(corrected=1)


def test_two_flips_of_a_secded_word_are_noticed_and_left() -> None:
    encoding = CODES["secded float32"]
    data = pack(encoding.encode(values_of(encoding, 2)), encoding)
    for first in range(72):
        for second in range(first):
            assert health(flipped(data, first, second), encoding, 2) == Health(lost=1)


def test_some_of_the_pairs_in_a_hamming_cell_is_noticed() -> None:
    encoding = CODES["hamming"]
    data = pack(np.array([0xA5], np.uint32), encoding)
    fates = [health(flipped(data, a, b), encoding, 1) for a in range(12) for b in range(a)]
    assert fates.count(Health(lost=1)) == 15
    assert fates.count(Health(corrected=1)) == 51


@pytest.mark.parametrize(("name", "rate"), [("hamming", 0.02), ("voted 4 of 4", 0.05), ("voted 3 of 6", 0.03)])
def test_wrong_bits_are_as_many_as_foretold(name: str, rate: float) -> None:
    encoding, count = CODES[name], 200_000
    assert isinstance(encoding, Protected)
    rng = np.random.default_rng(0)
    stored = (rng.random(stored_bits(encoding, count)) < rate).astype(np.uint8)
    read, _ = encoding.by.correct(stored, encoding.bits, count)
    assert read.mean(axis=0) == pytest.approx(encoding.by.wrong(encoding.bits, rate), rel=0.25)


@pytest.mark.parametrize("scales", ["ram", "tmr"])
def test_scales_in_memory_are_read_from_there(scales: str) -> None:
    encoding = Uniform(8, 0.25, 7, scales=scales)  # type: ignore[arg-type]
    values = encoding.decode(np.arange(5))
    data = pack(encoding.encode(values), encoding)
    assert stored_bits(encoding, 5) == 40 + {"ram": 64, "tmr": 192}[scales]
    assert read_values(data, encoding, 5).tobytes() == values.tobytes()
    hit = flipped(data, 31)  # the sign of the scale
    if scales == "ram":
        assert read_values(hit, encoding, 5).tolist() == (-values).tolist()
    else:
        assert read_values(hit, encoding, 5).tobytes() == values.tobytes()
        assert health(hit, encoding, 5) == Health(corrected=1)


def test_float16_is_read_as_the_standard_says() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint32)
    read, standard = Float16().decode(patterns), patterns.astype("<u2").view("<f2").astype(np.float32)
    np.testing.assert_array_equal(read, standard)
    finite = np.isfinite(read)
    assert read[finite].tobytes() == standard[finite].tobytes()
    assert Float16().decode(Float16().encode(np.array([1e9, -1e9, 1 / 3], np.float32))).tolist() == [
        65504.0,
        -65504.0,
        np.float32(np.float16(1 / 3)),
    ]


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), exponent=st.integers(1, 254))
def test_guarded_floats_stay_below_their_limit(words: list[int], exponent: int) -> None:
    read = Guarded(exponent).decode(np.array(words, np.uint32))
    assert np.isfinite(read).all()
    assert (np.abs(read.astype(np.float64)) < 2.0 ** (exponent - 126)).all()
    small = np.array([w for w in words if (w >> 23 & 255) <= exponent], np.uint32)
    assert Guarded(exponent).decode(small).tobytes() == small.tobytes()


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_clamped_floats_stay_within_their_range(words: list[int]) -> None:
    read = Clamped(-0.5, 3.0).decode(np.array(words, np.uint32))
    assert ((read >= -0.5) & (read <= 3.0)).all()
    assert Clamped(1.0, 3.0).decode(np.array([0x7FC00000], np.uint32)).tolist() == [1.0]
    assert Clamped(-0.5, 3.0).decode(np.array([0x7FC00000, 0x7F800000], np.uint32)).tolist() == [0.0, 3.0]


def test_guards_of_values_leave_them_as_they_are() -> None:
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    for encoding in (Guarded.of(values), Clamped.of(values)):
        assert read_values(pack(encoding.encode(values), encoding), encoding, 100).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Protected(Uniform(7, 1.0, 0), Hamming()), "codes of 8 bits, not 7"),
        (lambda: Protected(Uniform(4, 1.0, 0), Voted(5)), "5 top bits stored three times, of codes of 4 bits"),
        (lambda: protection.parse("parity"), "there is no protection 'parity'"),
        (lambda: Guarded(255), "largest exponent of 255"),
        (lambda: Clamped(1.0, 0.0), "no range"),
        (lambda: Clamped(0.0, float("inf")), "no finite float32"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
