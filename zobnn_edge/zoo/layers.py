"""Keras layers that Keras and Larq lack: per-channel shifts, thermometer codes, 2-bit activations, precision gating.

They are registered with Keras, so that a saved model is loaded without further ado once this module was imported.
Importing it imports TensorFlow; the rest of the zoo imports it where a network is built.

FracBNN: Zhang et al., "FracBNN: Accurate and FPGA-Efficient Binary Neural Networks with Fractional Activations",
FPGA 2021. RPReLU: Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions", ECCV 2020.
"""

from __future__ import annotations

from typing import Any

from converters.larq import keras

tf, lq = keras()
_Layer: Any = tf.keras.layers.Layer
_Quantizer: Any = lq.quantizers.Quantizer
_register = tf.keras.utils.register_keras_serializable(package="zobnn_edge")


def two_bit(x: Any) -> Any:
    """FracBNN's 2-bit quantizer, `round((clip(x, -1, 1) + 1) * 1.5) / 1.5 - 1`: the levels -1, -1/3, 1/3, 1.

    The gradient passes where |x| <= 1, as if nothing was rounded.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def quantized(x: Any) -> tuple[Any, Any]:
        levels = tf.round((tf.clip_by_value(x, -1.0, 1.0) + 1.0) * 1.5) / 1.5 - 1.0
        return levels, lambda upstream: tf.where(tf.abs(x) <= 1.0, upstream, tf.zeros_like(upstream))

    return quantized(x)


@_register
class ScaledSign(_Quantizer):  # type: ignore[misc]
    """DoReFa-Net's kernel quantizer: signs times the mean magnitude of the layer. The gradient passes as it is."""

    precision = 1

    def call(self, inputs: Any) -> Any:
        scale = tf.stop_gradient(tf.reduce_mean(tf.abs(inputs)))

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def quantized(kernel: Any) -> tuple[Any, Any]:
            return lq.math.sign(kernel) * scale, lambda upstream: upstream

        return quantized(inputs)


@_register
class Bias(_Layer):  # type: ignore[misc]  # Keras has no types
    """Adds a learned shift to each channel, `x + bias`; two of them around a PReLU are an RPReLU."""

    def build(self, input_shape: Any) -> None:
        self.bias = self.add_weight("bias", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return inputs + self.bias


@_register
class Thermometer(_Layer):  # type: ignore[misc]
    """Codes each channel by `planes` channels of +1/-1: plane k is +1 where k < round(x * gain), ties to even.

    The planes of the first channel come first. FracBNN codes a pixel of 0..255 by 32 planes with a gain of 1/8.
    """

    def __init__(self, planes: int, gain: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planes = planes
        self.gain = gain

    def call(self, inputs: Any) -> Any:
        level = tf.round(inputs * self.gain)[..., tf.newaxis]
        planes = tf.where(tf.range(self.planes, dtype=level.dtype) < level, 1.0, -1.0)
        return tf.reshape(planes, (-1, *self.compute_output_shape(inputs.shape)[1:]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] * self.planes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "planes": self.planes, "gain": self.gain}


@_register
class TwoBit(_Layer):  # type: ignore[misc]
    """FracBNN's 2-bit activation as a layer; see `two_bit`."""

    def call(self, inputs: Any) -> Any:
        return two_bit(inputs)


@_register
class PrecisionGatedConv2D(_Layer):  # type: ignore[misc]
    """FracBNN's precision-gated binary convolution of 2-bit activations, without bias.

    With `a = two_bit(x)` and the binary kernel `w`: `m = conv(sign(a), w) * 2/3` is what the high bits give,
    `f = conv(a, w)` what both give; the result is `f` where `m > threshold` of the channel, else `m`.
    The kernel (height, width, in, out) is quantized by Larq's `ste_sign`; outside the input reads 0. `padding` may also
    be "half": as PyTorch pads, `(kernel_size - 1) // 2` pixels on every side.
    """

    def __init__(
        self, filters: int, kernel_size: int = 3, strides: int = 1, padding: str = "same", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = (strides, strides)
        self.padding = padding
        self.kernel_quantizer = lq.quantizers.SteSign()

    def build(self, input_shape: Any) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        clip = lq.constraints.WeightClip()
        self.kernel = self.add_weight("kernel", shape=shape, initializer="glorot_normal", constraint=clip)
        self.threshold = self.add_weight("threshold", shape=(self.filters,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel_quantizer(self.kernel)
        levels = two_bit(inputs)

        half = (self.kernel_size - 1) // 2
        border = [[0, 0], [half, half], [half, half], [0, 0]]
        padding = border if self.padding == "half" else self.padding.upper()

        def conv(x: Any) -> Any:
            return tf.nn.conv2d(x, kernel, self.strides, padding)

        high = conv(lq.math.sign(levels)) * (2 / 3)
        return tf.where(high > self.threshold, conv(levels), high)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("filters", "kernel_size", "padding")}
        return {**super().get_config(), **own, "strides": self.strides[0]}
