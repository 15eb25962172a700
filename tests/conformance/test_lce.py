"""LCE flatbuffers: the stock interpreter computes what the reference interpreter does, from the codes in the file."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import flatbuffer, lce, lce_interpreter
from converters.lce_thresholds import rounding
from tests.networks import NETWORKS, WRITTEN, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.encoding import Binary, Float32, Uniform, unpack
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Add, Affine, Conv, Sign, Threshold, Unpack

pytestmark = pytest.mark.skipif(not lce_interpreter.installed(), reason="larq_compute_engine is not installed")

CHANNELS = st.sampled_from([1, 31, 32, 33, 64])
BITS = st.integers(2, 16)
ENCODING = st.sampled_from([None, 2, 5, 7, 8, 9, 12, 16])
REAL_STEPS = ["affine", "bias", "gain", "prelu", "slopes", "clip", "bounds", "max", "average", "add", "binary"]
SCALES = st.floats(2.0**-20, 2.0**20, width=32)


def assert_same(net: Network, x: np.ndarray, reference_kernel: bool = True) -> None:
    """Interpreter and reference give equal scores."""
    np.testing.assert_array_equal(lce_interpreter.run(lce.write(net), x, reference_kernel), reference.run(net, x))


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Scores within 1e-5 of the largest one, and the same winner."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(actual.argmax(axis=1), expected.argmax(axis=1))


def every_dot(channels: int) -> np.ndarray:
    """Inputs (channels + 1, 1, 1, channels) of -1 and +1 whose sums are all the dot products there are."""
    return np.where(np.arange(channels) < np.arange(channels + 1)[:, None], -1.0, 1.0)[:, None, None].astype(np.float32)


def pointwise(channels: int, out: int, sign: np.ndarray | None = None) -> tuple[Builder, str]:
    """A binary 1x1 convolution with kernels of +1 (or `sign`, (out,)), so that it gives sums of its inputs."""
    b = Builder("test", (1, 1, channels))
    weights = np.broadcast_to((np.ones(out) if sign is None else sign)[:, None, None, None], (out, 1, 1, channels))
    weight = b.parameter("conv/weight", "conv", "weight", weights, Binary(row=channels))
    return b, b.add(Conv("conv", b.add(Sign("sign", b.input, "bits")), "dot", weight))


@settings(max_examples=60, deadline=None)
@given(BITS, SCALES, st.integers(-(1 << 23), 1 << 23) | st.integers(-300, 70000))
def test_every_code_is_decoded_at_run_time_as_the_encoding_decodes_it(bits: int, scale: float, zero_point: int) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b = Builder("test", (1, 1, values.size))
    b.parameter("affine/bias", "affine", "bias", values, encoding)
    net = b.network(b.add(Affine("affine", b.input, "y", None, "affine/bias")))
    blob = lce.write(net)
    scores = lce_interpreter.run(blob, np.zeros((1, 1, 1, values.size)))
    np.testing.assert_array_equal(scores[0], net.parameters["affine/bias"].values)
    np.testing.assert_array_equal(lce.read_codes(blob, "affine/bias"), encoding.encode(values))


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 70),
    bits=st.integers(2, 10),
    scale=SCALES | st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    zero_point=st.integers(-1100, 2000),
)
def test_coded_thresholds_decide_alike_for_every_code_and_every_dot_product(
    channels: int, bits: int, scale: float, zero_point: int
) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b, dot = pointwise(channels, values.size)
    b.parameter("conv/threshold", "conv", "threshold", values, encoding)
    bits_out = b.add(Threshold("threshold", dot, "signs", "conv/threshold"))
    assert_same(b.network(b.add(Unpack("unpack", bits_out, "y"))), every_dot(channels))


def test_every_way_of_rounding_a_threshold_is_used_and_none_only_where_all_are_wrong() -> None:
    assert rounding(Uniform(8, 2.0, 100), 64, 64) == "none"
    assert rounding(Uniform.of_range(-16.0, 19.0, 8), 576, 576) == "ceil"
    assert rounding(Uniform(8, 0.75, 100), 27, 32) == "floor"
    assert rounding(Uniform(8, 1.0 + 2.0**-23, 0), 27, 32) is None
    assert rounding(Uniform(8, 2.0**30, 0), 32, 32) is None


@st.composite
def batch_norms(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """(channels in, scales, biases): any signs, zeros, and biases that make a dot product decide by a rounding."""
    channels = draw(st.integers(1, 70))
    numbers = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e30, 0.1, -0.3])
    scales = np.array(draw(st.lists(numbers, min_size=1, max_size=40)), np.float32)
    dots = np.array(draw(st.lists(st.integers(-channels, channels), min_size=scales.size, max_size=scales.size)))
    ties = -(dots.astype(np.float32) * scales)
    nudge = np.array([np.nextafter(t, np.float32(np.inf)) if i % 3 else t for i, t in enumerate(ties)], np.float32)
    return channels, scales, np.where(draw(st.booleans()), ties, nudge).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(batch_norms())
def test_uncoded_batch_norm_and_sign_fold_into_thresholds_without_changing_a_decision(
    case: tuple[int, np.ndarray, np.ndarray],
) -> None:
    channels, scales, biases = case
    b, dot = pointwise(channels, scales.size, np.where(np.arange(scales.size) % 2, -1.0, 1.0))
    b.parameter("conv/scale", "conv", "scale", scales, Float32())
    b.parameter("conv/bias", "conv", "bias", biases, Float32())
    affine = b.add(Affine("affine", dot, "affine", "conv/scale", "conv/bias"))
    net = b.network(b.add(Unpack("unpack", b.add(Sign("sign2", affine, "signs")), "y")))
    assert set(lce.parameter_offsets(lce.write(net))) == {"conv/weight"}
    assert_same(net, every_dot(channels))


def test_batch_norm_that_is_not_finite_folds_to_the_same_decisions() -> None:
    numbers = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, 1.0], np.float32)
    scales, biases = (grid.reshape(-1) for grid in np.meshgrid(numbers, numbers))
    b, dot = pointwise(9, scales.size)
    b.parameter("conv/scale", "conv", "scale", scales, Float32())
    b.parameter("conv/bias", "conv", "bias", biases, Float32())
    signs = b.add(Sign("sign2", b.add(Affine("affine", dot, "affine", "conv/scale", "conv/bias")), "signs"))
    assert_same(b.network(b.add(Unpack("unpack", signs, "y"))), every_dot(9))


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=CHANNELS,
    out=CHANNELS,
    kernel=st.sampled_from([(1, 1), (2, 3), (3, 3), (5, 4)]),
    stride=st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    padding=st.sampled_from(["valid", "same"]),
    pad_value=st.sampled_from([0, 1]),
    after=st.sampled_from(["nothing", "threshold", "affine", "affine and sign", "sign"]),
    encoding=ENCODING,
)
def test_binary_convolutions_are_bit_identical(
    seed: int,
    channels: int,
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    pad_value: int,
    after: str,
    encoding: int | None,
) -> None:
    a = Author((6, 7, channels), seed)
    a.sign().conv(out, kernel, stride, padding, pad_value)  # type: ignore[arg-type]
    if after == "threshold":
        a.threshold(encoding)
    elif after.startswith("affine"):
        a.affine(encoding)
    if after.endswith("sign"):
        a.sign()
    if a.b.tensors[a.x].kind == "binary":
        a.unpack()
    net = a.network()
    x = dyadic_inputs(net, 3, seed)
    # LCE's default kernel corrects zero-padded borders in float32: exact when the multiplier is 1, as it is here.
    assert_same(net, x, reference_kernel=False)
    if not (channels % 2 and padding == "same" and pad_value == 0):  # which the other kernel refuses
        assert_same(net, x)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), CHANNELS, st.integers(2, 16))
def test_default_kernel_decides_zero_padded_thresholds_exactly(seed: int, channels: int, bits: int) -> None:
    a = Author((5, 5, channels), seed)
    a.sign().conv(33, 3, padding="same", pad_value=0).threshold(Uniform(bits, 1.0, 1 << (bits - 1))).unpack()
    net = a.network()
    assert_same(net, dyadic_inputs(net, 4, seed), reference_kernel=False)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.sampled_from([1, 3, 33]),
    padding=st.sampled_from(["valid", "same"]),
    pad_value=st.sampled_from([0, 1]),
    stride=st.sampled_from([1, 2]),
    weight=st.sampled_from(["binary", Uniform(4, 0.25, 7), Uniform(8, 0.125, -100), Uniform(12, 1 / 64, 2000)]),
    threshold=ENCODING,
)
def test_real_convolutions_of_short_binary_fractions_are_bit_identical(
    seed: int,
    channels: int,
    padding: str,
    pad_value: int,
    stride: int,
    weight: str | Uniform,
    threshold: int | None,
) -> None:
    a = Author((6, 5, channels), seed)
    a.conv(9, (3, 2), stride, padding, pad_value, weight)  # type: ignore[arg-type]
    a.threshold(threshold).unpack().dense(4, weight=weight)
    net = a.network()
    assert_same(net, dyadic_inputs(net, 3, seed))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 3),
    words=st.integers(1, 2),
    filters=st.integers(1, 3),
    kernel=st.sampled_from([(1, 1), (2, 3), (3, 3)]),
    stride=st.sampled_from([(1, 1), (2, 1)]),
    padding=st.sampled_from(["valid", "same"]),
    pad_value=st.sampled_from([0, 1]),
    dilation=st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    after=st.sampled_from(["nothing", "threshold", "affine and sign"]),
    encoding=ENCODING,
)
def test_binary_convolutions_in_groups_and_dilated_are_bit_identical(
    seed: int,
    groups: int,
    words: int,
    filters: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    pad_value: int,
    dilation: tuple[int, int],
    after: str,
    encoding: int | None,
) -> None:
    a = Author((7, 8, 32 * words * groups), seed)
    a.sign().conv(filters * groups, kernel, stride, padding, pad_value, groups=groups, dilation=dilation)  # type: ignore[arg-type]
    if after == "threshold":
        a.threshold(encoding).unpack()
    elif after == "affine and sign":
        a.affine(encoding).sign().unpack()
    net = a.network()
    assert_same(net, dyadic_inputs(net, 3, seed))
    if groups == 1:
        assert_same(net, dyadic_inputs(net, 3, seed), reference_kernel=False)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 4),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    stride=st.sampled_from([(1, 1), (2, 1)]),
    padding=st.sampled_from(["valid", "same"]),
    pad_value=st.sampled_from([0, 1]),
    dilation=st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    weight=st.sampled_from(["binary", Uniform(4, 0.25, 7), Uniform(8, 0.125, -100), Uniform(12, 1 / 64, 2000)]),
)
def test_real_convolutions_in_groups_and_dilated_are_bit_identical(
    seed: int,
    groups: int,
    channels: int,
    filters: int,
    stride: tuple[int, int],
    padding: str,
    pad_value: int,
    dilation: tuple[int, int],
    weight: str | Uniform,
) -> None:
    a = Author((7, 8, channels * groups), seed)
    a.conv(filters * groups, (3, 2), stride, padding, pad_value, weight, groups, dilation)  # type: ignore[arg-type]
    net = a.network()
    blob, parameter = lce.write(net), next(iter(net.parameters.values()))
    assert_same(net, dyadic_inputs(net, 3, seed))
    codes = parameter.encoding.encode(parameter.values).reshape(-1)
    np.testing.assert_array_equal(lce.read_codes(blob, parameter.name)[: codes.size], codes)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["product", "gate", "join", "pad"]), min_size=1, max_size=5),
    border=st.tuples(*[st.integers(0, 2)] * 4),
    value=st.sampled_from([0.0, 1.0, -0.375]),
)
def test_products_concatenations_and_borders_are_bit_identical(
    seed: int, channels: int, steps: list[str], border: tuple[int, int, int, int], value: float
) -> None:
    a = Author((4, 3, channels), seed)
    for step in steps:
        before = a.x
        if step == "gate":
            gate = a.max_pool(a.shape[0], a.shape[0]).x if a.shape[0] == a.shape[1] else a.average_pool(2, 99).x
            a.x = before
            a.mul(gate)
        elif step == "pad":
            a.pad(border[:2], border[2:], value)
        else:
            other = a.affine(None).x
            a.x = before
            a = a.mul(other) if step == "product" else a.concat(other)
    net = a.gain(0.5).network()
    assert_same(net, dyadic_inputs(net, 3, seed))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from([1.0, 0.5, 0.125, float(np.float32(0.3)), -1.5]),
    st.lists(st.floats(width=32) | st.integers(-50, 300).map(lambda i: i / 2), min_size=24, max_size=24),
)
def test_thermometers_are_bit_identical_for_any_number(
    channels: int, planes: int, gain: float, numbers: list[float]
) -> None:
    net = Author((2, 2, channels)).thermometer(planes, gain).unpack().network()
    x = np.array(numbers, np.float32)[: 8 * channels].reshape(2, 2, 2, channels)
    assert_same(net, x)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=CHANNELS,
    encoding=ENCODING,
    steps=st.lists(st.sampled_from(REAL_STEPS), min_size=1, max_size=6),
    size=st.integers(2, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same"]),
)
def test_everything_else_that_is_real_is_bit_identical(
    seed: int, channels: int, encoding: int | None, steps: list[str], size: int, stride: int, padding: str
) -> None:
    a = Author((9, 8, channels), seed)
    for step in steps:
        if step in ("max", "average", "binary") and min(a.shape[:2]) < size:
            continue
        if step == "affine":
            a.affine(encoding)
        elif step == "bias":
            a.affine(encoding, scale=False)
        elif step == "gain":
            a.gain(0.375)
        elif step in ("prelu", "slopes"):
            a.prelu(encoding, by_element=step == "slopes")
        elif step == "clip":
            a.clip(*[(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)][seed % 3])
        elif step == "bounds":
            a.clip(*[(-np.inf, 0.4), (-0.3, np.inf), (-0.7, 0.2)][seed % 3])
        elif step == "max":
            a.max_pool(size, stride, padding)  # type: ignore[arg-type]
        elif step == "average":
            a.average_pool(size, stride, padding)  # type: ignore[arg-type]
        elif step == "add":
            a.add(a.x)
        else:
            a.sign().max_pool(size, stride, padding).unpack()  # type: ignore[arg-type]
    net = a.gain(0.5).network()
    assert_same(net, dyadic_inputs(net, 3, seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(-3, 6))
def test_softmax_is_close(seed: int, channels: int, magnitude: int) -> None:
    net = Author((1, 1, channels), seed).gain(2.0**magnitude).softmax().network()
    x = dyadic_inputs(net, 5, seed)
    np.testing.assert_allclose(lce_interpreter.run(lce.write(net), x), reference.run(net, x), rtol=1e-5, atol=1e-7)


def test_nan_passes_relus_and_signs_as_it_does_in_the_engine() -> None:
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.5], np.float32).reshape(1, 1, 1, 6)
    x.view(np.uint32)[..., 1] |= 1 << 31
    for low, high in ((0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)):
        assert_same(Author((1, 1, 6)).clip(low, high).network(), x)
    assert_same(Author((1, 1, 6)).sign().unpack().network(), x)
    assert_same(Author((1, 1, 6)).threshold(None).unpack().network(), x)


@pytest.mark.parametrize("reference_kernel", [True, False])
@pytest.mark.parametrize("name", WRITTEN)
def test_whole_networks_agree(name: str, reference_kernel: bool) -> None:
    net = NETWORKS[name]()
    if not reference_kernel and has_binary_groups(net):
        pytest.skip("LCE's default kernel refuses groups")
    x = dyadic_inputs(net, 8)
    assert_close(lce_interpreter.run(lce.write(net), x, reference_kernel), reference.run(net, x))


@pytest.mark.parametrize("name", ["integer", "hybrid"])
def test_a_network_of_integers_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"test: computes in 8-bit integers; its flatbuffer is the \.tflite file"):
        lce.write(NETWORKS[name]())


def has_binary_groups(net: Network) -> bool:
    """True when a convolution of bits is in groups."""
    return any(isinstance(op, Conv) and op.groups > 1 and net.tensors[op.input].kind == "binary" for op in net.ops)


def coded_networks() -> list[str]:
    """Those whose flips stay finite; of flipped floats a sum may overflow in one order and not in another."""
    return [name for name in WRITTEN if not name.endswith("float32")]


@pytest.mark.parametrize("name", coded_networks())
@pytest.mark.parametrize("rate", [0.001, 0.02])
def test_the_same_flips_in_file_and_image_give_the_same_scores(name: str, rate: float) -> None:
    net = NETWORKS[name]()
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 4)
    rng = np.random.default_rng(5)
    for _ in range(4):
        flips = [first + int(i) for first, bits in image.ranges() for i in np.flatnonzero(rng.random(bits) < rate)]
        flipped = image.flipped(flips)
        damaged = lce.flip(blob, image, flips)
        for region in image.regions:
            stored = lce.read_codes(damaged, region.name)
            if region.encoding.bits == 1:
                bits = np.unpackbits(np.frombuffer(flipped.raw(region.name), np.uint8), bitorder="little")
                np.testing.assert_array_equal(stored[: bits.size], bits)
            else:
                codes = unpack(flipped.raw(region.name), region.encoding, region.count)
                np.testing.assert_array_equal(stored, codes)
        assert lce.flip(damaged, image, flips) == blob
        assert_close(lce_interpreter.run(damaged, x), reference.run(net, x, flipped))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), CHANNELS, BITS, st.data())
def test_any_single_flip_in_a_hardened_network_is_bit_identical(
    seed: int, channels: int, bits: int, data: st.DataObject
) -> None:
    a = Author((4, 4, 2), seed)
    a.conv(channels, 2).threshold(bits).conv(5, 2, padding="same", pad_value=1).threshold(bits)
    net = a.dense(3).affine(bits).network()
    image, x = ParameterImage.of(net), dyadic_inputs(net, 3, seed)
    name = data.draw(st.sampled_from([region.name for region in image.regions]))
    ((first, count),) = image.ranges([name])
    flips = [first + data.draw(st.integers(0, count - 1))]
    damaged = lce.flip(lce.write(net), image, flips)
    np.testing.assert_array_equal(lce_interpreter.run(damaged, x), reference.run(net, x, image.flipped(flips)))


def test_flips_in_weights_negated_by_folding_are_bit_identical() -> None:
    a = Author((4, 4, 33), 3)
    net = a.sign().conv(32, 3).affine(None).sign().dense(5).network()
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 6)
    weight = next(iter(net.parameters.values()))
    assert lce.parameter_offsets(blob)[weight.name].negated
    flips = [image.address(weight.name, tuple(i % n for n in weight.shape), 0) for i in range(40)]
    scores = reference.run(net, x, image.flipped(flips))
    assert not np.array_equal(scores, reference.run(net, x))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(blob, image, flips), x), scores)
    with pytest.raises(InputError, match="conv2/weight, row padding: no counterpart"):
        lce.flip(blob, image, [image.region(weight.name).first_bit + 33])
    with pytest.raises(InputError, match="conv2/weight is stored with the channels negated"):
        lce.read_codes(blob, weight.name)


def test_bits_that_fill_up_rows_count_behind_a_folded_batch_norm_too() -> None:
    b, dot = pointwise(33, 3)
    b.parameter("conv/bias", "conv", "bias", np.array([-31.0, 1.0, 35.5]), Float32())
    signs = b.add(Sign("sign2", b.add(Affine("affine", dot, "affine", None, "conv/bias")), "signs"))
    net = b.network(b.add(Unpack("unpack", signs, "y")))
    image, x = ParameterImage.of(net), every_dot(33)
    flips = [64 * row + 33 + bit for row in range(3) for bit in range(4)]
    scores = reference.run(net, x, image.flipped(flips))
    assert not np.array_equal(scores, reference.run(net, x))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(lce.write(net), image, flips), x), scores)


def test_bits_that_fill_up_rows_count_as_they_do_in_the_engine() -> None:
    a = Author((4, 4, 33), 3)
    net = a.sign().conv(8, 3, padding="same", pad_value=1).threshold(8).dense(5).affine(8).network()
    image, x = ParameterImage.of(net), dyadic_inputs(net, 6)
    first = image.region("conv2/weight").first_bit
    flips = [first + 64 * row + 33 + row % 31 for row in range(72)]
    damaged = lce.flip(lce.write(net), image, flips)
    np.testing.assert_array_equal(lce_interpreter.run(damaged, x), reference.run(net, x, image.flipped(flips)))


def shared_weight() -> Network:
    """Two convolutions with one weight, followed by batch norms of opposite sign; thresholds shared by two kernels."""
    b, dot = pointwise(32, 32)
    b.parameter("a/scale", "a", "scale", np.ones(32), Float32())
    b.parameter("b/scale", "b", "scale", -np.ones(32), Float32())
    left = b.add(Sign("sign a", b.add(Affine("a", dot, "a", "a/scale")), "left"))
    right = b.add(Conv("conv b", left, "dot b", "conv/weight"))
    signs = b.add(Sign("sign b", b.add(Affine("b", right, "b", "b/scale")), "right"))
    return b.network(b.add(Unpack("unpack", signs, "y")))


def test_a_weight_of_two_layers_flips_in_both() -> None:
    net = shared_weight()
    blob, image, x = lce.write(net), ParameterImage.of(net), every_dot(32)
    assert len(lce.parameter_offsets(blob)["conv/weight"].offsets) == 2
    flips = [image.address("conv/weight", (i, 0, 0, (7 * i) % 32), 0) for i in range(32)]
    np.testing.assert_array_equal(
        lce_interpreter.run(lce.flip(blob, image, flips), x), reference.run(net, x, image.flipped(flips))
    )


def test_two_convolutions_with_one_kernel_share_its_bits() -> None:
    """As precision gating does: once on the signs, once on other bits of the same activations."""
    a = Author((5, 5, 32), 7)
    stem, weight = a.x, "conv2/weight"
    high = a.sign().conv(8, 3, padding="same").x
    a.x = stem
    low = a.affine(None).sign().x
    both = a.b.add(Conv("low", low, "low", weight, padding="same"))
    net = a.b.network(a.b.add(Add("sum", high, "sum", both)))
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 4)
    assert len(lce.parameter_offsets(blob)[weight].offsets) == 1
    assert blob.count(image.raw(weight)) == 1
    flips = [image.address(weight, (i, 1, 2, 5 * i % 32), 0) for i in range(8)]
    scores = reference.run(net, x, image.flipped(flips))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(blob, image, flips), x), scores)


def test_a_batch_norm_that_something_else_needs_stays_in_the_file() -> None:
    b, dot = pointwise(8, 8)
    b.parameter("a/scale", "a", "scale", np.array([1, -2, 3, -4, 5, -6, 7, 0.5]), Float32())
    signs = b.add(Unpack("u", b.add(Sign("s", b.add(Affine("a", dot, "a", "a/scale")), "signs")), "real"))
    net = b.network(b.add(Affine("again", signs, "y", "a/scale")))
    blob, image, x = lce.write(net), ParameterImage.of(net), every_dot(8)
    flips = [image.address("a/scale", (i,), 31) for i in range(0, 8, 3)]
    np.testing.assert_array_equal(
        lce_interpreter.run(lce.flip(blob, image, flips), x), reference.run(net, x, image.flipped(flips))
    )


@pytest.mark.parametrize("hidden", ["threshold", "sign"])
@pytest.mark.parametrize("is_output", [False, True])
def test_dot_products_that_something_else_needs_are_not_fused_away(hidden: str, is_output: bool) -> None:
    a = Author((3, 3, 32), 4)
    dots = a.sign().conv(32, 3, padding="same", pad_value=1).x
    a = a.threshold(8) if hidden == "threshold" else a.sign()
    a.unpack()
    assert_same(a.b.network(dots) if is_output else a.add(dots).network(), dyadic_inputs(a.b.network(dots), 4))


def test_parameters_of_equal_bytes_stay_apart_and_are_aligned() -> None:
    b = Builder("test", (1, 1, 5))
    for name in ("a/bias", "b/bias"):
        b.parameter(name, name[0], "bias", np.arange(5), Uniform(8, 1.0, 128))
    net = b.network(b.add(Affine("b", b.add(Affine("a", b.input, "x", None, "a/bias")), "y", None, "b/bias")))
    offsets = [stored.offsets[0] for stored in lce.parameter_offsets(lce.write(net)).values()]
    assert len(set(offsets)) == 2
    assert all(offset % 16 == 0 for offset in offsets)


def test_a_parameter_of_two_operations_lies_in_the_file_once() -> None:
    b, dot = pointwise(32, 32)
    encoding = Uniform(8, 1.0, 128)
    b.parameter("t/threshold", "t", "threshold", np.arange(32), encoding)
    first = b.add(Threshold("t", dot, "first", "t/threshold"))
    second = b.add(Threshold("t2", b.add(Conv("again", first, "dot2", "conv/weight")), "second", "t/threshold"))
    net = b.network(b.add(Unpack("unpack", second, "y")))
    blob = lce.write(net)
    assert [len(stored.offsets) for stored in lce.parameter_offsets(blob).values()] == [1, 1]
    assert blob.count((np.arange(32) + 0).astype(np.int8).tobytes()) == 1
    assert_same(net, every_dot(32))


@pytest.mark.parametrize("bits", [5, 8, 12, 16])
def test_codes_are_integers_in_the_file_and_their_values_are_not_there(bits: int) -> None:
    a = Author((8, 8, 3), 1)
    net = a.conv(9, 3, weight=bits).affine(bits).prelu(bits).threshold(bits).dense(7).affine(bits).network()
    blob = lce.write(net)
    image = ParameterImage.of(net)
    width = 8 if bits <= 8 else 16
    for region in image.regions:
        if isinstance(region.encoding, Uniform):
            stored = lce.parameter_offsets(blob)[region.name]
            assert (stored.width, stored.bits, stored.count) == (width, bits, region.count)
            assert image.values(region.name)[..., :4].tobytes() not in blob
    floats = [stored for stored in lce.parameter_offsets(blob).values() if stored.width == 32]
    assert floats == []


def test_lce_s_own_schema_reads_the_codes_and_how_to_decode_them() -> None:
    schema = lce_interpreter.schema()
    net = Author((1, 1, 40), 2).affine(Uniform(8, 1 / 64, 100)).network()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(lce.write(net), 0))
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.decode() in net.parameters:
            parameter = net.parameters[tensor.name.decode()]
            q = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).astype(np.int64)
            assert tensor.type == schema.TensorType.INT8
            values = np.float32(tensor.quantization.scale[0]) * (q - tensor.quantization.zeroPoint[0])
            np.testing.assert_array_equal(values.astype(np.float32), parameter.values)
    assert model.description.decode() == net.name


def tutorial() -> Network:
    """Larq's MNIST tutorial, hardened to 8 bits, with the signs moved before the max-pools."""
    a = Author((28, 28, 1))
    a.conv(32, 3).threshold(8).max_pool().conv(64, 3).threshold(8).max_pool().conv(64, 3).threshold(8)
    return a.dense(64).threshold(8).dense(10).affine(8).softmax().network()


