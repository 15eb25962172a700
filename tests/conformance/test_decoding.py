"""Values of uniform codes on every core, bit for bit: each has kernels of its own for some widths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.conformance.test_binary_conv import ONE_A_CORE
from tests.networks import Author
from zobnn_edge import reference
from zobnn_edge.encoding import Uniform
from zobnn_edge.engine import fault_set
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, Concat
from zobnn_edge.targets import open_target

_FULL = 2.0 - 2.0**-23


def _code(bits: int, scale: float, zero_point: int) -> Uniform:
    return Uniform(bits, float(np.float32(scale)), zero_point)


CODES = (
    *(_code(bits, 2.0**-5 * 1.2345678, 1 << (bits - 1)) for bits in (2, 4, 5, 6, 7, 8, 12, 15, 16)),
    _code(8, 2.0**-20 * _FULL, 100),  # a mantissa of ones: rounding carries into the exponent
    _code(12, 2.0**30 * _FULL, -3),
    _code(8, 2.0**-3 * (1 + 2.0**-23), 0),  # products that lie half-way between floats
    _code(12, 2.0**-3 * (1 + 2.0**-22), 2000),
    _code(16, 2.0**9 * (1 + 2.0**-21), -8_388_000),
    _code(8, 1.5, 8_388_608),
    _code(4, 1.0, -(1 << 23)),
    _code(8, 2.0**-126 * 1.1, 128),  # around the smallest normal float, and below
    _code(12, 2.0**-149 * 5, 7),
    _code(8, 2.0**121 * 1.7, 3),  # beyond the largest
    _code(16, 2.0**112 * 1.9, 30_000),
)


def values_of_codes(channels: int) -> Network:
    """The values of parameters, one of each encoding, one after the other."""
    b = Builder("values", (1, 1, channels))
    found = b.input
    for i, code in enumerate(CODES):
        low, high = code.range
        middle = np.full(channels, np.clip(0.0, low, high))
        bias = b.parameter(f"bias{i}", f"bias{i}", "bias", middle, code)
        values = b.add(Affine(f"affine{i}", b.input, f"values{i}", None, bias))
        found = values if i == 0 else b.add(Concat(f"concat{i}", found, f"all{i}", values))
    return b.network(found)


def products_with_codes(channels: int) -> Network:
    """Sums of few bits, which are often 0, times the values of parameters, one of each encoding."""
    a = Author((1, 1, 4))
    stem, found = a.x, ""
    for i, code in enumerate(CODES):
        a.x = stem
        if i % 2:
            a.gated_conv(channels, 1, padding="valid", encoding=code)
        else:
            a.sign().conv(channels, 1)
        a.affine(code)
        if found:
            a.x, found = found, a.x
            a.concat(found)
        found = a.x
    return a.network()


def filters_of_codes(channels: int) -> Network:
    """Sums of the inputs times weights, one layer of each encoding: filters begin at any bit."""
    a = Author((1, 1, channels))
    stem, found = a.x, ""
    for code in CODES:
        a.x = stem
        a.dense(9, weight=code)
        if found:
            a.x, found = found, a.x
            a.concat(found)
        found = a.x
    return a.network()


@pytest.mark.parametrize("core", ONE_A_CORE)
@pytest.mark.parametrize("channels", [24, 13])
@pytest.mark.parametrize("made", [values_of_codes, products_with_codes, filters_of_codes])
def test_every_core(made: Callable[[int], Network], core: str, channels: int) -> None:
    """Random codes of every encoding; so many that rows begin and end within a kernel's turn, or do not."""
    net = made(channels)
    model = Model.of(net)
    pixels = np.random.default_rng(channels).normal(size=(1, *net.input_shape)).astype(np.float32)
    with open_target(f"qemu:{ONE_A_CORE[core]}", model) as target:
        target.put_inputs(pixels)
        for seed in range(3):
            target.restore()
            target.inject(0.5, seed)
            flips = fault_set(len(model.image.data), model.image.ranges(), 0.5, seed)
            expected = reference.run(net, pixels, model.image.flipped(flips.tolist()))
            np.testing.assert_array_equal(target.run().scores.view("u4"), expected.view("u4"))
