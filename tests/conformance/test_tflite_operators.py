"""Operators of TFLite and LCE, in files made by hand: what the interpreter computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.flatbuffer import node
from converters.lce_graph import Graph
from converters.tflite import import_tflite
from tests.conformance.lce_checks import interpreted
from tests.conformance.tflite_files import (
    assert_interpreted,
    concatenation,
    conv,
    dense,
    depthwise,
    gate,
    made,
    mean,
    normal,
    pad,
    pool,
    softmax,
    step,
)
from zobnn_edge.encoding import Float32, Uniform
from zobnn_edge.operations import Threshold

MADE: dict[str, Callable[[Graph, int], int]] = {
    "conv": lambda g, x: conv(g, x, stride=2),
    "conv relu6": lambda g, x: conv(g, x, 3, padding=1),
    "conv groups": lambda g, x: conv(g, x, 1, groups=2),
    "conv dilation": lambda g, x: conv(g, x, 2, padding=1, dilation=2),
    "depthwise": lambda g, x: depthwise(g, x, 1),
    "depthwise dilation": lambda g, x: depthwise(g, x, 2),
    "dense of a map": lambda g, x: dense(g, x, False),
    "dense of a vector": lambda g, x: dense(g, x, True),
    "max pool": lambda g, x: pool(g, x, "MAX_POOL_2D"),
    "average pool": lambda g, x: pool(g, x, "AVERAGE_POOL_2D"),
    "mean": lambda g, x: mean(g, x, [1, 2]),
    "mean from the end": lambda g, x: mean(g, x, [-2, -3]),
    "mean of columns": lambda g, x: mean(g, x, [1]),
    "softmax": softmax,
    "concatenation": concatenation,
    "pad": pad,
    "gate": gate,
    "add": lambda g, x: step(g, "ADD", x, step(g, "RELU6", x), table="AddOptions", fused_activation_function=1),
    "bias first": lambda g, x: step(g, "ADD", g.constant(normal(1, 1, 1, 4)), x),
    "bias of one value": lambda g, x: step(g, "ADD", x, g.constant(0.3)),
    "subtraction": lambda g, x: step(g, "SUB", x, g.constant(normal(4)), table="SubOptions"),
    "scale": lambda g, x: step(g, "MUL", g.constant(normal(4)), x),
    "gain": lambda g, x: step(g, "MUL", x, g.constant(0.3)),
    "square": lambda g, x: step(g, "MUL", x, x),
    "leaky relu": lambda g, x: step(g, "LEAKY_RELU", x, table="LeakyReluOptions", alpha=0.2),
    "prelu": lambda g, x: step(g, "PRELU", x, g.constant(normal(1, 1, 4))),
    "prelu of elements": lambda g, x: step(g, "PRELU", x, g.constant(normal(5, 6, 4))),
    "bounds": lambda g, x: step(g, "MINIMUM", step(g, "MAXIMUM", x, g.constant(-0.5)), g.constant(0.25)),
}


@interpreted
@pytest.mark.parametrize("name", MADE)
def test_operators_agree_with_the_interpreter(name: str) -> None:
    assert_interpreted(made(MADE[name]), normal(4, 5, 6, 4))


def coded(g: Graph, values: np.ndarray, scales: tuple[float, ...], zero_points: tuple[int, ...], axis: int) -> int:
    """A constant of int8 codes, as other converters write it; returns its values."""
    quantization = node("QuantizationParameters", scale=scales, zero_point=zero_points, quantized_dimension=axis)
    stored = g._tensor(values.shape, "int8", g._buffer(values.tobytes()), "codes", 0, quantization)
    return g.op("DEQUANTIZE", [stored], values.shape)


@interpreted
def test_int8_codes_with_one_scale_become_an_encoding() -> None:
    codes = np.arange(-128, 128, dtype=np.int8).reshape(8, 8, 1, 4)

    def build(g: Graph, x: int) -> int:
        inputs = [x, coded(g, codes, (0.25,), (3,), 0), g.constant(np.zeros(8, np.float32))]
        options = node("Conv2DOptions", padding=0, stride_w=1, stride_h=1)
        return g.op("CONV_2D", inputs, (1, 5, 6, 8), options=options)

    net = assert_interpreted(made(build), normal(3, 5, 6, 4))
    assert net.parameters["conv1/weight"].encoding == Uniform(8, 0.25, 131)


@interpreted
def test_int8_codes_with_a_scale_a_channel_become_float32() -> None:
    codes = np.random.default_rng(3).integers(-128, 128, (1, 5, 6, 4)).astype(np.int8)
    scales, zero_points = (0.5, 0.25, 2.0, 0.125), (0, 0, 0, 0)

    def build(g: Graph, x: int) -> int:
        values = coded(g, codes[:, :1, :1], scales, zero_points, 3)
        return step(g, "ADD", x, values)

    net = import_tflite(made(build))
    (bias,) = net.parameters.values()
    assert bias.encoding == Float32()
    np.testing.assert_array_equal(bias.values, codes[0, 0, 0] * np.array(scales, np.float32))


@interpreted
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.sampled_from([1, 32, 33, 64]),
    geometry=st.sampled_from([(0, 1), (1, 1), (0, 0), (1, 0)]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    relu=st.integers(0, 3),
    limits=st.booleans(),
)
def test_binary_convolutions_of_lce_agree_with_its_reference_kernel(
    seed: int, channels: int, geometry: tuple[int, int], stride: int, dilation: int, relu: int, limits: bool
) -> None:
    padding, pad_values = geometry
    rng = np.random.default_rng(seed)
    zero_padded = (padding, pad_values) == (0, 0)
    if zero_padded and (channels % 2 or limits):
        return  # which LCE refuses, or never writes
    words = -(-channels // 32)
    bits = rng.integers(0, 2, (5, 3, 2, words * 32)).astype(np.uint8)
    bits[..., channels:] = 0
    out = [-(-s // stride) for s in ((6, 7) if padding == 0 else (6 - 2 * dilation, 7 - dilation))]
    options = {
        "channels_in": channels,
        "dilation_height_factor": dilation,
        "dilation_width_factor": dilation,
        "fused_activation_function": 0 if limits else relu,
        "pad_values": pad_values,
        "padding": padding,
        "stride_height": stride,
        "stride_width": stride,
    }

    def build(g: Graph, x: int) -> int:
        packed = g.op("LceQuantize", [x], (1, 6, 7, words), "int32")
        filters = g.constant(np.packbits(bits, axis=-1, bitorder="little").view(np.int32))
        if limits:
            most = 6 * channels
            limit = rng.choice([-(1 << 31), -1, 0, most // 2, most // 2 + 1, most, (1 << 31) - 1], 5)
            inputs = [packed, filters, -1, -1, g.constant(limit.astype(np.int32))]
            signs = g.op("LceBconv2d", inputs, (1, *out, 1), "int32", options)
            return g.op("LceDequantize", [signs], (1, *out, 5))
        multiplier, bias = (g.constant(rng.normal(size=5).astype(np.float32)) for _ in range(2))
        return g.op("LceBconv2d", [packed, filters, multiplier, bias, -1], (1, *out, 5), options=options)

    x = rng.normal(size=(3, 6, 7, channels)).astype(np.float32)
    # LCE adds taps * multiplier to the bias at once, and rounds there.
    net = assert_interpreted(made(build, (1, 6, 7, channels)), x, rounding=6 * channels * 4 * 2.0**-23)
    if limits:
        assert any(isinstance(op, Threshold) for op in net.ops)
