"""DoReFa-Net: 1-bit weights, 2-bit activations, after Zhou et al. (arXiv 1606.06160); untrained.

A kernel is the signs of its weights times their mean magnitude, one number a layer. Activations are clipped to [0, 1]
and rounded to thirds. The first and the last layer are real-valued.
"""

from __future__ import annotations

from typing import Any

from converters.larq import keras
from zobnn_edge.zoo.blocks import classifier, norm


def dorefanet_cifar10() -> Any:
    """DoReFa-Net for CIFAR-10, a pre-activation ResNet-20 (widths 16, 32, 64), W1A2.

    Batch norm before each quantized activation; shortcuts that halve the size are quantized 1x1 convolutions.
    269,824 weights of one bit, 1,072 real ones. Returns an untrained `tf.keras.Model`.
    """
    tf, _ = keras()
    x = inputs = tf.keras.layers.Input((32, 32, 3))
    x = tf.keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    for stage, filters in enumerate((16, 32, 64), 1):
        for block in (1, 2, 3):
            x = _preactivated(x, filters, f"block{stage}{block}")
    x = tf.keras.layers.ReLU(name="relu")(norm(x, "bn"))
    return tf.keras.Model(inputs, classifier(x, 10, "softmax"), name="dorefanet_cifar10")


def dorefanet_imagenet(size: int = 224, classes: int = 1000) -> Any:
    """DoReFa-Net for ImageNet, the shape of AlexNet, W1A2, as in Larq Zoo; 53.39 % top-1 are published for it.

    62.4 million weights. `size`: height and width of the images. Returns an untrained `tf.keras.Model`.
    """
    tf, _ = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((size, size, 3))
    x = layers.Conv2D(96, 12, 4, name="conv1")(x)
    for number, (filters, kernel, pool) in enumerate(
        ((256, 5, "same"), (384, 3, "same"), (384, 3, None), (256, 3, "valid")), 2
    ):
        x = norm(_conv(filters, kernel, 1, f"conv{number}")(x), f"bn{number}")
        if pool:
            x = layers.MaxPooling2D(3, 2, padding=pool, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = norm(_dense(4096, f"dense{number}")(x), f"bn{number}")
    x = layers.Dense(classes, activation="softmax", name="dense8")(layers.ReLU(1.0, name="clip")(x))
    return tf.keras.Model(inputs, x, name="dorefanet_imagenet")


def _preactivated(x: Any, filters: int, name: str) -> Any:
    """Batch norm and convolution, twice, beside a shortcut; halves the size where it doubles the channels."""
    stride = filters // x.shape[-1]
    y = norm(x, f"{name}_bn1")
    if stride == 2:
        x = norm(_conv(filters, 1, 2, f"{name}_shortcut")(y), f"{name}_shortcut_bn")
    y = norm(_conv(filters, 3, stride, f"{name}_conv1")(y), f"{name}_bn2")
    y = _conv(filters, 3, 1, f"{name}_conv2")(y)
    return keras()[0].keras.layers.Add(name=f"{name}_add")([x, y])


def _conv(filters: int, kernel: int, stride: int, name: str) -> Any:
    _, lq = keras()
    return lq.layers.QuantConv2D(filters, kernel, stride, padding="same", use_bias=False, name=name, **_quantizers())


def _dense(units: int, name: str) -> Any:
    _, lq = keras()
    return lq.layers.QuantDense(units, use_bias=False, name=name, **_quantizers())


def _quantizers() -> dict[str, Any]:
    from zobnn_edge.zoo.layers import ScaledSign

    _, lq = keras()
    return {"input_quantizer": lq.quantizers.DoReFa(k_bit=2), "kernel_quantizer": ScaledSign()}
