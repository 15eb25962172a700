"""The C engine and its NumPy twin give the same bits, fault-free and under faults, over every shape of operation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import NETWORKS, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.engine import Engine, fault_set
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network, Pixels
from zobnn_edge.operations import LowBit, Unpack
from zobnn_edge.policy import Policy
from zobnn_edge.tensor import Quantization

CHANNELS = st.sampled_from([1, 31, 32, 33, 64])
ENCODING = st.sampled_from([None, 2, 5, 8, 12, 16])
FAULT_RATES = (1e-4, 1e-3, 1e-2)


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def check(net: Network, n: int = 4, faults: int = 2) -> None:
    """Engine and reference agree on floats, on pixels, and on `faults` images with flipped bits."""
    model = Model.of(net)
    engine = Engine(model.plan)
    x = dyadic_inputs(net, n)
    pixels = np.random.default_rng(1).integers(0, 256, x.shape, np.uint8)
    assert_same_bits(engine.run(model.image.data, x), reference.run(net, x))
    assert_same_bits(engine.run(model.image.data, pixels), reference.run(net, pixels))
    for seed in range(faults):
        flips = fault_set(len(model.image.data), model.image.ranges(), FAULT_RATES[seed % 3], seed)
        image = model.image.flipped(flips.tolist())
        assert_same_bits(engine.run(image.data, x), reference.run(net, x, image))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_on_200_inputs_and_100_fault_sets(name: str) -> None:
    net = NETWORKS[name]()
    check(net, n=200, faults=0)
    check(net, n=4, faults=100)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["valid", "same", "half"]),
    pad_value=st.integers(0, 1),
    binary_input=st.booleans(),
    weight=st.sampled_from(["binary", None, 3, 8, 11, 16]),
    encoding=ENCODING,
    groups=st.sampled_from([1, 1, 2, 3, "depthwise"]),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_convolutions(
    seed, size, channels, kernel, stride, padding, pad_value, binary_input, weight, encoding, groups, dilation
) -> None:
    """Convolutions over shapes, strides, paddings, groups, dilations and channel counts, then batch norm."""
    if padding != "same":
        size = tuple(max(s, (k - 1) * d + 1) for s, k, d in zip(size, kernel, dilation, strict=True))
    inputs, filters = channels
    if groups == "depthwise":
        groups = inputs
    if binary_input:
        weight = "binary"
        inputs = 32 * groups if 1 < groups < 4 else inputs
        groups = groups if groups < 4 else 1
    inputs, filters = -(-inputs // groups) * groups, -(-filters // groups) * groups
    a = Author((*size, inputs), seed)
    if binary_input:
        a.sign()
    a.conv(filters, kernel, stride, padding, pad_value, weight, groups, dilation).affine(encoding)
    check(a.network())


INPUTS = st.builds(
    Quantization, st.sampled_from([1.0, 1 / 64, float(np.float32(2 / 255))]), st.sampled_from([-128, -3, 0, 127])
)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    channels=st.tuples(st.sampled_from([1, 2, 3, 5, 32]), CHANNELS),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["valid", "same", "half"]),
    weight=st.sampled_from(["binary", *range(2, 17)]),
    inputs=INPUTS,
    ends=st.sampled_from(
        [
            "sums",
            "affine",
            "affine sign",
            "threshold",
            "prelu affine sign",
            "prelu clip threshold",
            "affine affine sign",
            "prelu_element affine sign",
            "add sign",
        ]
    ),
    encoding=ENCODING,
    groups=st.sampled_from([1, 1, 2, "depthwise"]),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_convolutions_of_bytes(
    seed, size, channels, kernel, stride, padding, weight, inputs, ends, encoding, groups, dilation
) -> None:
    """In integers, over shapes, strides, paddings, groups, dilations, codes; then steps, or bits that they decide."""
    if padding != "same":
        size = tuple(max(s, (k - 1) * d + 1) for s, k, d in zip(size, kernel, dilation, strict=True))
    depth, filters = channels
    groups = depth if groups == "depthwise" else groups
    depth, filters = -(-depth // groups) * groups, -(-filters // groups) * groups
    a = Author((*size, depth), seed, Pixels(inputs.scale, -128 * inputs.scale), inputs)
    if weight != "binary":  # so that no sum can reach 2^30
        weight = min(weight, int(math.log2(2**30 / (kernel[0] * kernel[1] * depth // groups * 256))))
    a.conv(filters, kernel, stride, padding, 0, weight, groups, dilation)
    for step in ends.split():
        if step == "add":
            a.add(a.x)
        elif step == "sign":
            a.sign()
        elif step == "clip":
            a.clip(-20.0, 30.0)
        elif step == "prelu_element":
            a.prelu(encoding, by_element=True)
        elif step == "threshold":
            a.threshold(encoding, 100.0)
        elif step != "sums":
            getattr(a, step)(encoding)
    if a.b.tensors[a.x].kind == "binary":
        a.unpack()
    check(a.network())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.tuples(CHANNELS, CHANNELS),
    border=st.tuples(*[st.integers(0, 3)] * 4),
    planes=st.sampled_from([1, 3, 32, 33]),
    by_channel=st.booleans(),
)
def test_joining_padding_and_input_coding(seed, channels, border, planes, by_channel) -> None:
    """Concatenation, borders, products and thermometer codes, each followed by fused steps."""
    a = Author((3, 2, channels[0]), seed)
    first = a.x
    a.conv(channels[1], 1, weight=8).concat(first).affine().pad(border[:2], border[2:], -0.75).prelu()
    whole = a.x
    factor = a.global_pool().affine().x if by_channel else whole
    a.x = whole
    a.mul(factor).affine(scale=False)
    check(a.network())
    b = Author((3, 2, channels[0]), seed).gain(40.0).thermometer(planes, 1 / 8)
    check(b.conv(5, 2).affine().network())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    channels=CHANNELS,
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
    kind=st.sampled_from(["binary", "max", "average"]),
)
def test_pools(seed, size, channels, window, same, kind) -> None:
    """Pooling of bits and floats, with partial windows at the borders."""
    pool, stride = window
    if not same:
        size = tuple(max(s, pool) for s in size)
    a = Author((*size, channels), seed)
    padding = "same" if same else "valid"
    if kind == "binary":
        a.sign().max_pool(pool, stride, padding).unpack()
    elif kind == "max":
        a.max_pool(pool, stride, padding).affine()
    else:
        a.average_pool(pool, stride, padding).affine()
    check(a.network())


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
    depthwise=st.booleans(),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pool=st.sampled_from(["max", "average", None]),
)
def test_integers(seed, size, channels, kernel, stride, same, depthwise, dilation, pool) -> None:
    """Convolutions, sums, pools and softmax of 8-bit integers; flipped multipliers wrap around alike."""
    if not same:
        size = tuple(max(s, (k - 1) * d + 1) for s, k, d in zip(size, kernel, dilation, strict=True))
    inputs, filters = channels
    groups = inputs if depthwise else 1
    a = Author((*size, inputs), seed).quantize()
    a.conv_int8(groups * (2 if depthwise else filters), kernel, stride, "same" if same else "valid", groups, dilation)
    if pool:
        a = a.max_pool(2, 1, "same") if pool == "max" else a.average_pool(3, 2, "same")
    before = a.x
    a.conv_int8(a.b.tensors[a.x].shape[2], (1, 1)).add_int8(before)
    check(a.softmax_int8().dequantize().network(), faults=6)


STEPS = st.lists(st.sampled_from(["affine", "gain", "prelu", "prelu_element", "clip", "add"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), channels=CHANNELS, steps=STEPS, encoding=ENCODING, softmax=st.booleans())
def test_chains(seed, channels, steps, encoding, softmax) -> None:
    """Element-wise operations in any order and number, fused or not."""
    a = Author((2, 3, channels), seed)
    for step in steps:
        if step == "add":
            a.add("input")
        elif step == "prelu_element":
            a.prelu(encoding, by_element=True)
        elif step == "gain":
            a.gain(-0.5)
        elif step == "clip":
            a.clip(-1.5, 2.0)
        else:
            getattr(a, step)(encoding)
    if softmax or not steps:
        a.softmax()
    check(a.network())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), channels=CHANNELS, bits=st.integers(2, 16), pad_value=st.integers(0, 1))
def test_hardened(seed, channels, bits, pad_value) -> None:
    """Hardened networks, with negative and zero scales and ties: thresholds, absorbed scales, coded real layers."""
    a = Author((5, 5, 2), seed).conv(channels, 3, weight=None).affine().sign()
    a.conv(33, 3, padding="same", pad_value=pad_value).affine().sign().max_pool(2, 1)
    check(harden(a.unpack().dense(5, weight=None).affine(scale=False).network(), Policy(bits)))


def test_ties_are_plus_one() -> None:
    """A sum of exactly zero, negative zero and NaN give +1, in both."""
    net = Author((1, 1, 3)).sign().unpack().network()
    x = np.array([0.0, -0.0, np.nan], np.float32).reshape(1, 1, 1, 3)
    model = Model.of(net)
    assert Engine(model.plan).run(model.image.data, x).tolist() == [[1.0, 1.0, 1.0]]
    assert reference.run(net, x).tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("scale", [1.0, 20.0, 1e30, np.inf])
def test_softmax_of_extreme_inputs(scale: float) -> None:
    """Large, infinite and NaN scores: the same bits in both, and sums of one where the inputs are finite."""
    net = Author((1, 1, 7)).softmax().network()
    with np.errstate(invalid="ignore"):
        x = (np.random.default_rng(0).normal(size=(50, 1, 1, 7)) * scale).astype(np.float32)
    model = Model.of(net)
    y = Engine(model.plan).run(model.image.data, x)
    assert_same_bits(y, reference.run(net, x))
    if np.isfinite(scale):
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
        z = x.reshape(50, 7)
        e = np.exp((z - z.max(axis=1, keepdims=True)).astype(np.float64))
        np.testing.assert_allclose(y, e / e.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-37)


def test_runs_from_many_threads() -> None:
    """One engine, several threads: the GIL is released and nothing is shared."""
    from concurrent.futures import ThreadPoolExecutor

    model = Model.of(NETWORKS["residual-8"]())
    engine, x = Engine(model.plan), dyadic_inputs(model.network, 40)
    expected = engine.run(model.image.data, x)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: engine.run(model.image.data, x), range(16)):
            assert_same_bits(scores, expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.floats(-4, 4, width=32), min_size=6, max_size=6),
    st.booleans(),
)
def test_rounding_to_the_range_of_any_floats(values: list[float], symmetric: bool) -> None:
    """Tiny, huge, infinite and missing numbers included."""
    net = Author((1, 2, 3), 0).dynamic_range(symmetric).network()
    x = np.array(values, np.float32).reshape(1, 1, 2, 3)
    model = Model.of(net)
    assert_same_bits(Engine(model.plan).run(model.image.data, x), reference.run(net, x))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same", "half"]),
)
def test_gated_convolutions(seed, size, channels, kernel, stride, padding) -> None:
    """Two planes, gates open and closed, thresholds that equal sums."""
    if padding != "same":
        size = tuple(max(s, k) for s, k in zip(size, kernel, strict=True))
    check(Author((*size, channels[0]), seed).gated_conv(channels[1], kernel, stride, padding).affine().network())


@given(st.lists(st.floats(width=32) | st.floats(-1, 1, width=32), min_size=4, max_size=4))
def test_low_bits_of_any_floats(values: list[float]) -> None:
    """Also where x - 2/3 sign(x) would be rounded, and of NaN."""
    b = Builder("low", (1, 1, 4))
    low = b.add(LowBit("low", b.input, "low", float(np.float32(2 / 3))))
    net = b.network(b.add(Unpack("unpack", low, "unpack")))
    x = np.array(values, np.float32).reshape(1, 1, 1, 4)
    made = Engine(Model.of(net).plan).run(Model.of(net).image.data, x)
    assert_same_bits(made, reference.run(net, x))
    high = np.where(x < 0, np.float32(-1), np.float32(1))
    expected = np.where(x + high * np.float32(-2 / 3) < 0, -1, 1)
    np.testing.assert_array_equal(made.reshape(x.shape), expected)
