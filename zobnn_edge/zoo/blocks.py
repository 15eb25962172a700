"""What several networks of the zoo are built of. Functions take and return Keras tensors, under layer names given."""

from __future__ import annotations

from typing import Any

from converters.larq import keras


def binary(input_quantizer: str | None = "ste_sign", kernel_quantizer: str = "ste_sign") -> dict[str, Any]:
    """Arguments of a Larq layer with 1-bit inputs and weights."""
    return {
        "input_quantizer": input_quantizer,
        "kernel_quantizer": kernel_quantizer,
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }


def norm(x: Any, name: str) -> Any:
    """Batch norm that follows changes within some ten steps: binary kernels change in leaps."""
    return keras()[0].keras.layers.BatchNormalization(momentum=0.9, name=name)(x)


def slope(x: Any, name: str) -> Any:
    """A PReLU with a slope a channel, 1/4 at first."""
    tf, _ = keras()
    quarter = tf.keras.initializers.Constant(0.25)
    return tf.keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer=quarter, name=name)(x)


def shift(x: Any, name: str) -> Any:
    """A learned shift a channel."""
    from zobnn_edge.zoo.layers import Bias

    return Bias(name=name)(x)


def rprelu(x: Any, name: str) -> Any:
    """ReActNet's RPReLU: a PReLU between two shifts."""
    return shift(slope(shift(x, f"{name}_shift_x"), f"{name}_prelu"), f"{name}_shift_y")


def halved(x: Any, name: str) -> Any:
    """Means of 2x2 pixels, the size that a convolution of stride 2 leaves."""
    return keras()[0].keras.layers.AveragePooling2D(2, name=name)(x)


def doubled(x: Any, name: str) -> Any:
    """Every channel twice: the channels, then the channels again."""
    return keras()[0].keras.layers.Concatenate(name=name)([x, x])


def classifier(x: Any, classes: int, activation: str | None = None, name: str = "dense") -> Any:
    """Global average pool and a real-valued dense layer."""
    layers = keras()[0].keras.layers
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(classes, activation=activation, name=name)(x)
