"""Import of TFLite and LCE flatbuffers: what the file's own interpreter computes, or a refusal in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from converters.flatbuffer import node, write
from converters.lce_graph import Graph, reshape
from converters.tflite import import_tflite, joined
from tests.networks import NETWORKS, WRITTEN, Author, dyadic_inputs
from zobnn_edge import datasets, model_file, reference, zoo
from zobnn_edge.cli.main import run
from zobnn_edge.encoding import Binary, Float32, Uniform
from zobnn_edge.engine import Engine
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.format import MAX_DIM
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, Conv, DynamicRange, MaxPool, Sign, Threshold
from zobnn_edge.rewrite import simplify

interpreted = pytest.mark.skipif(not lce_interpreter.installed(), reason="larq_compute_engine is not installed")
DATA = Path(os.environ.get("ZOBNN_DATA", "")) / "mlperf_tiny"
needs_mlperf_tiny = [
    pytest.mark.needs_data,
    pytest.mark.skipif(not (os.environ.get("ZOBNN_DATA") and DATA.exists()), reason="ZOBNN_DATA has no mlperf_tiny"),
]


def normal(*shape: int) -> np.ndarray:
    """Random float32 numbers, the same ones for the same shape."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def assert_same(net: Network, back: Network, x: np.ndarray) -> None:
    """Two networks give scores of the same bits."""
    np.testing.assert_array_equal(reference.run(back, x).view("u4"), reference.run(net, x).view("u4"))


# --- files of zobnn-edge ---


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_network_comes_back_with_the_same_scores(name: str) -> None:
    net = NETWORKS[name]()
    back = import_tflite(lce.write(net))
    assert_same(net, back, dyadic_inputs(net, 8))
    assert back.name == net.name
    folded = name in ("binary_chain-float32", "thresholds-float32")  # only thresholds are left of their batch norms
    if not folded:
        assert {p.name: p.encoding for p in back.parameters.values()} == {
            p.name: p.encoding for p in net.parameters.values()
        }
        assert ParameterImage.of(back).data == ParameterImage.of(net).data
        assert [type(op) for op in back.ops] == [type(op) for op in simplify(joined(net)).ops]


