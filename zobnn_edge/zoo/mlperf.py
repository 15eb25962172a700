"""The conventional networks of MLPerf Tiny (github.com/mlcommons/tiny, Apache-2.0): what binary ones compete with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters.larq import keras
from zobnn_edge import datasets
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Pixels

RESNET8_FILE = "mlperf_tiny/ic_resnet8.h5"
DSCNN_FILE = "mlperf_tiny/kws_dscnn.h5"
DSCNN_PIXELS = Pixels(datasets.KWS_SCALE, -(datasets.KWS_ZERO_POINT + 128) * datasets.KWS_SCALE)
"""What the int8 inputs of `kws` stand for when 128 is added to them."""


def resnet8() -> Any:
    """ResNet-8 for CIFAR-10: pixels of 0..255 in, 10 probabilities out; 78,666 parameters.

    Returns an untrained `tf.keras.Model`; `load_resnet8` gives the trained one.
    """
    layers = keras()[0].keras.layers
    x = inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(_norm(_conv(16)(x)))
    for stage, filters in enumerate((16, 32, 64)):
        y = layers.ReLU()(_norm(_conv(filters, 1 if stage == 0 else 2)(x)))
        y = _conv(filters)(y)
        if stage:
            x = layers.Conv2D(filters, 1, 2, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, _norm(y)]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras()[0].keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="resnet8")


def dscnn() -> Any:
    """DS-CNN for keyword spotting: 49 frames of 10 MFCCs in, 12 probabilities out; 24,908 parameters.

    Returns an untrained `tf.keras.Model`; `load_dscnn` gives the trained one.
    """
    layers = keras()[0].keras.layers
    x = inputs = layers.Input((49, 10, 1))
    x = layers.ReLU()(_norm(layers.Conv2D(64, (10, 4), 2, padding="same")(x)))
    x = layers.Dropout(0.2)(x)
    for _ in range(4):
        x = layers.ReLU()(_norm(layers.DepthwiseConv2D(3, padding="same")(x)))
        x = layers.ReLU()(_norm(layers.Conv2D(64, 1, padding="same")(x)))
    x = layers.Dropout(0.4)(x)
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return keras()[0].keras.Model(inputs, layers.Dense(12, activation="softmax")(x), name="dscnn")


def load_resnet8(path: Path | None = None) -> Any:
    """The trained `resnet8`: 87.19 % on the 10,000 test images of CIFAR-10.

    `path`: MLPerf Tiny's Keras file, by default mlperf_tiny/ic_resnet8.h5 in the folder that ZOBNN_DATA names. Raises
    ZobnnError when it cannot be had.
    """
    return _loaded(resnet8, path or datasets.published(RESNET8_FILE))


def load_dscnn(path: Path | None = None) -> Any:
    """The trained `dscnn`: 91.3 % on the 1,000 inputs of `kws`.

    `path`: MLPerf Tiny's Keras file, by default mlperf_tiny/kws_dscnn.h5 in the folder that ZOBNN_DATA names. Raises
    ZobnnError when it cannot be had.
    """
    return _loaded(dscnn, path or datasets.published(DSCNN_FILE))


def _conv(filters: int, stride: int = 1) -> Any:
    return keras()[0].keras.layers.Conv2D(filters, 3, stride, padding="same")


def _norm(x: Any) -> Any:
    return keras()[0].keras.layers.BatchNormalization()(x)


def _loaded(build: Callable[[], Any], path: Path) -> Any:
    model = build()
    try:
        model.load_weights(str(path))
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: not the weights of {model.name} ({reason}); fetch the file again") from None
    return model
