"""The networks of the zoo as Keras models, and how they are trained. TensorFlow is imported when one is built."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converters.larq import keras
from zobnn_edge import datasets
from zobnn_edge.errors import InputError
from zobnn_edge.network import Pixels

Progress = Callable[[int, int, float], None]
"""Called after each epoch with its number (from 1), the number of epochs and the training accuracy (0..1)."""

DIGITS_PIXELS = Pixels(1 / 128, -1.0)
MNIST_PIXELS = Pixels(1 / 127.5, -1.0)


def larq_digits() -> Any:
    """A small network for 8x8 digits: real first and last layer, 1-bit weights and activations between them.

    94,000 weights, 70 % of them in one dense layer of one bit. Padding reads +1, so that every hidden activation
    is one bit. Returns an untrained `tf.keras.Sequential`.
    """
    tf, lq = keras()
    layers, binary = tf.keras.layers, _binary()
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(scale=False, name="bn1"),
            lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, use_bias=False, name="conv2", **binary),
            layers.MaxPooling2D(2, name="pool2"),
            layers.BatchNormalization(scale=False, name="bn2"),
            lq.layers.QuantConv2D(64, 3, padding="same", pad_values=1.0, use_bias=False, name="conv3", **binary),
            layers.BatchNormalization(scale=False, name="bn3"),
            layers.Flatten(name="flatten"),
            lq.layers.QuantDense(64, use_bias=False, name="dense4", **binary),
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
    layers, binary = tf.keras.layers, _binary()
    first = {key: value for key, value in binary.items() if key != "input_quantizer"}

    def norm(number: int) -> Any:
        return layers.BatchNormalization(scale=False, name=f"bn{number}")

    return tf.keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            lq.layers.QuantConv2D(32, (3, 3), use_bias=False, name="conv1", **first),
            layers.MaxPooling2D((2, 2), name="pool1"),
            norm(1),
            lq.layers.QuantConv2D(64, (3, 3), use_bias=False, name="conv2", **binary),
            layers.MaxPooling2D((2, 2), name="pool2"),
            norm(2),
            lq.layers.QuantConv2D(64, (3, 3), use_bias=False, name="conv3", **binary),
            norm(3),
            layers.Flatten(name="flatten"),
            lq.layers.QuantDense(64, use_bias=False, name="dense4", **binary),
            norm(4),
            lq.layers.QuantDense(10, use_bias=False, name="dense5", **binary),
            norm(5),
            layers.Activation("softmax", name="softmax"),
        ],
        name="mnist_tutorial",
    )


def train_digits(seed: int = 0, epochs: int = 40, progress: Progress | None = None) -> Any:
    """`larq_digits` trained on the training split of `digits` with Adam; returns the model."""
    return _train(larq_digits, "digits", DIGITS_PIXELS, seed, epochs, 64, progress)


def train_mnist_tutorial(seed: int = 0, epochs: int = 6, progress: Progress | None = None) -> Any:
    """`mnist_tutorial` trained as the tutorial does: Adam, 6 epochs, batches of 64; returns the model."""
    return _train(mnist_tutorial, "mnist", MNIST_PIXELS, seed, epochs, 64, progress)


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


def seed_everything(seed: int) -> None:
    """Make what follows repeatable: initial weights, shuffling, dropout.

    (`tf.keras.utils.set_random_seed` of Keras 2 fails on Python 3.12: it asks `random.randint` for a float.)
    """
    tf, _ = keras()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Keras draws from NumPy's global generator
    tf.random.set_seed(seed)


def _binary() -> dict[str, Any]:
    """Arguments of a layer with 1-bit inputs and weights."""
    return {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def _train(
    build: Callable[[], Any],
    dataset: str,
    pixels: Pixels,
    seed: int,
    epochs: int,
    batch: int,
    progress: Progress | None,
) -> Any:
    tf, _ = keras()
    data = datasets.load(dataset, "train")
    seed_everything(seed)
    model = build()
    model.compile(tf.keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    report = tf.keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(epoch + 1, epochs, logs["accuracy"]) if progress else None
    )
    model.fit(pixels.apply(data.x), data.y, batch_size=batch, epochs=epochs, verbose=0, callbacks=[report])
    return model