STEPS = ("conv", "affine", "prelu", "clip", "max", "average", "add", "mul", "concat", "pad", "sign", "real", "gain")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any operations after one another, any encodings."""
    a = Author((6, 7, draw(st.sampled_from([1, 3, 33]))), draw(st.integers(0, 1000)))
    bits = draw(st.sampled_from([None, 3, 8, 12, 16]))
    if draw(st.booleans()):
        a.thermometer(draw(st.integers(1, 20)), draw(st.sampled_from([1.0, 4.0]))).unpack()
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=6)):
        padding, pad_value = draw(st.sampled_from([("valid", 0), ("same", 0), ("same", 1)]))
        dilation = draw(st.sampled_from([(1, 1), (1, 2)]))
        before, fits = a.x, min(a.shape[:2]) >= 3
        if step == "conv" and fits:
            a.sign().conv(8, 2, 1, padding, pad_value, dilation=dilation)
            follow = draw(st.sampled_from(["nothing", "threshold", "affine and sign", "affine"]))
            if follow == "threshold":
                a.threshold(bits).unpack()
            elif follow != "nothing":
                a = a.affine(bits).sign().unpack() if follow == "affine and sign" else a.affine(bits)
        elif step == "real" and fits:
            weight = draw(st.sampled_from(["binary", bits]))
            groups = draw(st.sampled_from([1, a.shape[2]]))
            a.conv(2 * groups, 2, 1, padding, pad_value, weight, groups, dilation).affine(bits, scale=False)
        elif step in ("max", "average") and fits:
            a = a.max_pool(2, 1) if step == "max" else a.average_pool(2, 2, padding)
        elif step in ("add", "mul", "concat"):
            other = a.affine(bits).x
            a.x = before
            a = {"add": a.add, "mul": a.mul, "concat": a.concat}[step](other)
        elif step == "affine":
            a.affine(bits)
        elif step == "prelu":
            a.prelu(bits, by_element=draw(st.booleans()))
        elif step == "clip":
            a.clip(*draw(st.sampled_from([(0.0, np.inf), (-0.5, 0.75), (-1.0, np.inf)])))
        elif step == "pad":
            a.pad((0, 1), (1, 0), draw(st.sampled_from([0.0, 1.0, -0.5])))
        elif step == "sign":
            a.sign().max_pool(2, 1, "same").unpack()
        elif step == "gain":
            a.gain(0.375)
    if draw(st.booleans()) and np.prod(a.shape) <= MAX_DIM:
        a.reshape((1, 1, int(np.prod(a.shape)))).dense(5, weight=bits).affine(bits)
    return a.gain(0.5).network()


@settings(max_examples=60, deadline=None)
@given(networks())
def test_any_written_network_comes_back_with_the_same_scores(net: Network) -> None:
    blob, x = lce.write(net), dyadic_inputs(net, 2)
    back = import_tflite(blob)
    assert_same(net, back, x)
    assert_same(net, import_tflite(lce.write(back)), x)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 15),
    st.floats(2.0**-20, 2.0**20, width=32),
    st.integers(-(1 << 23), 1 << 23) | st.integers(-300, 70000),
)
def test_every_code_comes_back(bits: int, scale: float, zero_point: int) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b = Builder("test", (1, 1, values.size))
    b.parameter("affine/bias", "affine", "bias", values, encoding)
    net = b.network(b.add(Affine("affine", b.input, "y", None, "affine/bias")))
    parameter = import_tflite(lce.write(net)).parameters["affine/bias"]
    assert parameter.encoding == encoding
    np.testing.assert_array_equal(parameter.values, net.parameters["affine/bias"].values)


def test_a_kernel_of_two_convolutions_stays_one() -> None:
    a = Author((5, 5, 32), 7)
    stem = a.x
    high = a.sign().conv(8, 3, padding="same").x
    a.x = stem
    low = a.affine(None).sign().x
    a.x = a.b.add(Conv("low", low, "low", "conv2/weight", padding="same"))
    net = a.add(high).network()
    back = import_tflite(lce.write(net))
    assert list(back.parameters).count("conv2/weight") == 1
    assert len([op for op in back.ops if isinstance(op, Conv) and op.weight == "conv2/weight"]) == 2
    assert_same(net, back, dyadic_inputs(net, 3))


# --- files of others, made by hand ---


def made(build: Callable[[Graph, int], int], shape: tuple[int, ...] = (1, 5, 6, 4)) -> bytes:
    """A file whose operators `build` appends."""
    graph = Graph()
    x = graph.tensor(shape)
    return graph.file("made", x, build(graph, x))


def assert_interpreted(blob: bytes, x: np.ndarray, rounding: float = 0.0) -> Network:
    """The imported network agrees with the interpreter of LCE; returns it. `rounding`: what LCE loses itself."""
    net = import_tflite(blob)
    expected = lce_interpreter.run(blob, x)
    np.testing.assert_allclose(
        reference.run(net, x), expected, rtol=1e-5, atol=rounding + 1e-5 * float(np.abs(expected).max())
    )
    return net


def conv(g: Graph, x: int, relu: int = 0, stride: int = 1, padding: int = 0, groups: int = 1, dilation: int = 1) -> int:
    options = node(
        "Conv2DOptions",
        padding=padding,
        stride_w=stride,
        stride_h=stride,
        fused_activation_function=relu,
        dilation_w_factor=dilation,
        dilation_h_factor=1,
    )
    inputs = [x, g.constant(normal(8, 3, 2, 4 // groups)), g.constant(normal(8))]
    w = 6 if padding == 0 else 6 - dilation
    shape = (1, -(-(5 if padding == 0 else 3) // stride), -(-w // stride), 8)
    return g.op("CONV_2D", inputs, shape, options=options)


def depthwise(g: Graph, x: int, dilation: int) -> int:
    options = node(
        "DepthwiseConv2DOptions",
        padding=0,
        stride_w=1,
        stride_h=1,
        depth_multiplier=2,
        fused_activation_function=3,
        dilation_w_factor=dilation,
        dilation_h_factor=2,
    )
    inputs = [x, g.constant(normal(1, 3, 3, 8)), g.constant(normal(8))]
    return g.op("DEPTHWISE_CONV_2D", inputs, (1, 5, 6, 8), options=options)


def pool(g: Graph, x: int, name: str) -> int:
    options = node(
        "Pool2DOptions",
        padding=0,
        stride_w=2,
        stride_h=1,
        filter_width=3,
        filter_height=2,
        fused_activation_function=1,
    )
    return g.op(name, [x], (1, 5, 3, 4), options=options)


def dense(g: Graph, x: int, flatten: bool) -> int:
    if flatten:
        x = g.op("RESHAPE", [x, g.constant(np.array([-1, 120], np.int32))], (1, 120), options=reshape((-1, 120)))
    options = node("FullyConnectedOptions", fused_activation_function=1)
    return g.op("FULLY_CONNECTED", [x, g.constant(normal(7, 120)), g.constant(normal(7))], (1, 7), options=options)


def mean(g: Graph, x: int, axes: list[int]) -> int:
    return g.op("MEAN", [x, g.constant(np.array(axes, np.int32))], (1, 4) if len(axes) == 2 else (1, 6, 4))


def softmax(g: Graph, x: int) -> int:
    return g.op("SOFTMAX", [mean(g, x, [1, 2])], (1, 4), options=node("SoftmaxOptions", beta=0.5))


def concatenation(g: Graph, x: int) -> int:
    options = node("ConcatenationOptions", axis=-1)
    return g.op("CONCATENATION", [x, x, g.op("RELU", [x], (1, 5, 6, 4))], (1, 5, 6, 12), options=options)


def step(g: Graph, name: str, *inputs: int, table: str | None = None, **options: Any) -> int:
    return g.op(name, inputs, (1, 5, 6, 4), options=node(table, **options) if table else None)


def pad(g: Graph, x: int) -> int:
    widths = np.array([(0, 0), (1, 2), (0, 3), (0, 0)], np.int32)
    return g.op("PAD", [x, g.constant(widths)], (1, 8, 9, 4))


def gate(g: Graph, x: int) -> int:
    values = g.op("RESHAPE", [mean(g, x, [1, 2])], (1, 1, 1, 4), options=reshape((1, 1, 1, 4)))
    return step(g, "MUL", values, x, table="MulOptions", fused_activation_function=2)


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


# --- files of LCE's converter ---


@pytest.fixture(scope="module")
def larq() -> Any:
    """Larq, TensorFlow and LCE's converter."""
    for package in ("larq", "tensorflow", "larq_compute_engine"):
        pytest.importorskip(package)
    from converters.larq import keras

    return keras()


