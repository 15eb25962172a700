"""Convolutions and dense layers of Keras and Larq: their kernels, inputs of a few bits, scales and biases."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from converters.keras import keras, refusal
from converters.keras_functions import IDENTITY, Array, binary_scale, kernel_of, kind_of, quantizer_of
from converters.keras_graph import Call, Handler, Importer
from converters.keras_planes import Planes
from zobnn_edge.encoding import WORD, Binary, Float32
from zobnn_edge.operations import Conv, GatedConv


def handlers() -> dict[type, Handler]:
    """The handler of each class of layer."""
    tf, lq = keras()
    table: dict[str, Handler] = {
        "Conv1D": convolution,
        "Conv2D": convolution,
        "DepthwiseConv2D": depthwise,
        "SeparableConv1D": separable,
        "SeparableConv2D": separable,
        "Dense": dense,
    }
    return {
        **{getattr(tf.keras.layers, name): handler for name, handler in table.items()},
        **{getattr(lq.layers, f"Quant{name}"): handler for name, handler in table.items()},
        tf.keras.layers.DepthwiseConv1D: depthwise,
    }


def convolution(importer: Importer, call: Call) -> str:
    """Conv1D and Conv2D, in groups or not. A sequence is a map of height 1."""
    kernel = _as_map(kernel_of(call.layer)).transpose(3, 0, 1, 2)
    linear = _Linear(importer, call, kernel, quantizer_of(call.layer) is not None, groups=call.layer.groups)
    return linear.finished(linear.of(_quantized_input(importer, call)))


def dense(importer: Importer, call: Call) -> str:
    """A 1x1 convolution of every pixel."""
    kernel = kernel_of(call.layer).T[:, np.newaxis, np.newaxis, :]
    linear = _Linear(importer, call, kernel, quantizer_of(call.layer) is not None, windowed=False)
    return linear.finished(linear.of(_quantized_input(importer, call)))


def depthwise(importer: Importer, call: Call) -> str:
    """As many groups as channels, each of `depth_multiplier` filters."""
    linear = _depthwise(importer, call)
    return linear.finished(linear.of(_quantized_input(importer, call)))


def separable(importer: Importer, call: Call) -> str:
    """A depthwise convolution and a 1x1 one; bias and activation follow the second."""
    first = _depthwise(importer, call, "/depthwise")
    y = first.scaled(first.of(_quantized_input(importer, call)))
    kernel = _as_map(kernel_of(call.layer, "pointwise_kernel")).transpose(3, 0, 1, 2)
    quantized = quantizer_of(call.layer, "pointwise_kernel") is not None
    second = _Linear(importer, call, kernel, quantized, "/pointwise", windowed=False)
    return second.finished(second.of(y))


def precision_gated(importer: Importer, call: Call) -> str:
    """FracBNN's convolution (the zoo's layer): the low bits of an activation count where the high ones exceed a bound.

    With h and l the sums of the two planes, integers: `2 h + l` thirds where `2/3 h > threshold`, else `2 h` thirds.
    The threshold becomes one of h, half-way between the sums that decide otherwise.
    """
    layer = call.layer
    linear = _Linear(importer, call, kernel_of(layer).transpose(3, 0, 1, 2), quantized=True)
    if linear.scale is None or (linear.scale != 1).any():
        raise refusal(layer, "its kernel is not binary; use ste_sign as its quantizer")
    (_, high), (_, low) = importer.two_bit(importer.real(call.input), layer).terms
    sums = np.arange(-linear.kernel[0].size, linear.kernel[0].size + 1, dtype=np.float32)
    exceeds = sums[:, None] * np.float32(2 / 3) > np.asarray(layer.threshold, np.float32)
    least = np.where(exceeds.any(axis=0), exceeds.argmax(axis=0), len(sums)) + sums[0] - 0.5
    threshold = importer.parameter(layer, "threshold", least.astype(np.float64))
    weight = importer.parameter(layer, "weight", linear.kernel, Binary(linear.kernel.shape[3]))
    name = importer.name(layer)
    window = {"stride": linear.window["stride"], "padding": linear.window["padding"]}
    y = importer.builder.add(GatedConv(name, high, name, low, weight, threshold, **window))
    return linear.finished((y, 1 / 3, None))


class _Linear:
    """A linear layer, or one of the two of a separable one: its kernel (out, height, width, in) and its window."""

    def __init__(
        self,
        importer: Importer,
        call: Call,
        kernel: Array,
        quantized: bool,
        part: str = "",
        windowed: bool = True,
        groups: int = 1,
    ) -> None:
        self.importer, self.layer, self.reader, self.part = importer, call.layer, call.reader, part
        self.kernel, self.groups = kernel, groups
        self.scale = binary_scale(kernel, quantized)
        self.outside: Literal[0, 1] = 0  # what it reads outside its input
        self.window: dict[str, Any] = {"groups": groups}
        if windowed:
            self.outside = _outside(self.layer)
            self.window["stride"] = _pair(self.layer.strides)
            self.window["padding"] = self.layer.padding
            self.window["dilation"] = _pair(getattr(self.layer, "dilation_rate", (1, 1)))

    def of(self, x: str) -> tuple[str, float, Array | None]:
        """The sums of products for input `x`: (tensor, the constant they must be multiplied by, bias or None)."""
        counts_bits = self.scale is not None and (self.groups == 1 or self.kernel.shape[3] % WORD == 0)
        planes = self.importer.planes.get(x)
        if planes is not None and counts_bits:
            outside = planes.pad_value(self.outside) if self.kernel.shape[1:3] != (1, 1) else 0
            if outside is not None:
                return self._of_planes(planes, outside)
        if not counts_bits:
            x = self.importer.real(x)
        return self.conv(x, self.outside), 1.0, None

    def _of_planes(self, planes: Planes, pad_value: Literal[0, 1]) -> tuple[str, float, Array | None]:
        """Of each plane one convolution with the same weights; the offset adds the sum of the weights."""
        parts = []
        for count, plane in planes.terms:
            y = self.conv(plane, pad_value)
            parts.append(self.importer.gain(self.layer, y, count, f"{self.part}/counted"))
        y = self.importer.sum(self.layer, parts, f"{self.part}/planes")
        if not planes.offset:
            return y, planes.unit, None
        assert self.scale is not None
        return y, planes.unit, planes.offset * self.scale * np.sign(self.kernel).sum(axis=(1, 2, 3))

    def conv(self, x: str, pad_value: Literal[0, 1], suffix: str = "") -> str:
        """One convolution with the layer's weights; binary ones are packed for the kind of its input."""
        row = self.kernel.shape[3] if self.importer.is_binary(x) else 0
        encoding = Float32() if self.scale is None else Binary(row)
        weight = self.importer.parameter(self.layer, "weight", self.kernel, encoding, self.part)
        name = self.importer.name(self.layer, self.part + suffix)
        return self.importer.builder.add(Conv(name, x, name, weight, pad_value=pad_value, **self.window))

    def scaled(self, sums: tuple[str, float, Array | None]) -> str:
        """The sums with their scale and offset."""
        y, unit, offset = sums
        return self.importer.affine(self.layer, y, self._scale(unit), offset, f"{self.part}/scaled", self.part)

    def finished(self, sums: tuple[str, float, Array | None]) -> str:
        """The sums with scale, bias and activation; scale and bias are left to a batch norm that follows."""
        y, unit, bias = sums
        scale = self._scale(unit)
        if getattr(self.layer, "use_bias", False):
            bias = np.asarray(self.layer.bias, np.float64) + (0.0 if bias is None else bias)
        activation = getattr(self.layer, "activation", None)
        if type(self.reader) is self.importer.batch_norm and kind_of(activation) == IDENTITY:
            self.importer.unfolded[y] = (None if scale is None else np.full(len(self.kernel), scale), bias)
            return y
        y = self.importer.affine(self.layer, y, scale, bias)
        return self.importer.apply(activation, self.layer, y, "/activation")

    def _scale(self, unit: float) -> Array | float | None:
        """What the sums must be multiplied by: an array (out,), one constant, or None for 1."""
        if self.scale is not None and (self.scale != 1).any():
            return self.scale * unit
        return None if unit == 1 else unit