def test_file_of_larq_s_tutorial_network_is_below_20000_bytes_and_all_its_hidden_layers_give_bits() -> None:
    net = tutorial()
    blob = lce.write(net)
    assert len(blob) < 17_000
    x = dyadic_inputs(net, 3)
    assert_close(lce_interpreter.run(blob, x), reference.run(net, x))
    model = flatbuffer.read(blob)
    names = [code["custom_code"] for code in model["operator_codes"]]
    (graph,) = model["subgraphs"]
    convolutions = [op for op in graph["operators"] if names[op["opcode_index"]] == "LceBconv2d"]
    types = [graph["tensors"][op["outputs"][0]]["type"] for op in convolutions]
    assert types == [2, 2, 2, 0]


def test_constants_are_written_once_and_a_network_always_to_the_same_file() -> None:
    net = NETWORKS["residual-8"]()
    blob = lce.write(net)
    assert blob == lce.write(net)
    assert blob.count(np.ones(16, np.float32).tobytes()) == 1


def test_a_folded_batch_norm_is_refused_by_name() -> None:
    net = NETWORKS["binary_chain-float32"]()
    blob, image = lce.write(net), ParameterImage.of(net)
    with pytest.raises(InputError, match="affine5/scale is not in the flatbuffer"):
        lce.flip(blob, image, [image.address("affine5/scale", (0,), 3)])
    with pytest.raises(InputError, match="affine5/bias is not in the flatbuffer"):
        lce.read_codes(blob, "affine5/bias")