def converted(larq: Any, *stack: Any) -> bytes:
    """A model with random batch norms, through LCE's converter."""
    tf, _ = larq
    import larq_compute_engine

    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(stack)
    randomise_batch_norms(tf, model)
    return bytes(larq_compute_engine.convert_keras_model(model))


def randomise_batch_norms(tf: Any, model: Any) -> None:
    """Scales of both signs, offsets, means and variances as training might leave them."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            size = layer.moving_mean.shape
            values = {
                "gamma": rng.choice([-1, 1], size) * rng.uniform(0.5, 1.5, size),
                "beta": rng.normal(0, 0.3, size),
                "moving_mean": rng.normal(0, 0.3, size),
                "moving_variance": rng.uniform(0.5, 1.5, size),
            }
            for weight in layer.weights:
                weight.assign(values[weight.name.rpartition("/")[2].partition(":")[0]])


def test_binary_network_of_lces_converter(larq: Any) -> None:
    """Bit-packed convolutions, a max-pool of bits, negative batch norms, a binary dense layer."""
    tf, lq = larq
    layers, signs = tf.keras.layers, {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    blob = converted(
        larq,
        layers.Input((10, 10, 3)),
        lq.layers.QuantConv2D(32, 3, kernel_quantizer="ste_sign", padding="same"),
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(64, 3, padding="same", pad_values=1.0, use_bias=False, **signs),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        lq.layers.QuantConv2D(40, 3, use_bias=False, **signs),
        layers.BatchNormalization(),
        layers.Flatten(),
        lq.layers.QuantDense(16, use_bias=False, **signs),
        layers.BatchNormalization(),
        layers.Activation("softmax"),
    )
    net = assert_interpreted(blob, normal(8, 10, 10, 3))
    encodings = [net.parameters[op.weight].encoding for op in net.ops if isinstance(op, Conv)]
    assert encodings == [Binary(), Binary(row=32), Binary(row=64), Binary(row=40)]
    kinds = [net.tensors[op.output].kind for op in net.ops if isinstance(op, MaxPool)]
    assert kinds == ["binary"]


def test_residual_network_of_lces_converter(larq: Any) -> None:
    """Zero padding, PReLU, a shortcut, groups, dilation, float first and last layer."""
    tf, lq = larq
    layers, signs = tf.keras.layers, {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    import larq_compute_engine

    tf.keras.utils.set_random_seed(2)
    start = layers.Input((9, 9, 3))
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(start)
    x = shortcut = layers.DepthwiseConv2D(3, padding="same")(x)
    x = lq.layers.QuantConv2D(64, 3, padding="same", use_bias=False, **signs)(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="uniform")(x)
    x = layers.Add()([layers.BatchNormalization()(x), shortcut])
    x = lq.layers.QuantConv2D(64, 3, padding="same", pad_values=1.0, groups=2, **signs)(x)
    x = lq.layers.QuantConv2D(64, 2, dilation_rate=2, use_bias=False, **signs)(x)
    x = layers.GlobalAveragePooling2D()(layers.concatenate([x, layers.LeakyReLU(0.1)(x)]))
    model = tf.keras.Model(start, layers.Dense(7, activation="softmax")(x))
    blob = bytes(larq_compute_engine.convert_keras_model(model))
    net = assert_interpreted(blob, normal(8, 9, 9, 3))
    assert sum(isinstance(op, (Sign, Threshold)) for op in net.ops) == 3


@pytest.mark.study
@pytest.mark.parametrize("name", ["sota.QuickNet", "literature.BinaryDenseNet28", "literature.BiRealNet"])
def test_networks_of_larq_zoo_through_lces_converter(larq: Any, name: str) -> None:
    """Whole networks at 64x64, random weights and batch norms: logits agree, but where rounding turns a sign."""
    tf, _ = larq
    zoo = pytest.importorskip("larq_zoo")
    import larq_compute_engine

    tf.keras.utils.set_random_seed(3)
    module, _, kind = name.partition(".")
    whole = getattr(getattr(zoo, module), kind)(input_shape=(64, 64, 3), weights=None, num_classes=10)
    randomise_batch_norms(tf, whole)
    logits = next(layer for layer in reversed(whole.layers) if isinstance(layer, tf.keras.layers.Dense))
    blob = bytes(larq_compute_engine.convert_keras_model(tf.keras.Model(whole.input, logits.output)))
    model = Model.of(import_tflite(blob))
    x = np.random.default_rng(4).uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)
    expected, scores = lce_interpreter.run(blob, x), Engine(model.plan).run(model.image.data, x)
    differences = np.abs(scores - expected).max(axis=1) / np.abs(expected).max(axis=1)
    print(f"\n{name}: {len(blob):,} bytes; largest difference of each input {np.sort(differences)}")
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    assert np.median(differences) < 1e-5
    assert_interpreted(lce.write(model.network), x[:1])


# --- int8 weights and float32 activations ---


def test_weights_of_8_bits_meet_inputs_rounded_at_run_time(larq: Any) -> None:
    """What the converter makes by default: dense and convolutions, with one scale and with one a channel."""
    tf, _ = larq
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(5)
    start = layers.Input((9, 10, 3))
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(start)
    x = layers.DepthwiseConv2D(5, padding="same", bias_initializer="normal")(x)
    x = layers.Conv2D(32, 1)(layers.ReLU(6.0)(x))
    x = layers.Dense(32, activation="sigmoid")(layers.Flatten()(layers.AveragePooling2D((5, 5))(x)))
    model = tf.keras.Model(start, layers.Dense(40)(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    blob = bytes(converter.convert())
    net = import_tflite(blob)
    rounded = {op.symmetric for op in net.ops if isinstance(op, DynamicRange)}
    assert rounded == {False}, "inputs are rounded where weights have 8 bits"
    inputs = normal(50, 9, 10, 3)
    scores, expected = assert_engine(net, inputs), float_reference_kernels(larq, blob, inputs)
    differences = np.abs(scores - expected).max(axis=1) / np.abs(expected).max()
    assert np.median(differences) < 1e-5, "where a sum falls next to a tie, a step of 8 bits may differ"
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))


def float_reference_kernels(larq: Any, blob: bytes, x: np.ndarray) -> np.ndarray:
    """Scores of TFLite's reference kernels of a file that takes and gives float32."""
    tf, _ = larq
    from tensorflow.lite.python.interpreter import OpResolverType

    interpreter = tf.lite.Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    scores = []
    for one in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one[np.newaxis])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(scores)


