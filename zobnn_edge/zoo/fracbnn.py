"""FracBNN: binary networks whose activations are worth 1.4 bits, after Zhang et al. (FPGA 2021, arXiv 2012.12206).

Convolutions are precision-gated (`layers.PrecisionGatedConv2D`); pixels enter as thermometer codes, so that the first
layer is binary as well. The trained network for CIFAR-10 is the one of github.com/cornell-zhang/FracBNN (BSD-3-Clause).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.larq import keras
from zobnn_edge import datasets
from zobnn_edge.errors import ModelError
from zobnn_edge.zoo.blocks import binary, classifier, doubled, halved, norm, rprelu

Arrays = Mapping[str, NDArray[Any]]

CIFAR10_FILE = "fracbnn/fracbnn_cifar10.npz"
PLANES, GAIN = 32, 1 / 8
"""Pixels of 0..255 have 33 levels, 0..32."""

IMAGENET_BLOCKS = (
    *((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)),
    *((512, 512, 1),) * 5,
    *((512, 1024, 2), (1024, 1024, 1)),
)
"""(channels in, channels out, stride) of the blocks of the network for ImageNet, as in MobileNet v1."""


def fracbnn_cifar10() -> Any:
    """FracBNN for CIFAR-10, the shape of ResNet-20: 281,088 weights of one bit, 6,058 real-valued parameters.

    Pixels of 0..255 in, 10 scores out. Returns an untrained `tf.keras.Model`; `load_cifar10` gives the trained one.
    """
    tf, _ = keras()
    inputs = tf.keras.layers.Input((32, 32, 3))
    x = _stem(inputs, 16, 1, "conv1", "bn1")
    for stage, filters in enumerate((16, 32, 64), 1):
        for block in range(3):
            stride = filters // x.shape[-1]
            x = _block(x, ((filters, 3, stride), (filters, 3, 1)), f"layer{stage}_{block}")
    return tf.keras.Model(inputs, classifier(x, 10, name="linear"), name="fracbnn_cifar10")


def fracbnn_imagenet(size: int = 224, classes: int = 1000) -> Any:
    """FracBNN for ImageNet, the shape of MobileNet v1: a binary stem and 13 blocks; 71.7 % top-1 are published.

    A block is a 3x3 and a 1x1 precision-gated convolution, each with a shortcut. (The paper codes shortcuts with 4
    bits; here they stay real.) `size`: height and width of the images, whose pixels are 0..255. No trained weights
    are public. Returns an untrained `tf.keras.Model`.
    """
    tf, _ = keras()
    inputs = tf.keras.layers.Input((size, size, 3))
    x = _stem(inputs, 32, 2, "stem", "stem_bn")
    for number, (channels, filters, stride) in enumerate(IMAGENET_BLOCKS, 1):
        x = _block(x, ((channels, 3, stride), (filters, 1, 1)), f"block{number}")
    return tf.keras.Model(inputs, classifier(x, classes, name="linear"), name="fracbnn_imagenet")


def load_cifar10(path: Path | None = None) -> Any:
    """The trained `fracbnn_cifar10`: 88.56 % on the 10,000 test images.

    `path`: the arrays, by default fracbnn/fracbnn_cifar10.npz in the folder that ZOBNN_DATA names. Raises ZobnnError
    when they cannot be had.
    """
    arrays = datasets.published_arrays(path or datasets.published(CIFAR10_FILE))
    model = fracbnn_cifar10()
    try:
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(_weights(layer, arrays))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path or CIFAR10_FILE}: not the arrays of FracBNN for CIFAR-10 ({error})") from None
    return model


def _stem(x: Any, filters: int, stride: int, name: str, norm_name: str) -> Any:
    """Thermometer codes of the pixels and a binary 3x3 convolution."""
    from zobnn_edge.zoo.layers import Thermometer

    _, lq = keras()
    x = Thermometer(PLANES, GAIN, name="planes")(x)
    x = lq.layers.QuantConv2D(filters, 3, stride, padding="same", name=name, **binary())(x)
    return norm(x, norm_name)


def _block(x: Any, convolutions: tuple[tuple[int, int, int], ...], name: str) -> Any:
    """Precision-gated convolutions (filters, kernel size, stride), each with norm, RPReLU, shortcut and norm.

    The shortcut is averaged over 2x2 pixels where the stride is 2, its channels repeated where they double.
    """
    from zobnn_edge.zoo.layers import PrecisionGatedConv2D

    for number, (filters, kernel, stride) in enumerate(convolutions, 1):
        y = PrecisionGatedConv2D(filters, kernel, stride, padding="half", name=f"{name}_conv{number}")(x)
        y = rprelu(norm(y, f"{name}_bn{number}"), f"{name}_rprelu{number}")
        if stride == 2:
            x = halved(x, f"{name}_shortcut{number}")
        if filters != x.shape[-1]:
            x = doubled(x, f"{name}_repeat{number}")
        x = keras()[0].keras.layers.Add(name=f"{name}_add{number}")([y, x])
        x = norm(x, f"{name}_bn{number + 2}")
    return x


def _weights(layer: Any, arrays: Arrays) -> list[NDArray[np.float32]]:
    """The arrays of a layer in Keras's order; batch norms come folded to a weight and a bias."""
    parts = [w.name.rsplit("/", 1)[1].split(":")[0] for w in layer.weights]
    names = {"kernel": "weight", "alpha": "weight", "gamma": "weight", "beta": "bias"}
    values = []
    for part, shape in zip(parts, (w.shape for w in layer.weights), strict=True):
        if part == "moving_mean":
            values.append(np.zeros(shape, np.float32))
        elif part == "moving_variance":
            values.append(np.full(shape, 1 - layer.epsilon, np.float32))
        else:
            values.append(arrays[f"{layer.name}_{names.get(part, part)}"].astype(np.float32).reshape(shape))
    return values