def test_an_image_of_another_network_is_refused() -> None:
    blob = lce.write(NETWORKS["thresholds-hardened-8"]())
    other = ParameterImage.of(NETWORKS["thresholds-float32"]())
    with pytest.raises(InputError, match="another network"):
        lce.flip(blob, other, [0])
    with pytest.raises(InputError, match="belongs to no parameter"):
        lce.flip(blob, other, [8 * len(other.data)])


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 500, 2000])
def test_a_damaged_file_is_refused_in_one_line(keep: int) -> None:
    blob = lce.write(NETWORKS["thresholds-hardened-8"]())
    with pytest.raises(ModelError, match="flatbuffer") as caught:
        lce.parameter_offsets(blob[:keep])
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_only_errors_that_say_so(data: st.DataObject) -> None:
    blob = bytearray(lce.write(Author((1, 1, 4)).affine(8).network()))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(8, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ModelError, InputError):
        for name in lce.parameter_offsets(bytes(blob)):
            lce.read_codes(bytes(blob), name)


def test_a_flatbuffer_of_others_is_refused() -> None:
    model = flatbuffer.node("Model", version=3, buffers=(flatbuffer.node("Buffer"),), subgraphs=())
    with pytest.raises(ModelError, match="zobnn_code_bits"):
        lce.parameter_offsets(flatbuffer.write(model))


def test_what_the_file_cannot_hold_is_refused_by_name() -> None:
    b = Builder("test", (1, 1, 4))
    b.parameter("a/bias", "a", "bias", np.ones(4), Uniform(8, 1.0, 0, row=4))
    net = b.network(b.add(Affine("a", b.input, "y", None, "a/bias")))
    with pytest.raises(ModelError, match="a/bias: packed in rows"):
        lce.write(net)
    broken = replace(net, output="elsewhere")
    with pytest.raises(ModelError, match="output"):
        lce.write(broken)


def test_writing_needs_neither_tensorflow_nor_larq() -> None:
    code = (
        "import sys; from converters import lce; "
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'larq', 'larq_compute_engine') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("weight", ["binary", None])
def test_half_padding_of_an_even_kernel_is_refused(weight: str | None) -> None:
    a = Author((6, 6, 4), 0).sign() if weight else Author((6, 6, 4), 0)
    with pytest.raises(ModelError, match="half padding of an even kernel or of a pool has no counterpart in TFLite"):
        lce.write(a.conv(3, 4, 2, "half", weight=weight).network())
