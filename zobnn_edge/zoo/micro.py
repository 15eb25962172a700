"""Binary networks for CIFAR-10 sized for microcontrollers, after well-known larger ones; untrained.

Each takes 32x32x3 inputs of about unit variance (`models.CIFAR10_PIXELS`) and ends in a softmax over 10 classes.
Sizes are of the hardened network with 8-bit codes. Outside the input of a binary convolution reads +1, so that every
hidden activation is one bit.
"""

from __future__ import annotations

from typing import Any

from converters.larq import keras
from zobnn_edge.zoo.blocks import binary, classifier, halved, norm, slope

SAME = {"padding": "same", "pad_values": 1.0}


def small_cifar() -> Any:
    """SmallCifar: three 5x5 convolutions to 32, 32 and 64 channels, PReLU and 2x2 max-pool after each, dense 1024->10.

    All but the first convolution are binary; batch norm stands before each binary layer. 87,040 weights of one bit,
    2,400 real ones. Returns an untrained `tf.keras.Model`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((32, 32, 3))
    x = layers.Conv2D(32, 5, padding="same", use_bias=False, name="conv1")(x)
    for number, filters in ((1, None), (2, 32), (3, 64)):
        if filters:
            x = lq.layers.QuantConv2D(filters, 5, name=f"conv{number}", **SAME, **binary())(x)
        x = slope(x, f"prelu{number}")
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = norm(x, f"bn{number}")
    x = layers.Flatten(name="flatten")(x)
    x = norm(lq.layers.QuantDense(10, name="dense", **binary())(x), "bn4")
    return tf.keras.Model(inputs, layers.Activation("softmax", name="softmax")(x), name="small_cifar")


def binarynet_micro() -> Any:
    """After BinaryNet (Courbariaux et al., 2016): pairs of 3x3 convolutions to 32, 64 and 128 channels, two dense.

    Every weight is one bit, 549,984 of them; the first layer reads real pixels. Returns an untrained `tf.keras.Model`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((32, 32, 3))
    for stage, filters in enumerate((32, 64, 128), 1):
        for half in (1, 2):
            arguments = binary(input_quantizer=None if stage == half == 1 else "ste_sign")
            padding = {"padding": "same"} if stage == half == 1 else SAME
            x = lq.layers.QuantConv2D(filters, 3, name=f"conv{stage}{half}", **padding, **arguments)(x)
            if half == 2:
                x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
            x = norm(x, f"bn{stage}{half}")
    x = layers.Flatten(name="flatten")(x)
    x = norm(lq.layers.QuantDense(128, name="dense1", **binary())(x), "bn4")
    x = norm(lq.layers.QuantDense(10, name="dense2", **binary())(x), "bn5")
    return tf.keras.Model(inputs, layers.Activation("softmax", name="softmax")(x), name="binarynet_micro")


def birealnet_micro() -> Any:
    """After Bi-Real Net (Liu et al., ECCV 2018): every binary convolution has a real shortcut.

    A real 3x3 stem of stride 2, then two blocks each of 32, 64 and 128 channels; where the size is halved, the
    shortcut is a 2x2 mean and a real 1x1 convolution. Kernels have one scale a filter. 294,912 weights of one bit,
    12,384 real ones. Returns an untrained `tf.keras.Model`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((32, 32, 3))
    x = norm(layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem")(x), "stem_bn")
    arguments = binary("approx_sign", "magnitude_aware_sign")
    for stage, filters in enumerate((32, 64, 128), 1):
        for block in (1, 2):
            name, stride = f"block{stage}{block}", filters // x.shape[-1]
            y = lq.layers.QuantConv2D(filters, 3, stride, name=f"{name}_conv", **SAME, **arguments)(x)
            y = norm(y, f"{name}_bn")
            if stride == 2:
                x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_wide")(halved(x, f"{name}_pool"))
                x = norm(x, f"{name}_wide_bn")
            x = layers.Add(name=f"{name}_add")([x, y])
    return tf.keras.Model(inputs, classifier(x, 10, "softmax"), name="birealnet_micro")


def quicknet_micro() -> Any:
    """After QuickNet (Bannink et al., "Larq Compute Engine", MLSys 2021): cheap real layers between binary blocks.

    A separable real stem of stride 2, then two blocks each of 32, 64 and 128 channels, a real 1x1 convolution of the
    2x2 maxima between them. 387,072 weights of one bit, 12,608 real ones. Returns an untrained `tf.keras.Model`.
    """
    tf, lq = keras()
    layers = tf.keras.layers
    x = inputs = layers.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False, activation="relu", name="stem1")(x)
    x = norm(x, "stem1_bn")
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="stem2")(x)
    x = norm(x, "stem2_bn")
    for stage, filters in enumerate((32, 64, 128), 1):
        if stage > 1:
            x = layers.MaxPooling2D(2, name=f"narrow{stage}")(layers.ReLU(name=f"relu{stage}")(x))
        x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"wide{stage}")(x), f"wide{stage}_bn")
        for block in (1, 2):
            name = f"block{stage}{block}"
            y = lq.layers.QuantConv2D(filters, 3, activation="relu", name=f"{name}_conv", **SAME, **binary())(x)
            x = layers.Add(name=f"{name}_add")([x, norm(y, f"{name}_bn")])
    x = layers.ReLU(name="relu")(x)
    return tf.keras.Model(inputs, classifier(x, 10, "softmax"), name="quicknet_micro")
