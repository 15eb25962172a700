"""The networks that the project trains itself, as Keras models. TensorFlow is imported when one is built."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from converters.larq import keras
from zobnn_edge.errors import InputError
from zobnn_edge.network import Pixels
from zobnn_edge.zoo.blocks import binary, classifier, doubled, halved, norm, shift, slope

DIGITS_PIXELS = Pixels(1 / 128, -1.0)
MNIST_PIXELS = Pixels(1 / 127.5, -1.0)
CIFAR10_PIXELS = Pixels(1 / 64, -2.0)


def larq_digits() -> Any:
    """A small network for 8x8 digits: real first and last layer, 1-bit weights and activations between them.

    94,000 weights, 70 % of them in one dense layer of one bit. Padding reads +1, so that every hidden activation
    is one bit. Returns an untrained `tf.keras.Sequential`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(scale=False, name="bn1"),
            lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, name="conv2", **binary()),
            layers.MaxPooling2D(2, name="pool2"),
            layers.BatchNormalization(scale=False, name="bn2"),
            lq.layers.QuantConv2D(64, 3, padding="same", pad_values=1.0, name="conv3", **binary()),
            layers.BatchNormalization(scale=False, name="bn3"),
            layers.Flatten(name="flatten"),
            lq.layers.QuantDense(64, name="dense4", **binary()),
            layers.BatchNormalization(scale=False, name="bn4"),
            layers.Dense(10, activation="softmax", name="dense5"),
        ],
        name="digits",
    )


def mnist_tutorial() -> Any:
    """The network of Larq's introductory tutorial (docs.larq.dev, "Introduction to BNNs with Larq"), for MNIST.

    93,088 weights, all of one bit. Returns an untrained `tf.keras.Sequential`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    first = {key: value for key, value in binary().items() if key != "input_quantizer"}

    def plain_norm(number: int) -> Any:
        return layers.BatchNormalization(scale=False, name=f"bn{number}")

    return tf.keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            lq.layers.QuantConv2D(32, (3, 3), name="conv1", **first),
            layers.MaxPooling2D((2, 2), name="pool1"),
            plain_norm(1),
            lq.layers.QuantConv2D(64, (3, 3), name="conv2", **binary()),
            layers.MaxPooling2D((2, 2), name="pool2"),
            plain_norm(2),
            lq.layers.QuantConv2D(64, (3, 3), name="conv3", **binary()),
            plain_norm(3),
            layers.Flatten(name="flatten"),
            lq.layers.QuantDense(64, name="dense4", **binary()),
            plain_norm(4),
            lq.layers.QuantDense(10, name="dense5", **binary()),
            plain_norm(5),
            layers.Activation("softmax", name="softmax"),
        ],
        name="mnist_tutorial",
    )


def mnist_bnn() -> Any:
    """A network for MNIST after the one of Larq's tutorial, with a real first and last layer.

    110,592 weights of one bit, 1,248 real ones. Returns an untrained `tf.keras.Model`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((28, 28, 1))
    x = layers.Conv2D(32, 3, use_bias=False, name="conv1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = norm(x, "bn1")
    x = lq.layers.QuantConv2D(64, 3, name="conv2", **binary())(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = norm(x, "bn2")
    x = lq.layers.QuantConv2D(64, 3, name="conv3", **binary())(x)
    x = norm(x, "bn3")
    x = layers.Flatten(name="flatten")(x)
    x = lq.layers.QuantDense(96, name="dense4", **binary())(x)
    x = norm(x, "bn4")
    x = layers.Dense(10, activation="softmax", name="dense5")(x)
    return tf.keras.Model(inputs, x, name="mnist_bnn")


def cifar10_bnn() -> Any:
    """A residual network for CIFAR-10 that trains on a CPU and fits in 100 KB, after ReActNet.

    A real 5x5 convolution to 16x16x48, then two blocks each of 48, 96 and 192 channels at 16x16, 8x8 and 4x4. A block
    adds the batch-normalised binary 3x3 convolution of the signs of its shifted input to that input, before a PReLU;
    where the size is halved, the input is averaged over 2x2 and its channels are repeated. 663,552 weights of one bit.
    Returns an untrained `tf.keras.Model`.
    """
    tf, _ = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((32, 32, 3))
    x = layers.Conv2D(48, 5, 2, padding="same", use_bias=False, name="stem")(x)
    x = norm(x, "stem_bn")
    for stage, filters in enumerate((48, 96, 192), 1):
        for block in (1, 2):
            x = _react_block(x, filters, f"block{stage}{block}")
    return tf.keras.Model(inputs, classifier(x, 10, "softmax"), name="cifar10_bnn")


def _react_block(x: Any, filters: int, name: str) -> Any:
    """One convolution with its shortcut; halves height and width where it doubles the channels."""
    tf, lq = keras()
    stride = filters // x.shape[-1]
    y = shift(x, f"{name}_shift")
    conv = lq.layers.QuantConv2D(filters, 3, stride, padding="same", pad_values=1.0, name=f"{name}_conv", **binary())
    y = norm(conv(y), f"{name}_bn")
    if stride == 2:
        x = doubled(halved(x, f"{name}_pool"), f"{name}_repeat")
    return slope(tf.keras.layers.Add(name=f"{name}_add")([x, y]), f"{name}_prelu")


def with_softmax(model: Any) -> Any:
    """A model with a softmax behind its scores, under the same name."""
    tf, _ = keras()
    x = tf.keras.layers.Activation("softmax", name="softmax")(model.output)
    return tf.keras.Model(model.input, x, name=model.name)


def save(model: Any, path: Path) -> None:
    """Write a Keras model as .keras or .h5, whole or not at all; raises InputError when it cannot be written."""
    if path.suffix not in (".keras", ".h5"):
        raise InputError(f"{path}: a Keras model is saved as .keras or .h5")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Keras calls .h5 legacy
            model.save(Path(folder) / path.name)
            (Path(folder) / path.name).replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
