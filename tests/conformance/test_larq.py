"""Imported Keras and Larq models compute what Keras computes: layers one by one, whole networks, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters.larq import import_keras
from tests.conformance.keras_models import (
    BINARY,
    SIGNS,
    check,
    conv,
    kinds,
    layers,
    lq,
    randomise,
    sequential,
    tf,
)
from zobnn_edge import layout, reference
from zobnn_edge.encoding import Binary
from zobnn_edge.operations import Conv, MaxPool

pytestmark = pytest.mark.usefixtures("reproducible_models")


# --- whole networks ---


def test_network_of_larqs_tutorial() -> None:
    """Pools and flattens as people write it; every hidden activation ends up as one bit."""
    model = randomise(
        sequential(
            (12, 12, 1),
            lq.layers.QuantConv2D(33, 3, name="first", **BINARY),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantConv2D(40, 3, **SIGNS),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            lq.layers.QuantDense(64, name="dense", **SIGNS),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantDense(10, **SIGNS),
            layers.BatchNormalization(scale=False),
            layers.Activation("softmax"),
        )
    )
    net = check(model)
    stored = {net.tensors[group[-1].output].kind for group in layout.fuse(net)[:-2]}
    assert stored == {"binary"}
    assert net.parameters["first/weight"].encoding == Binary()
    assert net.parameters["dense/weight"].encoding == Binary(row=40)
    assert net.parameters["dense/weight"].shape == (64, 3, 3, 40)


def test_residual_network_with_prelu_and_real_ends() -> None:
    """Functional, as Bi-Real Net: shortcut through average pool and 1x1 convolution, PReLU on both sides of it."""
    x = start = layers.Input((12, 10, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for filters, stride in ((16, 1), (24, 2)):
        shortcut = x
        if stride == 2:
            shortcut = layers.AveragePooling2D(2, padding="same")(x)
            shortcut = layers.Conv2D(filters, 1, use_bias=True)(shortcut)
            shortcut = layers.BatchNormalization()(shortcut)
        x = lq.layers.QuantConv2D(filters, 3, strides=stride, padding="same", pad_values=1.0, **SIGNS)(x)
        x = layers.PReLU(shared_axes=[1, 2])(x)
        x = layers.BatchNormalization()(x)
        x = layers.Add()([x, shortcut])
    x = layers.PReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    net = check(randomise(tf.keras.Model(start, layers.Dense(10, activation="softmax")(x))))
    assert not {"Affine", "PRelu", "Add", "Sign"} & {type(group[0]).__name__ for group in layout.fuse(net)[2:-1]} - {
        "Sign"
    }


def test_layer_names_become_parameter_names() -> None:
    net = import_keras(
        randomise(
            sequential(
                (6, 6, 2),
                layers.Conv2D(4, 3, name="c", activation="relu"),
                layers.PReLU(name="p"),
                layers.BatchNormalization(name="b"),
                layers.Flatten(),
                layers.Dense(3, name="d"),
            )
        ),
        name="mine",
    )
    assert net.name == "mine"
    assert [(p.name, p.layer, p.role, p.type) for p in net.parameters.values()] == [
        ("c/weight", "c", "weight", "L"),
        ("c/bias", "c", "bias", "S"),
        ("p/slope", "p", "slope", "S"),
        ("b/scale", "b", "scale", "S"),
        ("b/bias", "b", "bias", "S"),
        ("d/weight", "d", "weight", "L"),
        ("d/bias", "d", "bias", "S"),
    ]
    assert {op.name for op in net.ops} >= {"c", "c/bias", "c/activation", "p", "b", "d", "d/bias"}


# --- one layer at a time ---


LAYERS: dict[str, Callable[[], list[Any]]] = {
    "conv-valid": lambda: [layers.Conv2D(5, (3, 2), strides=(2, 1))],
    "conv-same-stride": lambda: [layers.Conv2D(5, (2, 5), strides=(3, 2), padding="same", activation="relu")],
    "conv-then-norm": lambda: [layers.Conv2D(5, 3), layers.BatchNormalization()],
    "conv-relu-norm": lambda: [layers.Conv2D(5, 3, activation="relu"), layers.BatchNormalization()],
    "binary-kernel": lambda: [conv(**BINARY)],
    "binary-kernel-bias-norm": lambda: [conv(kernel_quantizer="ste_sign"), layers.BatchNormalization()],
    "sign-sign-zero-padding": lambda: [layers.BatchNormalization(), conv(padding="same", **SIGNS)],
    "sign-sign-one-padding": lambda: [layers.BatchNormalization(), conv(padding="same", pad_values=1.0, **SIGNS)],
    "sign-sign-stride": lambda: [
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(6, (3, 4), strides=(2, 3), padding="same", pad_values=1.0, **SIGNS),
    ],
    "sign-input-real-kernel": lambda: [
        layers.BatchNormalization(),
        conv(input_quantizer="ste_sign", padding="same", pad_values=1.0),
    ],
    "scaled-kernel": lambda: [
        conv(input_quantizer="approx_sign", kernel_quantizer="magnitude_aware_sign"),
        layers.BatchNormalization(),
    ],
    "scaled-kernel-bias": lambda: [conv(input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign")],
    "scaled-kernel-real-input": lambda: [conv(kernel_quantizer="magnitude_aware_sign", activation="relu")],
    "ternary-kernel": lambda: [conv(input_quantizer="swish_sign", kernel_quantizer="ste_tern")],
    "dorefa-kernel": lambda: [conv(kernel_quantizer=lq.quantizers.DoReFa(2, mode="weights"))],
    "real-one-padding": lambda: [conv(padding="same", pad_values=1.0)],
    "no-op-quantizers": lambda: [conv(input_quantizer=lq.quantizers.NoOp(32), kernel_quantizer=lq.quantizers.NoOp(32))],
    "dense-on-a-map": lambda: [layers.Dense(4, activation="relu"), layers.Flatten(), layers.Dense(3)],
    "dense-scaled": lambda: [
        layers.Flatten(),
        lq.layers.QuantDense(7, input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign"),
    ],
    "max-pool-same": lambda: [layers.MaxPooling2D(3, 2, padding="same")],
    "average-pool-same": lambda: [layers.AveragePooling2D((3, 2), (2, 1), padding="same")],
    "global-max-pool": lambda: [layers.GlobalMaxPooling2D(), layers.Dense(5)],
    "global-average-pool-keepdims": lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()],
    "reshape": lambda: [layers.Reshape((4, 21, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)],
    "reshape-of-bits": lambda: [
        lq.quantizers.SteSign(),
        layers.Reshape((-1,)),
        lq.layers.QuantDense(30, **BINARY),
        layers.BatchNormalization(),
    ],
    "norm-of-a-vector": lambda: [layers.Flatten(), layers.BatchNormalization(), layers.Dense(3)],
    "norm-without-center": lambda: [layers.BatchNormalization(center=False, scale=False, epsilon=0.5)],
    "relu6": lambda: [layers.BatchNormalization(), layers.Activation(tf.nn.relu6)],
    "relu-layer": lambda: [layers.BatchNormalization(), layers.ReLU(max_value=0.75)],
    "hard-tanh": lambda: [layers.BatchNormalization(), layers.Activation("hard_tanh")],
    "linear": lambda: [layers.Activation("linear"), layers.Activation("relu")],
    "softmax-layer": lambda: [layers.Softmax()],
    "softmax-activation": lambda: [layers.Flatten(), layers.Dense(4, activation="softmax")],
    "prelu-each": lambda: [layers.PReLU()],
    "prelu-shared": lambda: [layers.PReLU(shared_axes=[1, 2])],
    "quantizer-layer": lambda: [lq.quantizers.SteSign(), lq.layers.QuantConv2D(20, 3, **BINARY)],
    "quantizer-as-activation": lambda: [
        layers.Conv2D(9, 3, activation=lq.quantizers.SwishSign()),
        layers.MaxPooling2D(2),
        lq.layers.QuantConv2D(20, 2, **BINARY),
    ],
    "activation-of-a-quantizer": lambda: [layers.Activation(lq.quantizers.ApproxSign()), layers.Conv2D(4, 3)],
    "average-of-bits": lambda: [lq.quantizers.SteSign(), layers.AveragePooling2D(2)],
    "ends-in-a-sign": lambda: [layers.BatchNormalization(), lq.quantizers.SteSign()],
    "without-effect": lambda: [
        layers.GaussianNoise(0.5),
        layers.SpatialDropout2D(0.5),
        layers.ActivityRegularization(0.1),
        layers.Activation("relu"),
    ],
    "grouped": lambda: [layers.Conv2D(6, 3, groups=2, padding="same")],
    "grouped-signs": lambda: [lq.layers.QuantConv2D(6, 3, groups=2, **SIGNS), layers.BatchNormalization()],
    "grouped-signs-of-words": lambda: [
        layers.Conv2D(64, 1),
        lq.layers.QuantConv2D(6, 3, groups=2, padding="same", **SIGNS),
    ],
    "dilated": lambda: [layers.Conv2D(6, 3, dilation_rate=(2, 1), padding="same")],
    "dilated-signs": lambda: [conv(dilation_rate=2, padding="same", pad_values=1.0, **SIGNS)],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu")],
    "depthwise-multiplier": lambda: [layers.DepthwiseConv2D((2, 3), depth_multiplier=3), layers.BatchNormalization()],
    "depthwise-dilated": lambda: [layers.DepthwiseConv2D(3, dilation_rate=2)],
    "depthwise-signs": lambda: [
        lq.layers.QuantDepthwiseConv2D(
            3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", padding="same", pad_values=1.0
        ),
        layers.BatchNormalization(),
    ],
    "depthwise-scaled": lambda: [
        lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="magnitude_aware_sign", depth_multiplier=2)
    ],
    "separable": lambda: [layers.SeparableConv2D(5, 3, strides=2, padding="same", activation="relu")],
    "separable-signs": lambda: [
        lq.layers.QuantSeparableConv2D(
            5,
            3,
            depth_multiplier=2,
            input_quantizer="ste_sign",
            depthwise_quantizer="magnitude_aware_sign",
            pointwise_quantizer="ste_sign",
        ),
        layers.BatchNormalization(),
    ],
    "zero-padding": lambda: [layers.ZeroPadding2D(((1, 0), (2, 3))), layers.Conv2D(4, 3)],
    "zero-padding-of-bits": lambda: [lq.quantizers.SteSign(), layers.ZeroPadding2D(1), layers.Conv2D(4, 3)],
    "leaky-relu": lambda: [layers.BatchNormalization(), layers.LeakyReLU(0.25)],
    "leaky-activation": lambda: [layers.BatchNormalization(), layers.Activation(tf.nn.leaky_relu)],
    "relu-with-slope": lambda: [layers.BatchNormalization(), layers.ReLU(negative_slope=0.5)],
    "relu-with-slope-and-bound": lambda: [layers.BatchNormalization(), layers.ReLU(1.5, negative_slope=0.5)],
    "rescaling": lambda: [layers.Rescaling(0.5), layers.Conv2D(3, 1)],
    "rescaling-with-offset": lambda: [layers.Rescaling(2.0, -0.5), layers.Conv2D(3, 1)],
    "rescaling-by-channel": lambda: [layers.Rescaling([1.0, 2.0, 0.5, -1.0], [0.0, 1.0, 2.0, 3.0])],
    "sigmoid": lambda: [layers.BatchNormalization(), layers.Activation("sigmoid")],
    "sigmoid-of-a-vector": lambda: [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="sigmoid")],
    "identity-lambda": lambda: [layers.Lambda(lambda x: x), layers.Conv2D(3, 3)],
    "pool-norm-sign": lambda: [layers.Conv2D(9, 2), layers.MaxPooling2D(2), layers.BatchNormalization(), conv(**SIGNS)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_keras_computes(name: str) -> None:
    check(randomise(sequential((9, 7, 4), *LAYERS[name]())))


SEQUENCES: dict[str, Callable[[], list[Any]]] = {
    "conv1d": lambda: [layers.Conv1D(5, 3, strides=2, padding="same"), layers.BatchNormalization()],
    "conv1d-signs": lambda: [
        layers.BatchNormalization(),
        lq.layers.QuantConv1D(5, 3, padding="same", pad_values=1.0, **SIGNS),
    ],
    "conv1d-grouped-dilated": lambda: [layers.Conv1D(6, 3, groups=2, dilation_rate=2)],
    "separable1d": lambda: [layers.SeparableConv1D(6, 3, depth_multiplier=2)],
    "depthwise1d": lambda: [layers.DepthwiseConv1D(3)],
    "pools": lambda: [layers.MaxPooling1D(2, padding="same"), layers.AveragePooling1D(3, 1), layers.Flatten()],
    "global-max": lambda: [layers.GlobalMaxPooling1D(), layers.Dense(3)],
    "global-average": lambda: [layers.GlobalAveragePooling1D(), layers.Dense(3)],
    "padding": lambda: [layers.ZeroPadding1D((2, 1)), layers.Conv1D(3, 3)],
    "prelu": lambda: [layers.PReLU(shared_axes=[1]), layers.SpatialDropout1D(0.5), layers.Flatten(), layers.Dense(3)],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_layers_of_sequences(name: str) -> None:
    check(randomise(sequential((11, 4), *SEQUENCES[name]())))


def gate(x: Any) -> Any:
    """Squeeze and excitation."""
    return layers.Dense(x.shape[-1], activation="sigmoid")(layers.GlobalAveragePooling2D()(x))


def shortcut(x: Any) -> Any:
    return layers.Conv2D(4, 1, use_bias=False)(x)


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "concatenate": lambda x: layers.Concatenate()([x, layers.Conv2D(3, 1)(x), x, layers.ReLU()(x)]),
    "concatenate-bits": lambda x: conv(**SIGNS)(
        layers.Concatenate()([lq.quantizers.SteSign()(x), lq.quantizers.SteSign()(layers.BatchNormalization()(x))])
    ),
    "concatenate-bits-and-reals": lambda x: layers.Concatenate()([lq.quantizers.SteSign()(x), x]),
    "multiply": lambda x: layers.Multiply()([x, layers.Conv2D(4, 1)(x), x]),
    "gate-of-a-vector": lambda x: layers.Multiply()([gate(x), x]),
    "gate-reshaped": lambda x: layers.Multiply()([x, layers.Reshape((1, 1, 4))(gate(x))]),
    "add-three": lambda x: layers.Add()([x, shortcut(x), x]),
    "operators": lambda x: tf.nn.relu(tf.concat([2.0 * x, x + shortcut(x) * x], axis=-1)) + 0.5,
    "operators-by-channel": lambda x: tf.sigmoid(x * np.float32([1, 2, 3, 4])) + np.float32([4, 3, 2, 1]),
    "add-before-norm": lambda x: layers.PReLU(shared_axes=[1, 2])(
        layers.BatchNormalization()(layers.Add()([conv(padding="same", **SIGNS)(x), conv(padding="same", **SIGNS)(x)]))
    ),
    "pool-add-prelu-norm": lambda x: layers.BatchNormalization()(
        layers.PReLU()(layers.Add()([layers.MaxPooling2D(2)(conv(**SIGNS)(x)), layers.Conv2D(6, 3, 2)(x)]))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_joins_of_tensors(name: str) -> None:
    start = layers.Input((6, 6, 4))
    check(randomise(tf.keras.Model(start, GRAPHS[name](layers.BatchNormalization()(start)))))


def test_larq_pads_after_the_sign() -> None:
    """Padding with 1 reads a +1 and padding with 0 contributes nothing, whatever sign the padding would have got."""
    x = -np.ones((1, 3, 3, 1), np.float32)
    for value, corner in ((1.0, 5 - 4), (0.0, -4)):
        layer = lq.layers.QuantConv2D(1, 3, padding="same", pad_values=value, name="c", **SIGNS)
        model = sequential((3, 3, 1), layer)
        layer.kernel.assign(np.ones((3, 3, 1, 1)))
        scores = reference.run(import_keras(model), x).reshape(3, 3)
        assert scores[0, 0] == corner
        assert np.array_equal(scores.reshape(-1), model.predict(x, verbose=0).reshape(-1))


def test_zero_is_positive() -> None:
    """Deliberate ties: batch norms that give exactly 0, and -0."""
    model = sequential(
        (1, 1, 4), layers.BatchNormalization(epsilon=0.0), conv_1x1 := lq.layers.QuantConv2D(2, 1, **SIGNS)
    )
    conv_1x1.kernel.assign(np.ones((1, 1, 4, 2)))
    x = np.array([0.0, -0.0, 1.0, -1.0], np.float32).reshape(1, 1, 1, 4)
    assert (
        reference.run(import_keras(model), x).tolist()
        == [[2.0, 2.0]]
        == model.predict(x, verbose=0).reshape(1, 2).tolist()
    )


# --- graphs ---


def test_layer_called_twice_keeps_one_set_of_parameters() -> None:
    start = layers.Input((6, 6, 4))
    shared, norm = lq.layers.QuantConv2D(4, 3, padding="same", name="shared", **SIGNS), layers.BatchNormalization()
    x = norm(shared(start))
    net = check(randomise(tf.keras.Model(start, shared(norm(shared(x))))))
    assert [p.name for p in net.parameters.values() if p.role == "weight"] == ["shared/weight"]
    assert [op.name for op in net.ops if isinstance(op, Conv)] == ["shared", "shared:2", "shared:3"]


def test_nested_models_are_flattened() -> None:
    inner = tf.keras.Sequential(
        [layers.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", name="c"), layers.BatchNormalization()], name="in"
    )
    start = layers.Input((6, 6, 4))
    model = tf.keras.Model(start, layers.Conv2D(3, 3, name="c")(inner(layers.ReLU()(inner(start)))))
    assert {"in/c/weight", "c/weight"} <= set(check(randomise(model)).parameters)


def test_one_sign_feeds_every_layer_that_takes_it() -> None:
    start = layers.Input((6, 6, 4))
    x = layers.BatchNormalization()(start)
    model = tf.keras.Model(start, layers.Add()([conv(**SIGNS)(x), conv(**SIGNS)(x), conv(**BINARY)(x)]))
    net = check(randomise(model))
    assert kinds(net).count("Sign") == 1
    real = [op for op in net.ops if isinstance(op, Conv) and net.tensors[op.input].kind == "real"]
    assert len(real) == 1, "a layer without input quantizer reads real values"


def pooled(options: dict[str, Any]) -> Any:
    """A max-pool before a batch norm with negative scales, before two convolutions of its sign."""
    start = layers.Input((9, 9, 2))
    x = layers.BatchNormalization()(layers.MaxPooling2D(2)(conv()(start)))
    return randomise(tf.keras.Model(start, layers.Add()([conv(**options)(x), conv(**options)(x)])))


def test_pool_before_negative_scales_becomes_one_of_bits() -> None:
    net = check(pooled({**SIGNS, "padding": "same"}))
    (pool,) = (op for op in net.ops if isinstance(op, MaxPool))
    assert net.tensors[pool.input].kind == "binary"


def test_pool_before_negative_scales_stays_real_where_a_one_is_padded() -> None:
    net = check(pooled({**SIGNS, "padding": "same", "pad_values": 1.0}))
    (pool,) = (op for op in net.ops if isinstance(op, MaxPool))
    assert net.tensors[pool.input].kind == "real"