def _depthwise(importer: Importer, call: Call, part: str = "") -> _Linear:
    kernel = _as_map(kernel_of(call.layer, "depthwise_kernel"))
    height, width, channels, multiplier = kernel.shape
    filters = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, height, width, 1)
    quantized = quantizer_of(call.layer, "depthwise_kernel") is not None
    return _Linear(importer, call, filters, quantized, part, groups=channels)


def _quantized_input(importer: Importer, call: Call) -> str:
    """The tensor that a layer computes with: its input as its quantizer leaves it."""
    quantizer = getattr(call.layer, "input_quantizer", None)
    return importer.apply(quantizer, call.layer, call.input, "/input", "its input quantizer ")


def _outside(layer: Any) -> Literal[0, 1]:
    """What a layer reads outside its input."""
    if layer.padding == "causal":
        raise refusal(layer, "has causal padding; use ZeroPadding1D and padding='valid'")
    pad = float(np.asarray(getattr(layer, "pad_values", 0.0)))
    if layer.padding == "same" and pad not in (0.0, 1.0):
        raise refusal(layer, f"pad_values {pad:g}; use 1 (one bit) or 0")
    return 1 if layer.padding == "same" and pad else 0


def _as_map(kernel: Array) -> Array:
    """The kernel of a sequence as one of height 1."""
    return kernel[np.newaxis] if kernel.ndim == 3 else kernel


def _pair(sizes: Any) -> tuple[int, int]:
    """Strides or dilations as (rows, columns); sequences have one."""
    *rows, columns = sizes
    return (int(rows[0]) if rows else 1), int(columns)