# --- int8 ---


def quantized(larq: Any, model: Any) -> bytes:
    """A Keras model as an int8 file, calibrated on normal inputs."""
    tf, _ = larq
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[np.newaxis]] for x in normal(20, *model.input_shape[1:]))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def reference_kernels(larq: Any, blob: bytes, x: np.ndarray) -> np.ndarray:
    """Scores of TFLite's reference kernels on float inputs, quantized as the file says."""
    tf, _ = larq
    from tensorflow.lite.python.interpreter import OpResolverType

    interpreter = tf.lite.Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = source["quantization"]
    steps = x / np.float32(scale)
    codes = np.clip(np.trunc(steps + np.copysign(0.5, steps)) + zero_point, -128, 127).astype(np.int8)
    scores = []
    for one in codes:
        interpreter.set_tensor(source["index"], one[np.newaxis])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(result["index"])[0])
    scale, zero_point = result["quantization"]
    return (np.array(scores, np.int32) - zero_point).astype(np.float32) * np.float32(scale)


@pytest.mark.parametrize("activation", ["relu", None])
def test_int8_models_give_the_bits_of_the_reference_kernels(larq: Any, activation: str | None) -> None:
    tf, _ = larq
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(4)
    start = layers.Input((9, 10, 3))
    x = shortcut = layers.Conv2D(12, 3, strides=2, padding="same", activation=activation)(start)
    x = layers.DepthwiseConv2D(3, padding="same", activation=layers.ReLU(6.0) if activation else None)(x)
    x = layers.Conv2D(12, 1, bias_initializer="normal")(x)
    x = layers.MaxPooling2D(2, 1, padding="same")(layers.Add()([x, shortcut]))
    x = layers.Conv2D(8, (3, 2), padding="same", activation=activation)(x)
    x = layers.Flatten()(layers.AveragePooling2D((5, 5))(x))
    x = layers.Dense(7, activation="softmax" if activation else None)(x)
    blob = quantized(larq, tf.keras.Model(start, x))
    inputs = normal(100, 9, 10, 3)
    net = import_tflite(blob)
    assert {t.kind for t in net.tensors.values()} == {"real", "int8"}
    scores = assert_engine(net, inputs)
    np.testing.assert_array_equal(scores, reference_kernels(larq, blob, inputs))
    assert len(np.unique(scores, axis=0)) > 50


