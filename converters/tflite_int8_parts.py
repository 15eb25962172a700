"""Operators of int8 files that the engine has no operation for, as several that it has: the bits stay TFLite's.

What rescales is a convolution whose weights are whole numbers that say how often an input counts: they are parameters
and lie in the image. What only moves numbers, or is a table in TFLite, is done on the real numbers that they stand for,
of which rounding makes the same numbers again. Scales are multiplied in float32 where TensorFlow Lite does so
(tensorflow/lite/kernels: activations.cc, mul.cc, quantize.cc, reduce.cc).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite_file import Operator
from converters.tflite_graph import Graph, image_shape
from zobnn_edge.encoding import INT8, Int32
from zobnn_edge.integers import multiplier
from zobnn_edge.operations import Add, AddInt8, Affine, Concat, ConvInt8, Mul, Quantize, Reshape
from zobnn_edge.tensor import Quantization, Shape

Array = NDArray[Any]
Pair = tuple[int, int]
ANY = (-128, 127)
"""Limits of what is not limited."""


def pairs(graph: Graph, op: Operator, factors: list[float]) -> str:
    """The parameter of the multipliers for some factors."""
    return graph.parameter(op, "scale", np.array([multiplier(f) for f in factors], np.float64), Int32())


def rescaled(graph: Graph, op: Operator, x: str, to: Quantization, factor: float, limits: Pair = ANY) -> str:
    """Each number, less its zero point, times a factor, plus that of the result: a convolution of one weight."""
    h, w, c = shape = graph.builder.tensors[x].shape
    y = _windows(graph, op, _shaped(graph, op, x, (h, w * c, 1)), 1, to, factor, limits)
    return _shaped(graph, op, y, shape)


def mean(graph: Graph, op: Operator, x: str, axes: set[int], to: Quantization) -> str:
    """The mean over height (1), width (2) or both: a convolution of ones over a column of what is added up."""
    h, w, c = graph.builder.tensors[x].shape
    taps = (h if 1 in axes else 1) * (w if 2 in axes else 1)
    rows, inner = (h * w, c) if 2 in axes else (h, w * c)
    factor = graph.builder.tensors[x].quantization.scale / to.scale
    y = _windows(graph, op, _shaped(graph, op, x, (rows, inner, 1)), taps, to, factor)
    return _shaped(graph, op, y, image_shape(op, graph.file.tensors[op.output].shape))


def _windows(graph: Graph, op: Operator, x: str, taps: int, to: Quantization, factor: float, limits: Pair = ANY) -> str:
    """The means of `taps` numbers below each other, times a factor; `x` has one channel."""
    weight = graph.parameter(op, "weight", np.ones((1, taps, 1, 1), np.float32), INT8)
    bias = graph.parameter(op, "bias", np.zeros(1), Int32())
    pair = _shared(multiplier(factor), taps)
    scale = graph.parameter(op, "scale", np.array([pair], np.float64), Int32())
    return graph.add(op, ConvInt8, x, weight, bias, scale, to, *limits, stride=(taps, 1), part="/rescaled")


def _shared(pair: Pair, count: int) -> Pair:
    """A multiplier divided by a count, as TensorFlow Lite divides it (reference/reduce.h)."""
    fraction, power = pair
    by = min(count.bit_length() - 1, 32, 31 + power)
    return (fraction << by) // count, power - by


def by_channel(
    graph: Graph, op: Operator, x: str, weights: Array, to: Quantization, factor: float, limits: Pair = ANY
) -> str:
    """Each number, less its zero point, times a whole number of its channel and a factor. Whole numbers beyond 8 bits
    are sums of several, for which each channel is there as often."""
    h, w, c = graph.builder.tensors[x].shape
    parts: list[Array] = []
    while not parts or (weights - sum(parts)).any():
        parts.append(np.clip(weights - sum(parts), -128, 127))
    if len(parts) > 1:
        column = _shaped(graph, op, x, (h, w * c, 1))
        repeated = _joined(graph, op, [graph.real(column)] * len(parts), graph.builder.tensors[x].quantization)
        x = _shaped(graph, op, repeated, (h, w, c * len(parts)))
    filters = np.stack(parts, axis=-1).reshape(c, 1, 1, len(parts))
    return _conv(graph, op, x, filters, to, [factor] * c, limits, groups=c)


def _joined(graph: Graph, op: Operator, reals: list[str], to: Quantization) -> str:
    """The channels of real tensors, one after the other, as int8."""
    x, *others = reals
    for other in others:
        x = graph.add(op, Concat, x, other, part="/joined")
    return graph.add(op, Quantize, x, to, part="/joined")


def _conv(
    graph: Graph, op: Operator, x: str, filters: Array, to: Quantization, factors: list[float], limits: Pair, **how: Any
) -> str:
    """A convolution with these weights and no bias."""
    weight = graph.parameter(op, "weight", filters.astype(np.float32), INT8)
    bias = graph.parameter(op, "bias", np.zeros(len(filters)), Int32())
    return graph.add(op, ConvInt8, x, weight, bias, pairs(graph, op, factors), to, *limits, part="/scaled", **how)


_DIGITS = (127, 127, 127, 127, 127, 1)
"""What the digits of a product of two numbers of 9 bits count, from -128 to 127 each."""


def product(graph: Graph, op: Operator, a: str, b: str, to: Quantization, factor: float, limits: Pair = ANY) -> str:
    """Products of numbers, less their zero points, times a factor; `b` may be one number a channel.

    Float32 multiplies whole numbers of 9 bits exactly, but rescales otherwise. So products are taken apart into digits
    of 8 bits, each the most that is left, and a convolution adds up what these count.
    """
    whole = [Quantization(1.0, graph.builder.tensors[x].quantization.zero_point) for x in (a, b)]
    one, other = (graph.real(rescaled(graph, op, x, q, 1.0)) for x, q in zip((a, b), whole, strict=True))
    rest = graph.add(op, Mul, one, other, part="/product")
    h, w, c = shape = graph.builder.tensors[rest].shape
    digits: list[str] = []
    for unit in _DIGITS:
        digit = graph.real(graph.add(op, Quantize, rest, Quantization(float(unit)), part="/digit"))
        rest = graph.add(op, Add, rest, graph.add(op, Affine, digit, gain=-1.0, part="/taken"), part="/rest")
        single = graph.add(op, Affine, digit, gain=float(np.float32(1 / unit)), part="/digit")
        digits.append(_shaped(graph, op, single, (h, w * c, 1)))
    x = _joined(graph, op, digits, Quantization())
    y = _conv(graph, op, x, np.array(_DIGITS).reshape(1, 1, 1, -1), to, [factor], limits)
    return _shaped(graph, op, y, shape)


def constant(graph: Graph, op: Operator, like: str, numbers: Array, q: Quantization) -> str:
    """A tensor of the shape of another that holds a number for each channel, whatever is in that one."""
    c = graph.builder.tensors[like].shape[2]
    weight = graph.parameter(op, "weight", np.zeros((c, 1, 1, 1), np.float32), INT8)
    bias = graph.parameter(op, "bias", numbers.astype(np.float64) - q.zero_point, Int32())
    return graph.add(op, ConvInt8, like, weight, bias, pairs(graph, op, [1.0] * c), q, groups=c, part="/constant")


def prelu(graph: Graph, op: Operator, x: str, slopes: Array, to: Quantization, factors: tuple[float, float]) -> str:
    """Numbers above zero times the first factor, those below times a slope and the second: the sum of both halves."""
    tensor = graph.builder.tensors[x]
    own = tensor.quantization
    if slopes.size != tensor.shape[2]:
        x = _shaped(graph, op, x, (1, 1, tensor.size))
    above = rescaled(graph, op, x, to, factors[0], (to.zero_point, 127))
    below = rescaled(graph, op, x, own, 1.0, (-128, own.zero_point))
    below = by_channel(graph, op, below, slopes.reshape(-1), to, factors[1])
    y = graph.add(op, AddInt8, above, below, pairs(graph, op, [0.5, 0.5, 2.0**-19]), to, part="/both")
    return _shaped(graph, op, y, tensor.shape)


def _shaped(graph: Graph, op: Operator, x: str, shape: Shape) -> str:
    if graph.builder.tensors[x].shape == shape:
        return x
    return graph.add(op, Reshape, x, shape, part="/shaped")
