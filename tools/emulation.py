"""A network's operations on TensorFlow's floats: what a fault campaign costs without an engine for bits.

Bits are +1.0 and -1.0, parameters variables that take what an image decodes to: the same network, flips included, up to
the order of sums. The whole network is one compiled graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.keras import keras
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Network
from zobnn_edge.operations import (
    Add,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Conv,
    GatedConv,
    LowBit,
    MaxPool,
    Op,
    PRelu,
    Sign,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import window_geometry


class Emulation:
    """A network in floats. Convolutions of one group and no dilation; pools that need no border."""

    def __init__(self, net: Network) -> None:
        self._tf, _ = keras()
        self._net = net
        self._image = ParameterImage.of(net)
        self._weights = {op.weight for op in net.ops if isinstance(op, (Conv, GatedConv))}
        self._variables = {name: self._tf.Variable(self._value(name, self._image)) for name in net.parameters}
        self._graph = self._tf.function(self._forward, jit_compile=False)

    def put(self, image: ParameterImage) -> None:
        """Take the parameters of an image; those whose bits are as before stay."""
        old, new = (np.frombuffer(i.data, np.uint8) for i in (self._image, image))
        for r in image.regions:
            if not np.array_equal(old[r.offset : r.offset + r.bytes], new[r.offset : r.offset + r.bytes]):
                self._variables[r.name].assign(self._value(r.name, image))
        self._image = image

    def run(self, inputs: InputArray) -> FloatArray:
        """Scores (N, outputs) of inputs (N, height, width, channels), float32 or uint8."""
        x = self._net.pixels.apply(inputs) if inputs.dtype == np.uint8 else inputs
        scores: FloatArray = self._graph(self._tf.constant(x)).numpy()
        return scores

    def _value(self, name: str, image: ParameterImage) -> FloatArray:
        values = image.values(name).astype(np.float32)
        return np.transpose(values, (1, 2, 3, 0)) if name in self._weights else values

    def _forward(self, x: Any) -> Any:
        tensors = {self._net.input: x}
        for op in self._net.ops:
            tensors[op.output] = self._one(op, [tensors[t] for t in op.inputs])
        return self._tf.reshape(tensors[self._net.output], (-1, self._net.outputs))

    def _one(self, op: Op, inputs: list[Any]) -> Any:
        tf, values, x = self._tf, self._variables, inputs[0]
        if isinstance(op, Conv):
            return self._convolve(op, x)
        if isinstance(op, GatedConv):
            upper, lower = (self._convolve(op, plane) for plane in inputs)
            return 2 * upper + tf.where(upper < values[op.threshold], 0.0, lower)
        if isinstance(op, MaxPool):
            return tf.nn.max_pool2d(x, op.size, op.stride, op.padding.upper())
        if isinstance(op, AveragePool):
            return tf.nn.avg_pool2d(x, op.size, op.stride, op.padding.upper())
        if isinstance(op, Threshold):
            return tf.where(x < values[op.threshold], -1.0, 1.0)
        if isinstance(op, Sign):
            return tf.where(x < 0, -1.0, 1.0)
        if isinstance(op, LowBit):
            return tf.where(x < tf.where(x < 0, -op.bound, op.bound), -1.0, 1.0)
        if isinstance(op, Affine):
            y = x * (op.gain if op.scale is None else values[op.scale])
            return y if op.bias is None else y + values[op.bias]
        if isinstance(op, PRelu):
            return tf.where(x >= 0, x, x * values[op.slope])
        if isinstance(op, Clip):
            return tf.clip_by_value(x, op.low, op.high)
        if isinstance(op, Thermometer):
            planes = tf.where(tf.range(op.planes, dtype=tf.float32) < tf.round(x * op.gain)[..., None], 1.0, -1.0)
            return tf.reshape(planes, (-1, *self._net.tensors[op.output].shape))
        if isinstance(op, Concat):
            return tf.concat(inputs, axis=-1)
        assert isinstance(op, (Add, Unpack)), f"{op.name}: not needed so far"
        return x + inputs[1] if isinstance(op, Add) else x

    def _convolve(self, op: Conv | GatedConv, x: Any) -> Any:
        kernel, size = self._net.parameters[op.weight].shape[1:3], self._net.tensors[op.input].shape[:2]
        out, before = window_geometry(size, kernel, op.stride, op.padding)
        border = [
            [b, max((o - 1) * s + k - n - b, 0)]
            for o, b, s, k, n in zip(out, before, op.stride, kernel, size, strict=True)
        ]
        padding = [[0, 0], *border, [0, 0]]
        if isinstance(op, Conv) and op.pad_value and np.any(border):
            x, padding = self._tf.pad(x, padding, constant_values=float(op.pad_value)), [[0, 0]] * 4
        return self._tf.nn.conv2d(x, self._variables[op.weight], op.stride, padding)