def assert_engine(net: Network, x: np.ndarray) -> np.ndarray:
    model = Model.of(net)
    scores = Engine(model.plan).run(model.image.data, x)
    np.testing.assert_array_equal(scores.view("u4"), reference.run(net, x).view("u4"))
    return scores


@pytest.mark.study
@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "dataset", "accuracy"), [("resnet8_int8", "cifar10", 87.07), ("dscnn_int8", "kws", 90.1)]
)
def test_published_int8_models(larq: Any, name: str, dataset: str, accuracy: float) -> None:
    """Bit-identical to the reference kernels on 1,000 inputs; accuracy of the engine on the whole test set.

    86.97 % and 90.2 % are measured with XNNPACK, whose softmax rounds otherwise: of ResNet-8's 10,000 images 103 have
    two best classes there.
    """
    net, data = zoo.load(name), datasets.load(dataset)
    model = Model.of(net)
    scores = Engine(model.plan).run(model.image.data, data.x)
    blob = zoo.PUBLISHED[name].path().read_bytes()
    x = net.pixels.apply(data.x[:1000]) if data.x.dtype == np.uint8 else data.x[:1000]
    expected = reference_kernels(larq, blob, x.reshape(-1, *net.input_shape))
    np.testing.assert_array_equal(scores[:1000], expected)
    measured = 100 * float((scores.argmax(1) == data.y).mean())
    print(f"\n{name}: {measured:.2f} % of {len(data):,}; 1,000 inputs as the reference kernels")
    assert measured == pytest.approx(accuracy, abs=1e-6)


