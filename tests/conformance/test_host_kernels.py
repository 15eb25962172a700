"""Every instruction set of the host engine gives the reference's bits: all shapes, flipped bits, batches, threads.

The portable kernels have the same tests, and more, in test_engine.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import NETWORKS, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.engine import Engine, fault_set, instruction_sets
from zobnn_edge.errors import InputError
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels
from zobnn_edge.tensor import Quantization

INSTRUCTIONS = [name for name in instruction_sets() if name != "portable"]
pytestmark = pytest.mark.skipif(not INSTRUCTIONS, reason="no vector kernels for this processor")
CHANNELS = st.sampled_from([1, 5, 16, 31, 32, 33, 64])
RATES = (1e-3, 1e-2, 1e-1)

examples = settings(max_examples=40, deadline=None)


def check(net: Network, n: int = 3, faults: int = 2) -> None:
    """The reference's bits on floats and on pixels, with flipped parameters, on one thread and more, from every
    instruction set's own kernels wherever there are such (8-bit integers have none)."""
    model = Model.of(net)
    engines = [Engine(model.plan, instructions) for instructions in INSTRUCTIONS]
    integers = any(tensor.kind == "int8" for name, tensor in net.tensors.items() if name != net.input)
    assert [e.instructions for e in engines] == (["portable"] * len(engines) if integers else INSTRUCTIONS)
    x = dyadic_inputs(net, n)
    pixels = np.random.default_rng(1).integers(0, 256, x.shape, np.uint8)
    images = [model.image]
    for seed in range(faults):
        flips = fault_set(len(model.image.data), model.image.ranges(), RATES[seed % 3], seed)
        images.append(model.image.flipped(flips.tolist()))
    for i, image in enumerate(images):
        for inputs in (x, pixels):
            expected = reference.run(net, inputs, image).view("u4")
            for engine in engines:
                scores = engine.run(image.data, inputs, 1 + i % 3)
                np.testing.assert_array_equal(scores.view("u4"), expected, engine.instructions)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name: str) -> None:
    """More inputs than a block of images, and no multiple of a tile; many fault sets on few inputs."""
    net = NETWORKS[name]()
    check(net, n=71, faults=1)
    check(net, n=3, faults=20)


@examples
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
    pad_value=st.integers(0, 1),
    weight=st.sampled_from(["bits", "binary", "binary", None, 8]),
    groups=st.sampled_from([1, 1, 2, 3, "depthwise"]),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    n=st.integers(1, 5),
    whole=st.booleans(),
)
def test_convolutions(
    seed, size, channels, kernel, stride, same, pad_value, weight, groups, dilation, n, whole
) -> None:
    """Convolutions over bits, whole-numbered pixels and floats, in every geometry; then batch norm."""
    if not same:
        size = tuple(max(s, (k - 1) * d + 1) for s, k, d in zip(size, kernel, dilation, strict=True))
    inputs, filters = channels
    if weight == "bits":
        groups = 1 if groups == "depthwise" else groups
        inputs = 32 * groups if groups > 1 else inputs
    groups = inputs if groups == "depthwise" else groups
    inputs, filters = -(-inputs // groups) * groups, -(-filters // groups) * groups
    a = Author((*size, inputs), seed, Pixels(1.0, -128.0) if whole else Pixels(1 / 255, 0.1))
    if weight == "bits":
        a.sign()
        weight = "binary"
    a.conv(filters, kernel, stride, "same" if same else "valid", pad_value, weight, groups, dilation).affine()
    check(a.network(), n)


@examples
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(4, 9), st.integers(4, 19)),
    channels=st.tuples(st.sampled_from([1, 3, 8]), CHANNELS),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    same=st.booleans(),
    weight=st.sampled_from(["binary", 2, 6, 8, 12, 16]),
    zero_point=st.sampled_from([-128, -7, 0, 127]),
    groups=st.sampled_from([1, "depthwise"]),
)
def test_convolutions_of_codes(seed, size, channels, kernel, same, weight, zero_point, groups) -> None:
    """Inputs of int8, weights of one bit, of few and of many: sums that floats hold, and larger ones."""
    inputs, filters = channels
    groups = inputs if groups == "depthwise" else groups
    if weight == 16 and kernel[0] * kernel[1] * inputs // groups * 256 << 16 > 2**30:
        weight = 12
    coded = Quantization(1 / 128, zero_point)
    a = Author((*size, inputs), seed, Pixels(1 / 128, -(128 + zero_point) / 128), coded)
    a.conv(-(-filters // groups) * groups, kernel, 1, "same" if same else "valid", 0, weight, groups)
    check(a.affine().sign().unpack().network())


@examples
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([3, 8, 12, 15, 23, 28, 30, 31]),
    channels=st.sampled_from([(64, 16), (64, 33), (96, 16), (128, 64), (256, 16), (512, 16), (544, 16)]),
    kernel=st.sampled_from([(3, 3), (3, 3), (9, 1), (1, 9), (5, 5)]),
    stride=st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]),
    same=st.booleans(),
    decided=st.booleans(),
)
def test_chains(seed, width, channels, kernel, stride, same, decided) -> None:
    """Windows of nine taps over many channels, and others; rows that end within a tile, or begin tiles anew."""
    if not same:
        width = max(width, kernel[1])
    a = Author((max(4, kernel[0]), width, channels[0]), seed, Pixels(1 / 128, -1.0)).sign()
    a.conv(channels[1], kernel, stride, "same" if same else "valid", 0, "binary")
    check((a.sign().unpack() if decided else a.affine()).network())


