"""Operators of int8 files, those included that the engine makes of several: the bits of TFLite's reference kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converters.flatbuffer import node
from converters.lce_graph import Graph
from converters.tflite import import_tflite
from converters.tflite_file import parse
from tests.conformance.tflite_files import (
    assert_engine,
    float_reference_kernels,
    made,
    normal,
    quantized,
    reference_kernels,
    stored,
)
from zobnn_edge.errors import ModelError

SHAPE = (6, 7, 4)
Build = Callable[[Any, Any], Any]


def conv(layers: Any, x: Any, filters: int = 4) -> Any:
    return layers.Conv2D(filters, 3, padding="same", bias_initializer="normal")(x)


def gate(layers: Any, x: Any) -> Any:
    """Squeeze and excitation."""
    return layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))


MODELS: dict[str, tuple[list[str], Build]] = {
    "mean": (["MEAN"], lambda k, x: k.GlobalAveragePooling2D()(conv(k, x))),
    "rows": (["MEAN"], lambda k, x: _mean(conv(k, x), 1)),
    "columns": (["MEAN"], lambda k, x: _mean(conv(k, x), 2)),
    "gate": (["MEAN", "FULLY_CONNECTED", "LOGISTIC", "MUL"], lambda k, x: k.Multiply()([gate(k, x), conv(k, x)])),
    "product": (["MUL"], lambda k, x: k.Multiply()([conv(k, x), x])),
    "swish": (["LOGISTIC", "MUL"], lambda k, x: k.Activation("swish")(conv(k, x))),
    "concatenation": (["CONCATENATION", "RELU"], lambda k, x: k.ReLU()(k.Concatenate()([conv(k, x, 3), x, x]))),
    "relu6": (["RELU6"], lambda k, x: k.ReLU(6.0)(x)),
    "pad": (["PAD", "CONV_2D"], lambda k, x: conv(k, k.ZeroPadding2D(((1, 0), (2, 3)))(conv(k, x)))),
    "norm first": (["MUL", "ADD", "CONV_2D"], lambda k, x: conv(k, k.BatchNormalization()(x))),
    "number": (["CONCATENATION", "MUL"], lambda k, x: k.Concatenate()([x, x]) * 0.37),
    "prelu": (["PRELU"], lambda k, x: k.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(conv(k, x))),
    "prelu of elements": (["PRELU"], lambda k, x: k.PReLU(alpha_initializer="normal")(conv(k, x))),
    "leaky relu": (["LEAKY_RELU"], lambda k, x: k.LeakyReLU(0.2)(conv(k, x))),
    "limited mean": (["AVERAGE_POOL_2D"], lambda k, x: k.ReLU()(k.AveragePooling2D(2)(conv(k, x)))),
    "limited maximum": (["MAX_POOL_2D"], lambda k, x: k.ReLU()(k.MaxPooling2D(3, 2, padding="same")(conv(k, x)))),
    "dense of a map": (["FULLY_CONNECTED"], lambda k, x: k.Dense(5, activation="relu")(conv(k, x))),
}
"""Which operators the converter makes of a model, and the model."""


def _mean(x: Any, axis: int) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(x, axis=axis)


@pytest.mark.parametrize("name", MODELS)
def test_models_give_the_bits_of_the_reference_kernels(larq: Any, name: str) -> None:
    tf, _ = larq
    operators, build = MODELS[name]
    tf.keras.utils.set_random_seed(1)
    start = tf.keras.layers.Input(SHAPE, batch_size=1)
    model = tf.keras.Model(start, build(tf.keras.layers, start))
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.set_weights([*normal(3, 4), abs(normal(4)) + 0.5])
    blob, inputs = quantized(larq, model), 1.3 * normal(40, *SHAPE)
    named = [op.name for op in parse(blob).operators]
    assert [n for n in named if n in operators][-len(operators) :] == operators, named
    net = import_tflite(blob)
    scores = assert_engine(net, inputs)
    expected = reference_kernels(larq, blob, inputs)
    np.testing.assert_array_equal(scores, expected.reshape(scores.shape))
    assert len(np.unique(scores, axis=0)) > 30


# --- every number there is, in files made by hand ---


def numbers(g: Graph, x: int, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
    y = stored(g, shape, scale, zero_point)
    g._append("QUANTIZE", [x], y)
    return y


OPTIONS = {"LEAKY_RELU": node("LeakyReluOptions", alpha=0.3)}


@pytest.mark.parametrize("name", ["QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "LOGISTIC"])
def test_all_256_numbers_become_those_of_the_reference_kernels(larq: Any, name: str) -> None:
    shape, results = (1, 16, 16, 1), 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        (a, b), (at, to) = rng.uniform(0.005, 0.12, 2).astype(np.float32), rng.integers(-128, 128, 2)
        if name == "LOGISTIC":
            b, to = np.float32(1 / 256), -128

        def build(g: Graph, x: int, a: float = float(a), b: float = float(b), at: int = at, to: int = to) -> int:
            y = stored(g, shape, b, int(to))
            g._append(name, [numbers(g, x, shape, a, int(at))], y, OPTIONS.get(name))
            return g.op("DEQUANTIZE", [y], shape)

        blob = made(build, shape)
        x = ((np.arange(-128, 128) - at) * a).astype(np.float32).reshape(shape)
        scores, expected = assert_engine(import_tflite(blob), x), float_reference_kernels(larq, blob, x)
        np.testing.assert_array_equal(scores, expected.reshape(scores.shape))
        results += len(np.unique(scores))
    assert results > 200


@pytest.mark.parametrize("seed", range(3))
def test_products_of_all_pairs_of_numbers_are_those_of_the_reference_kernels(larq: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (a, b, c), (at, bt, ct) = rng.uniform(0.005, 0.03, 3).astype(np.float32), rng.integers(-128, 128, 3)
    if seed == 0:
        at, bt, ct, c = -128, 127, 0, np.float32(0.2)  # the largest products there are
    shape, one = (1, 256, 256, 2), (1, 256, 256, 1)

    def build(g: Graph, x: int) -> int:
        def channel(weights: list[float], scale: float, zero_point: int) -> int:
            kernel = g.constant(np.array(weights, np.float32).reshape(1, 1, 1, 2))
            options = node("Conv2DOptions", padding=0, stride_w=1, stride_h=1)
            real = g.op("CONV_2D", [x, kernel, g.constant(np.zeros(1, np.float32))], one, options=options)
            return numbers(g, real, one, scale, int(zero_point))

        y = stored(g, one, float(c), int(ct))
        g._append("MUL", [channel([1, 0], float(a), at), channel([0, 1], float(b), bt)], y, node("MulOptions"))
        return g.op("DEQUANTIZE", [y], one)

    all_numbers = np.arange(-128, 128)
    x = np.stack(np.meshgrid((all_numbers - at) * a, (all_numbers - bt) * b), axis=-1).astype(np.float32)[None]
    blob = made(build, shape)
    scores, expected = assert_engine(import_tflite(blob), x), float_reference_kernels(larq, blob, x)
    np.testing.assert_array_equal(scores, expected.reshape(scores.shape))
    assert len(np.unique(scores)) > 60


def test_numbers_that_are_moved_to_another_scale_are_refused() -> None:
    def build(g: Graph, x: int) -> int:
        y = stored(g, (1, 5, 6, 8), 0.25, 0)
        a = numbers(g, x, (1, 5, 6, 4), 0.5, 0)
        g._append("CONCATENATION", [a, a], y, node("ConcatenationOptions", axis=3))
        return g.op("DEQUANTIZE", [y], (1, 5, 6, 8))

    with pytest.raises(ModelError, match=r"\(CONCATENATION\): numbers of one scale become those of another"):
        import_tflite(made(build))
