"""LCE flatbuffers: the stock interpreter computes what the reference interpreter does, operator by operator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from tests.conformance.lce_checks import CHANNELS, assert_close, assert_same, has_binary_groups, interpreted
from tests.networks import NETWORKS, WRITTEN, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.encoding import Uniform
from zobnn_edge.errors import ModelError

pytestmark = interpreted

ENCODING = st.sampled_from([None, 2, 5, 7, 8, 9, 12, 16])

REAL_STEPS = ["affine", "bias", "gain", "prelu", "slopes", "clip", "bounds", "max", "average", "add", "binary"]


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
