"""CNV: the fully binary network for CIFAR-10 of BNN-PYNQ, after Umuroglu et al., "FINN" (FPGA 2017).

The trained network is cnvW1A1 of github.com/Xilinx/BNN-PYNQ (BSD-3-Clause). It has no batch norm but the integer
thresholds that those became, so `cnv_cifar10` builds it as operations: every decision is exact. `cnv_keras` is the same
as a Keras model, to train it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.larq import keras
from zobnn_edge import datasets
from zobnn_edge.encoding import Binary, Float32
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Builder, Network, Pixels
from zobnn_edge.operations import Conv, MaxPool, Threshold
from zobnn_edge.tensor import Quantization
from zobnn_edge.zoo.blocks import binary, norm

FILE = "bnn_pynq/cnv_w1a1_cifar10.npz"
SHAPES = (
    *((3, 3, 3, 64), (3, 3, 64, 64), (3, 3, 64, 128), (3, 3, 128, 128), (3, 3, 128, 256), (3, 3, 256, 256)),
    *((1, 1, 256, 512), (1, 1, 512, 512), (1, 1, 512, 10)),
)
"""Kernels (height, width, in, out) of the layers; the last three are dense."""
PIXELS = Pixels(float(np.float32(2 / 255)), -1.0)
LEVELS = Quantization(1 / 128, 0)
"""What the network reads, and the steps it is rounded to: `pixel_levels`. No pixel lies in the middle between two."""
POOLED = (1, 3)
"""Layers whose activations are max-pooled over 2x2."""


def cnv_cifar10(arrays: Mapping[str, NDArray[Any]], name: str = "cnv_cifar10") -> Network:
    """CNV with given weights `w0` .. `w8` (+1/-1, shapes as `SHAPES`) and thresholds `t0` .. `t7`, one a channel.

    1,542,848 weights of one bit and 2,304 thresholds. With `s` the sum of the `n` products of a layer, its activation
    is +1 where the `(s + n) / 2` agreeing bits are `t` or more; in the first layer, which reads `pixel_levels`, where
    `2 * s >= t`. The scores are the sums of the last layer.
    """
    b = Builder(name, (32, 32, 3), PIXELS, LEVELS)
    x = b.input
    for i, shape in enumerate(SHAPES):
        weight, products = arrays[f"w{i}"].reshape(shape).transpose(3, 0, 1, 2), int(np.prod(shape[:3]))
        layer, first, last = f"layer{i}", i == 0, i == len(SHAPES) - 1
        encoding = Binary() if first else Binary(row=shape[2])
        x = b.add(Conv(layer, x, layer, b.parameter(f"{layer}/weight", layer, "weight", weight, encoding)))
        if last:
            break
        counts = arrays[f"t{i}"].astype(np.float32)
        # Real sums get the middle between the sums that differ, so that coding it decides the same way.
        least = (np.ceil(counts / 2) - 0.5) * LEVELS.scale if first else 2 * counts - products
        threshold = b.parameter(f"{layer}/threshold", layer, "threshold", least, Float32())
        x = b.add(Threshold(f"{layer}/sign", x, f"{layer}/sign", threshold))
        if i in POOLED:
            x = b.add(MaxPool(f"{layer}/pool", x, f"{layer}/pool", (2, 2), (2, 2)))
    return b.network(x)


def cnv_keras() -> Any:
    """CNV as a Keras model with batch norms instead of thresholds; returns an untrained `tf.keras.Model`."""
    tf, lq = keras()
    x = inputs = tf.keras.layers.Input((32, 32, 3))
    for i, (height, width, _, filters) in enumerate(SHAPES):
        signs = binary(input_quantizer=None if i == 0 else "ste_sign")
        x = lq.layers.QuantConv2D(filters, (height, width), name=f"layer{i}", **signs)(x)
        if i < len(SHAPES) - 1:
            x = norm(x, f"bn{i}")
        if i in POOLED:
            x = lq.quantizers.SteSign(name=f"sign{i}")(x)
            x = tf.keras.layers.MaxPooling2D(2, name=f"pool{i}")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Flatten(name="flatten")(x), name="cnv_cifar10")


def load_keras(path: Path | None = None) -> Any:
    """The trained `cnv_keras`, whose batch norms decide as the thresholds do. It does not round its pixels.

    `path` and what is raised: as for `load`.
    """
    arrays = datasets.published_arrays(path or datasets.published(FILE))
    net = _named(path, arrays)
    model = cnv_keras()
    for i, shape in enumerate(SHAPES):
        model.get_layer(f"layer{i}").set_weights([arrays[f"w{i}"].astype(np.float32).reshape(shape)])
        if i < len(SHAPES) - 1:
            bn, least = model.get_layer(f"bn{i}"), net.parameters[f"layer{i}/threshold"].values
            one = np.ones_like(least)
            middle = least if i == 0 else least - 1  # between sums that differ by 2: no rounding decides
            bn.set_weights([one, 0 * one, middle, (1 - bn.epsilon) * one])
    return model


def pixel_levels(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What CNV's first layer sees of 8-bit pixels: 2p/255 - 1 in steps of 1/128, rounded half up, at most 127."""
    p = np.asarray(pixels, np.int64)
    steps: NDArray[np.int64] = np.clip((512 * p - 255 * 255) // 510, -128, 127)
    return steps


def load(path: Path | None = None) -> Network:
    """The trained CNV: 79.52 % on the 10,000 test images.

    `path`: the arrays, by default bnn_pynq/cnv_w1a1_cifar10.npz in the folder that ZOBNN_DATA names. Raises ZobnnError
    when they cannot be had.
    """
    return _named(path, datasets.published_arrays(path or datasets.published(FILE)))


def _named(path: Path | None, arrays: Mapping[str, NDArray[Any]]) -> Network:
    try:
        return cnv_cifar10(arrays)
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path or FILE}: not the arrays of CNV ({error})") from None