@examples
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from([7, 8, 15, 24, 30]),
    kernel=st.sampled_from([(3, 3), (7, 7), (5, 5), (5, 1), (3, 2)]),
    channels=st.sampled_from([1, 3, 5]),
    filters=st.sampled_from([1, 16, 40]),
    decided=st.booleans(),
)
def test_bytes_left_over(seed, width, kernel, channels, filters, decided) -> None:
    """Rows of kernels over bytes that do not fill words: what is left is put together, or filled up."""
    a = Author((9, width, channels), seed, Pixels(1.0, -128.0))
    a.conv(filters, kernel, 1, "same", 0, "binary")
    check((a.sign().unpack() if decided else a.affine()).network())


@examples
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(3, 12), st.integers(3, 19)),
    channels=st.tuples(CHANNELS, CHANNELS),
    stride=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
    pad_value=st.integers(0, 1),
    over=st.sampled_from(["bits", "pixels", "codes"]),
    weight=st.sampled_from(["binary", 2, 6]),
    threshold=st.sampled_from(["zero", "whole", "any"]),
)
def test_signs_of_sums(seed, size, channels, stride, padding, pad_value, over, weight, threshold) -> None:
    """Sums that are only compared: with zero, with numbers that many equal, with any floats."""
    inputs, filters = channels
    step = float(np.float32(0.01))  # products with it are rounded
    coded = Quantization(step, -7) if over == "codes" else None
    pixels = {"bits": Pixels(1 / 255, -0.5), "pixels": Pixels(0.5, -64.0), "codes": Pixels(step, -121 * step)}[over]
    a = Author((*size, inputs), seed, pixels, coded)
    if over == "bits":
        a.sign()
    a.conv(filters, 3, stride, padding, pad_value if over == "bits" else 0, weight if over == "codes" else "binary")
    if threshold == "zero":
        a.sign()
    elif threshold == "whole":
        a.threshold(spread=1.0 if over == "codes" else 4.0)
    else:
        extremes = np.array([np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.5, -0.5, 0.25], np.float32)
        a.threshold(values=a.rng.choice(extremes, filters))
    check(a.unpack().network())


@examples
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    channels=CHANNELS,
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
    kind=st.sampled_from(["bits", "max", "average"]),
)
def test_pools(seed, size, channels, window, same, kind) -> None:
    """Pools of bits and floats, with partial windows at the borders."""
    pool, stride = window
    if not same:
        size = tuple(max(s, pool) for s in size)
    a = Author((*size, channels), seed)
    padding = "same" if same else "valid"
    if kind == "bits":
        a.sign().max_pool(pool, stride, padding).unpack()
    elif kind == "max":
        a.max_pool(pool, stride, padding).affine()
    else:
        a.average_pool(pool, stride, padding).affine()
    check(a.network())


STEPS: dict[str, Callable[[Author, str], object]] = {
    "affine": lambda a, _: a.affine(8),
    "bias": lambda a, _: a.affine(scale=False),
    "gain": lambda a, _: a.gain(-0.5),
    "prelu": lambda a, _: a.prelu(),
    "prelu_element": lambda a, _: a.prelu(by_element=True),
    "clip": lambda a, _: a.clip(-1.5, 2.0),
    "add": lambda a, shortcut: a.add(shortcut),
    "mul": lambda a, shortcut: a.mul(shortcut),
    "twice": lambda a, _: a.add(a.x),
    "sign": lambda a, _: a.sign().unpack(),
    "threshold": lambda a, _: a.threshold(spread=1.0).unpack(),
    "gate": lambda a, _: a.sign().unpack().clip(),
    "mul_gate": lambda a, shortcut: gate(a, shortcut).mul(shortcut),
    "add_gate": lambda a, shortcut: gate(a, shortcut).gain(0.75).add(shortcut),
    "convolve": lambda a, _: a.sign().conv(a.shape[2], 3, padding="same"),
    "pool": lambda a, _: a.max_pool(2, 1, "same"),
}


