"""The fault generator: published vectors, the rate it promises, independence of ranges."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zobnn_edge import _engine
from zobnn_edge.engine import fault_set, inject, rate_q64
from zobnn_edge.errors import InputError


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123 1.14
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: str) -> None:
    assert " ".join(f"{w:08x}" for w in _engine.philox(counter, key)) == words


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.1, 0.5, 0.999])
def test_flips_come_at_the_rate(rate: float) -> None:
    """Within five standard deviations of the binomial mean, over 2^22 bits, and unrelated from bit to bit."""
    n = 1 << 22
    flips = fault_set(n // 8, [(0, n)], rate, seed=11)
    assert abs(len(flips) - n * rate) < 5 * np.sqrt(n * rate * (1 - rate))
    lanes = np.bincount(flips % 32, minlength=32)
    assert np.abs(lanes - len(flips) / 32).max() < 6 * np.sqrt(max(1, len(flips) / 32))


@given(first=st.integers(0, 200), bits=st.integers(0, 300), seed=st.integers(0, 2**64 - 1))
def test_a_range_flips_what_the_whole_would_flip_there(first: int, bits: int, seed: int) -> None:
    whole = fault_set(64, [(0, 512)], 0.2, seed)
    part = fault_set(64, [(first, bits)], 0.2, seed)
    assert part.tolist() == [a for a in whole.tolist() if first <= a < first + bits]


def test_seeds_differ_and_repeat() -> None:
    sets = [tuple(fault_set(1000, [(0, 8000)], 0.01, seed)) for seed in range(20)]
    assert len(set(sets)) == 20
    assert sets[3] == tuple(fault_set(1000, [(0, 8000)], 0.01, 3))


def test_flips_are_inversions_and_are_counted() -> None:
    data = bytearray(np.random.default_rng(0).bytes(500))
    before = bytes(data)
    count = inject(data, [(8, 3000)], 0.05, 1)
    assert count == len(fault_set(500, [(8, 3000)], 0.05, 1))
    assert bytes(data) != before
    assert inject(data, [(8, 3000)], 0.05, 1) == count
    assert bytes(data) == before


def test_bad_rates_seeds_and_ranges_are_refused() -> None:
    for rate in (-1e-9, 1.0, float("nan"), 7.0):
        with pytest.raises(InputError, match="fault rate"):
            rate_q64(rate)
    with pytest.raises(InputError, match="seed"):
        inject(bytearray(4), [(0, 32)], 0.1, -1)
    with pytest.raises(ValueError, match="runs past the end"):
        inject(bytearray(4), [(0, 33)], 0.1, 0)
    assert (rate_q64(0.0), rate_q64(0.5), rate_q64(2.0**-64)) == (0, 1 << 63, 1)


@given(data=st.binary(max_size=300))
def test_crc_is_that_of_zlib(data: bytes) -> None:
    assert _engine.crc32(np.frombuffer(data, np.uint8)) == zlib.crc32(data)
