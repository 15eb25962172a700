"""Keras models for the tests of the importer, and the comparison of what is imported with Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.larq import import_keras, keras
from zobnn_edge import reference
from zobnn_edge.network import Network, Pixels

tf, lq = keras()
layers = tf.keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
BINARY = {"kernel_quantizer": "ste_sign", "use_bias": False}
PIXELS = Pixels(1 / 128, -1.0)


def sequential(shape: tuple[int, ...], *parts: Any) -> Any:
    return tf.keras.Sequential([layers.Input(shape), *parts])


def randomise(model: Any, seed: int = 0) -> Any:
    """Random weights, and batch norm statistics as training leaves them: scales of both signs, some of them zero."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            n = layer.moving_mean.shape[0]
            if layer.scale:
                gamma = rng.normal(size=n)
                gamma[:: max(2, n // 3)] = 0
                layer.gamma.assign(gamma)
            if layer.center:
                layer.beta.assign(rng.normal(size=n))
            layer.moving_mean.assign(rng.normal(size=n) * 3)
            layer.moving_variance.assign(rng.uniform(0.5, 40, n))
        elif isinstance(layer, layers.PReLU):
            layer.alpha.assign(rng.normal(size=layer.alpha.shape) * 0.5)
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def pixels(net: Network, n: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *net.input_shape)).astype(np.uint8)


def check(model: Any, tolerance: float = 2e-5, n: int = 24, **options: Any) -> Network:
    """Import a model and compare its scores for random 8-bit images with Keras's; returns the network."""
    net = import_keras(model, pixels=PIXELS, **options)
    x = pixels(net, n)
    expected = model(PIXELS.apply(x).reshape(n, *model.input_shape[1:]), training=False).numpy().reshape(n, -1)
    scores = reference.run(net, x)
    spread = max(1.0, float(np.abs(expected).max()))
    assert np.abs(scores - expected).max() <= tolerance * spread
    chosen = expected[np.arange(n), scores.argmax(1)]
    assert (expected.max(axis=1) - chosen).max() <= tolerance * spread, "another class than Keras, and not by a tie"
    assert len(np.unique(expected, axis=0)) > n // 2, "the test sees no difference between images"
    return net


def kinds(net: Network) -> list[str]:
    return [type(op).__name__ for op in net.ops]


def conv(**options: Any) -> Any:
    return lq.layers.QuantConv2D(6, 3, **options)