def gate(a: Author, of: str) -> Author:
    """1 where a tensor is not negative, else 0."""
    a.x = of
    return a.sign().unpack().clip(0.0)


@examples
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 11), CHANNELS),
    steps=st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 3)), min_size=1, max_size=20),
)
def test_passes(seed, shape, steps) -> None:
    """Operations on one shape in any order, with shortcuts from anywhere before: what passes are made of."""
    a = Author(shape, seed)
    before = [a.x]
    for step, back in steps:
        STEPS[step](a, before[-1 - back % len(before)])
        before.append(a.x)
    check(a.affine(8).network())


@examples
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 5), st.integers(1, 18)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    wider=st.booleans(),
)
def test_gated_convolutions(seed, size, channels, kernel, stride, wider) -> None:
    """Two planes, one kernel; one of the planes is read by a wider window as well."""
    a = Author((*size, channels[0]), seed).affine()
    gated = a.gated_conv(channels[1], kernel, stride).affine().x
    if wider:
        a.x = next(name for name in a.b.tensors if name.endswith("/low"))
        wide = a.conv(channels[1], 5, stride, "half").x
        a.x = gated
        a.add(wide)
    check(a.prelu().affine().network())


@examples
@given(
    seed=st.integers(0, 2**31),
    channels=st.tuples(CHANNELS, CHANNELS),
    border=st.tuples(*[st.integers(0, 3)] * 4),
    planes=st.sampled_from([1, 3, 32, 33]),
)
def test_moves(seed, channels, border, planes) -> None:
    """Concatenation, borders, reshaping, products by channel, rounding, thermometer codes of pixels and of the rest."""
    a = Author((3, 2, channels[0]), seed)
    first = a.x
    a.conv(channels[1], 1, weight=8).concat(first).affine().pad(border[:2], border[2:], -0.75).prelu()
    whole = a.x
    factor = a.global_pool().affine().x
    a.x = whole
    a.mul(factor).reshape((1, 1, a.b.tensors[a.x].size)).conv(3, 1, weight=None).softmax()
    check(a.network())
    b = Author((3, 2, channels[0]), seed)
    check(b.gain(40.0).thermometer(planes, 1 / 8).conv(5, 2).affine().network())
    c = Author((3, 2, channels[0]), seed).affine().dynamic_range(seed % 2 == 0)
    check(c.gain(40.0).thermometer(planes, 1 / 8).conv(5, 2).affine().network())


@pytest.mark.parametrize("instructions", instruction_sets())
def test_threads_and_batches_change_nothing(instructions: str) -> None:
    """Any number of inputs on any number of threads: each input's scores are those it has alone."""
    model = Model.of(NETWORKS["residual-8"]())
    engine, x = Engine(model.plan, instructions), dyadic_inputs(model.network, 70)
    alone = np.concatenate([engine.run(model.image.data, x[i : i + 1], 1) for i in range(70)])
    for n in (0, 1, 2, 31, 33, 70):
        for threads in (1, 2, 3, 100):
            np.testing.assert_array_equal(engine.run(model.image.data, x[:n], threads).view("u4"), alone[:n].view("u4"))


def test_unknown_instructions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with what there is; from the environment as well."""
    plan = Model.of(NETWORKS["residual-8"]()).plan
    with pytest.raises(InputError, match=r"mmx.*portable"):
        Engine(plan, "mmx")
    monkeypatch.setenv("ZOBNN_INSTRUCTIONS", "portable")
    assert Engine(plan).instructions == "portable"
    monkeypatch.setenv("ZOBNN_INSTRUCTIONS", "sse9")
    with pytest.raises(InputError, match="sse9"):
        Engine(plan)


def test_no_threads_are_refused() -> None:
    model = Model.of(NETWORKS["residual-8"]())
    with pytest.raises(InputError, match="0 threads"):
        Engine(model.plan).run(model.image.data, dyadic_inputs(model.network, 1), 0)
