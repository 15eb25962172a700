"""What cannot be imported is refused by name, in one line, with the way out."""

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
    conv,
    layers,
    lq,
    sequential,
    tf,
)
from zobnn_edge.errors import ModelError

pytestmark = pytest.mark.usefixtures("reproducible_models")


def unequal(x: Any) -> Any:
    """The levels 0, 1, 2 and 4."""
    return sum(tf.where(x < edge, 0.0, step) for edge, step in ((-1.0, 1.0), (0.0, 1.0), (1.0, 2.0)))


def shifted(x: Any) -> Any:
    """The levels 1 and 3."""
    return tf.where(x < 0, 1.0, 3.0)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unsupported-layer": (lambda: layers.LocallyConnected2D(3, 2, name="x"), "not supported; supported are .*Dense"),
    "channels-first": (lambda: layers.Flatten(data_format="channels_first", name="x"), "channels_first"),
    "pad-value": (lambda: conv(padding="same", pad_values=-1.0, name="x"), "pad_values -1; use 1"),
    "ternary-input": (lambda: conv(input_quantizer="ste_tern", name="x"), "input quantizer SteTern is ternary; use"),
    "three-bits": (lambda: conv(input_quantizer=lq.quantizers.DoReFa(3), name="x"), "DoReFa has 8 levels; use two"),
    "unequal": (lambda: conv(input_quantizer=unequal, name="x"), "unequal has levels of unequal distances"),
    "shifted": (lambda: conv(input_quantizer=shifted, name="x"), "shifted has levels from 1 to 3; they must begin"),
    "scaled-input": (lambda: conv(input_quantizer="magnitude_aware_sign", name="x"), "MagnitudeAwareSign is not"),
    "own-quantizer": (lambda: conv(input_quantizer=tf.sin, name="x"), "input quantizer sin is not supported"),
    "activation": (lambda: layers.Conv2D(3, 3, activation="tanh", name="x"), "tanh is not supported; use"),
    "activation-layer": (lambda: layers.Activation("gelu", name="x"), "gelu is not supported"),
    "ternary-layer": (lambda: lq.quantizers.SteTern(name="x"), "SteTern is ternary"),
    "relu-threshold": (lambda: layers.ReLU(threshold=1.0, name="x"), "has a threshold; use ReLU without it"),
    "cropping": (lambda: layers.Cropping2D(1, name="x"), "cuts its input; use .*'valid'"),
    "upsampling": (lambda: layers.UpSampling2D(2, name="x"), "enlarges its input, .* leave it out"),
    "causal": (lambda: layers.Conv1D(3, 3, padding="causal", name="x"), "causal padding; use ZeroPadding1D"),
    "lambda": (lambda: layers.Lambda(lambda x: -x, name="x"), "holds code, which is not run; replace it"),
    "lambda-of-two": (lambda: layers.Lambda(lambda x, y=1: x, name="x"), "holds code, which is not run"),
    "rescaling": (lambda: layers.Rescaling(np.ones((6, 1, 1)), name="x"), "use one value a channel"),
    "softmax-axis": (lambda: layers.Softmax(axis=1, name="x"), r"normalises axis \[1\]"),
    "norm-axis": (lambda: layers.BatchNormalization(axis=1, name="x"), r"normalises axis \[1\]"),
    "prelu-axes": (lambda: layers.PReLU(shared_axes=[1], name="x"), "use shared_axes"),
    "half": (lambda: layers.Conv2D(3, 3, dtype="float16", name="x"), "computes in float16"),
    "rank": (lambda: layers.Reshape((2, 2, 9, 4), name="x"), "up to three fixed sizes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name_in_one_line(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ModelError, match=rf"layer 'x' .*{message}") as caught:
        import_keras(sequential((6, 6, 4), build()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["kernel", "bias", "gamma", "moving_variance", "alpha"])
def test_numbers_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    layer = {"kernel": layers.Dense, "bias": layers.Dense, "alpha": layers.PReLU}.get(kind, layers.BatchNormalization)
    layer = layer(3, name="x") if layer is layers.Dense else layer(name="x")
    model = sequential((3,), layer, layers.Dense(2))
    if (kind, bad) == ("moving_variance", np.inf):
        bad = -1.0  # an infinite variance only makes a channel constant
    values = getattr(layer, kind).numpy()
    values.flat[1] = bad
    getattr(layer, kind).assign(values)
    with pytest.raises(ModelError, match=r"layer 'x' .* holds NaN or Inf"):
        import_keras(model)


def two_inputs(join: Callable[[Any, Any], Any]) -> Any:
    """`join` of a map (4, 4, 3) and its mean over the rows (1, 4, 3)."""
    start = layers.Input((4, 4, 3))
    return tf.keras.Model(start, join(start, layers.AveragePooling2D((4, 1))(start)))


JOINS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "multiply": (lambda a, b: layers.Multiply(name="x")([a, b]), "multiplies shapes"),
    "concatenate": (lambda a, b: layers.Concatenate(1, name="x")([a, b]), "joins along axis 1; only the last"),
    "concat": (lambda a, b: tf.concat([a, b], axis=1), "tf.concat with these arguments"),
    "add-row": (lambda a, b: a + np.ones((4, 1), np.float32), r"constant of shape \(4, 1\); use one value"),
    "subtract": (lambda a, b: a - 1.0, "tf.math.subtract is not supported; use a layer of Keras"),
    "reduce": (lambda a, b: tf.reduce_sum(a, axis=-1, keepdims=True), "tf.math.reduce_sum with these arguments"),
    "tanh": (lambda a, b: tf.tanh(a), "tanh is not supported; use a sign"),
}


@pytest.mark.parametrize("name", JOINS)
def test_operators_and_joins_that_are_not_supported_are_refused(name: str) -> None:
    join, message = JOINS[name]
    with pytest.raises(ModelError, match=rf"layer '(x|tf[^']*)' .*{message}") as caught:
        import_keras(two_inputs(join))
    assert "\n" not in str(caught.value)


def test_additions_that_broadcast_are_refused() -> None:
    start = layers.Input((4, 4, 3))
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(start)
    with pytest.raises(ModelError, match=r"layer 'x' \(Add\): adds tensors of different shapes"):
        import_keras(tf.keras.Model(start, layers.Add(name="x")([start, pooled])))


def test_layer_called_for_training_is_refused() -> None:
    start = layers.Input((4,))
    with pytest.raises(ModelError, match=r"layer 'x' .* called with training=True"):
        import_keras(tf.keras.Model(start, layers.Dropout(0.5, name="x")(start, training=True)))


def test_layer_called_twice_on_different_kinds_is_refused() -> None:
    start = layers.Input((4, 4, 3))
    shared = lq.layers.QuantConv2D(3, 1, name="x", **BINARY)
    both = layers.Add()([shared(start), shared(lq.quantizers.SteSign()(start))])
    with pytest.raises(ModelError, match=r"layer 'x' .* called twice and differs"):
        import_keras(tf.keras.Model(start, both))