# --- what is refused ---


def with_type(type: str) -> Callable[[Graph, int], int]:
    return lambda g, x: g.op("RELU", [g.op("QUANTIZE", [x], (1, 5, 6, 4), type)], (1, 5, 6, 4))


def conv_of_activations(g: Graph, x: int) -> int:
    return g.op("CONV_2D", [x, x], (1, 5, 6, 4), options=node("Conv2DOptions", stride_w=1, stride_h=1))


REFUSED: dict[str, tuple[Callable[[Graph, int], int], str]] = {
    "operator": (lambda g, x: step(g, "TANH", step(g, "RELU", x)), r"operator 1 \(TANH\): not supported"),
    "custom operator": (lambda g, x: step(g, "MyOp", x), r"operator 0 \(MyOp\): not supported"),
    "int8": (with_type("int8"), r"operator 0 \(QUANTIZE\): an activation of type int8 with 0 scales"),
    "kernel that is computed": (conv_of_activations, r"operator 0 \(CONV_2D\): its input 1 must be a constant"),
    "activation": (
        lambda g, x: step(g, "ADD", x, x, table="AddOptions", fused_activation_function=4),
        r"operator 0 \(ADD\): fused activation 4",
    ),
    "constant of elements": (lambda g, x: step(g, "ADD", x, g.constant(normal(5, 6, 4))), "only one a channel"),
    "shape": (lambda g, x: g.op("RELU", [x], (1, 5, 5, 4)), r"operator 0 \(RELU\): makes .* the file says"),
    "batch": (lambda g, x: g.op("RELU", [x], (2, 5, 6, 4)), "only a batch of 1"),
    "axis": (
        lambda g, x: g.op("CONCATENATION", [x, x], (1, 10, 6, 4), options=node("ConcatenationOptions", axis=1)),
        "along axis 1",
    ),
    "mean of channels": (lambda g, x: g.op("MEAN", [x, g.constant(np.array([3], np.int32))], (1, 5, 6)), "a mean over"),
    "rounding": (lambda g, x: step(g, "ROUND", x), r"operator 0 \(ROUND\): not supported"),
    "nothing": (lambda g, x: g.tensor((1, 5, 6, 4)), "the output does not depend on the input"),
    "unknown source": (lambda g, x: step(g, "ADD", x, g.tensor((1, 5, 6, 4))), "neither a constant nor written"),
    "options": (lambda g, x: g.op("MAX_POOL_2D", [x], (1, 5, 6, 4)), "must be positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason) as caught:
        import_tflite(made(build))
    assert "\n" not in str(caught.value)


def test_a_missing_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        import_tflite(tmp_path / "gone.tflite")
    (tmp_path / "text.tflite").write_text("not a model, but long enough")
    with pytest.raises(ModelError, match=r"text\.tflite: not a TFLite flatbuffer"):
        import_tflite(tmp_path / "text.tflite")


def small_files() -> list[bytes]:
    """Files that use most tables and operators, of a few kilobytes each."""
    a = Author((4, 4, 2), 1)
    a.thermometer(16, 4.0).conv(4, 2).threshold(8).conv(4, 2, padding="same").affine(12).prelu(None)
    a.conv(8, 2, weight=8, groups=4).pad((1, 0), (0, 1)).clip(-1, 2).global_pool()
    return [
        lce.write(a.affine(8, scale=False).softmax().network()),
        made(lambda g, x: conv(g, step(g, "PRELU", x, g.constant(normal(4))), 1, groups=2)),
        made(lambda g, x: depthwise(g, gate(g, x), 1)),
    ]


FILES = small_files()


@settings(max_examples=400, deadline=2000)
@given(st.data())
def test_a_damaged_file_is_imported_or_refused(data: st.DataObject) -> None:
    """Never another exception, a hang (the deadline) or an allocation beyond the file's size."""
    blob = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    size = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
    with suppress(ModelError, InputError):
        import_tflite(bytes(blob[:size])).validate()


@pytest.mark.parametrize("file", range(len(FILES)))
def test_every_truncation_is_refused(file: int) -> None:
    blob = FILES[file]
    for size in range(0, len(blob) - 16, 7):
        with pytest.raises(ModelError):
            import_tflite(blob[:size])


def test_tables_that_name_each_other_over_and_over_are_refused_at_once() -> None:
    """A vector of subgraphs, each with the same vector of tensors: 90,000 tables in a file of 3 KB."""
    tensor = node("Tensor", shape=(1, 4), type=0, buffer=0, name="")
    graph = node("SubGraph", tensors=(tensor,) * 300, inputs=(0,), outputs=(0,), operators=())
    blob = write(node("Model", version=3, subgraphs=(graph,) * 300, buffers=(node("Buffer"),)))
    start = time.monotonic()
    with pytest.raises(ModelError, match="more than 65536 tables"):
        import_tflite(blob)
    assert time.monotonic() - start < 10


def test_importing_needs_neither_tensorflow_nor_larq() -> None:
    code = (
        "import sys; from converters import tflite; "
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'larq', 'larq_compute_engine') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the command line and real models ---


def test_import_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = NETWORKS["residual-8"]()
    (tmp_path / "net.tflite").write_bytes(lce.write(net))
    np.save(tmp_path / "x.npy", dyadic_inputs(net, 3))
    assert run(["import", "net.tflite", "-o", "net.zob"]) == 0
    assert model_file.load(tmp_path / "net.zob").network.input_shape == net.input_shape
    for source in ("net.zob", "net.tflite"):
        assert run(["predict", source, "--inputs", "x.npy", "-o", "y.npy"]) == 0
        np.testing.assert_array_equal(np.load("y.npy"), reference.run(net, np.load("x.npy")))
    (tmp_path / "cut.tflite").write_bytes(lce.write(net)[:900])
    assert run(["import", "cut.tflite", "-o", "cut.zob"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "cut.zob").exists()


def assert_engine_is_bit_identical(model: Model, x: np.ndarray) -> None:
    scores = Engine(model.plan).run(model.image.data, x)
    np.testing.assert_array_equal(scores.view("u4"), reference.run(model.network, x).view("u4"))


@pytest.mark.study
class TestModelsOfMlperfTiny:
    """The float32 files of MLPerf Tiny reach in the engine what TensorFlow measures."""

    pytestmark = needs_mlperf_tiny

    def test_resnet8(self) -> None:
        model = Model.of(import_tflite(DATA / "ic_resnet8_float.tflite"))
        data = datasets.load("cifar10", "test")
        assert_engine_is_bit_identical(model, data.x[:20])
        engine = Engine(model.plan)
        right = sum(
            int((engine.run(model.image.data, data.x[i : i + 500]).argmax(axis=1) == data.y[i : i + 500]).sum())
            for i in range(0, len(data), 500)
        )
        print(f"\nResNet-8: {right / len(data):.2%} of {len(data):,} images")
        assert len(data) == 10_000
        assert right == 8719

    def test_dscnn(self) -> None:
        """Its file holds int8 weights, before which TFLite rounds activations to 8 bits."""
        model = Model.of(import_tflite(DATA / "kws_dscnn_float.tflite"))
        with np.load(DATA / "kws01.npz") as arrays:
            x = (arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029)
            y = arrays["y"]
        assert_engine_is_bit_identical(model, x[:20])
        right = int((Engine(model.plan).run(model.image.data, x).argmax(axis=1) == y).sum())
        print(f"\nDS-CNN: {right} of {len(y):,} recordings")
        assert right == 905
