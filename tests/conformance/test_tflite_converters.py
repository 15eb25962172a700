"""Files of LCE's and TFLite's own converters: the scores of their interpreters, in int8 bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters import lce, lce_interpreter
from converters.tflite import import_tflite
from tests.conformance.tflite_files import (
    assert_engine,
    assert_interpreted,
    float_reference_kernels,
    normal,
    quantized,
    reference_kernels,
)
from zobnn_edge.encoding import Binary
from zobnn_edge.engine import Engine
from zobnn_edge.model_file import Model
from zobnn_edge.operations import Conv, DynamicRange, MaxPool, Sign, Threshold


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
