"""The slow and obvious twin of the C engine: NumPy, operation by operation, in the order that docs/spec.md fixes.

Its scores are bit-identical to the engine's, also when bits of the image are flipped: every float operation is a
float32 operation, rounded to nearest, and sums run in the engine's order. Int8 tensors are int64 arrays here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zobnn_edge import integers
from zobnn_edge.encoding import Binary, FloatArray, InputArray, row_bits
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Network, as_inputs
from zobnn_edge.operations import (
    Add,
    AddInt8,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Conv,
    ConvInt8,
    Dequantize,
    DynamicRange,
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    Pad,
    PRelu,
    Quantize,
    Reshape,
    Sign,
    Softmax,
    SoftmaxInt8,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import extent, window_geometry
from zobnn_edge.tensor import Quantization, Tensor

CANONICAL_NAN = np.array([0x7FC00000], np.uint32).view(np.float32)[0]


def run(net: Network, inputs: InputArray, image: ParameterImage | None = None) -> FloatArray:
    """Scores (N, outputs) of `inputs` (N, height, width, channels), float32 or uint8.

    `image`: the parameters to use, for instance with flipped bits; by default the network's own.
    """
    image = image or ParameterImage.of(net)
    x = as_inputs(net, inputs)
    values: dict[str, NDArray[Any]] = {net.input: net.pixels.apply(x) if x.dtype == np.uint8 else x}
    with np.errstate(all="ignore"):
        if net.tensors[net.input].kind == "int8":
            values[net.input] = _quantize(values[net.input], net.tensors[net.input].quantization)
        for op in net.ops:
            values[op.output] = _run_op(net, image, op, [values[t] for t in op.inputs])
    scores = np.array(values[net.output].reshape(len(x), net.outputs), np.float32)
    scores[np.isnan(scores)] = CANONICAL_NAN
    return scores


def as_held(net: Network, x: FloatArray) -> FloatArray:
    """Real inputs as the network's input tensor holds them: where that is int8, rounded to it."""
    source = net.tensors[net.input]
    if source.kind != "int8":
        return x
    return _dequantize(_quantize(x, source.quantization), source.quantization)


def _run_op(net: Network, image: ParameterImage, op: Op, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    """One operation on a batch; binary tensors are +1.0 and -1.0."""
    x = inputs[0]
    if isinstance(op, Reshape):
        return x.reshape(len(x), *op.shape)
    if net.tensors[op.output].kind == "int8":
        return _run_int8(net, image, op, inputs)
    if isinstance(op, Conv):
        conv = {"binary": _binary_conv, "real": _real_conv, "int8": _whole_conv}[net.tensors[op.input].kind]
        return conv(net, image, op, x)
    if isinstance(op, GatedConv):
        first, second = (_binary_conv(net, image, op, plane) for plane in inputs)
        return np.asarray(first * 2 + np.where(first < image.values(op.threshold), np.float32(0), second))
    if isinstance(op, MaxPool):
        return _max_pool(op, x, net.tensors[op.output])
    if isinstance(op, AveragePool):
        return _average_pool(op, x, net.tensors[op.output])
    if isinstance(op, Affine):
        y = x * (np.float32(op.gain) if op.scale is None else image.values(op.scale))
        return y if op.bias is None else y + image.values(op.bias)
    if isinstance(op, PRelu):
        slope = image.values(op.slope)
        shape = (1, 1, -1) if slope.size == x.shape[-1] else x.shape[1:]
        return np.where(x >= 0, x, x * slope.reshape(shape))
    if isinstance(op, Clip):
        low, high = np.float32(op.low), np.float32(op.high)
        y = np.where(x < low, low, x)
        return np.where(y > high, high, y)
    if isinstance(op, Sign):
        return np.where(x < 0, np.float32(-1), np.float32(1))
    if isinstance(op, LowBit):
        bounds = np.where(x < 0, np.float32(-op.bound), np.float32(op.bound))
        return np.where(x < bounds, np.float32(-1), np.float32(1))
    if isinstance(op, Threshold):
        return np.where(x < image.values(op.threshold), np.float32(-1), np.float32(1))
    if isinstance(op, Unpack):
        return x
    if isinstance(op, Add):
        return np.add(x, inputs[1])
    if isinstance(op, Mul):
        return np.multiply(x, inputs[1])
    if isinstance(op, Concat):
        return np.concatenate(inputs, axis=-1)
    if isinstance(op, Pad):
        return np.pad(x, ((0, 0), op.rows, op.columns, (0, 0)), constant_values=np.float32(op.value))
    if isinstance(op, Thermometer):
        levels = _rint(x * np.float32(op.gain))[..., None]
        planes = np.where(np.arange(op.planes, dtype=np.float32) < levels, np.float32(1), np.float32(-1))
        return planes.reshape(*x.shape[:3], -1)
    if isinstance(op, Softmax):
        return softmax(x)
    if isinstance(op, DynamicRange):
        return np.stack([_over_own_range(image, op.symmetric) for image in x])
    assert isinstance(op, Dequantize)
    return _dequantize(x, net.tensors[op.input].quantization)


def _dequantize(x: NDArray[Any], q: Quantization) -> FloatArray:
    return np.multiply((x - q.zero_point).astype(np.float32), np.float32(q.scale))


def _run_int8(net: Network, image: ParameterImage, op: Op, inputs: list[NDArray[Any]]) -> integers.Integers:
    """One operation whose output is int8."""
    x, out = inputs[0], net.tensors[op.output]
    if isinstance(op, Quantize):
        return _quantize(x, op.to)
    if isinstance(op, MaxPool):
        return _max_pool(op, x, out).astype(np.int64)
    if isinstance(op, AveragePool):
        taps = list(_taps(x, out, op.size, op))
        total = sum(np.where(inside, patch, 0) for _, _, patch, inside in taps)
        return integers.mean(np.asarray(total), np.asarray(sum(inside.astype(np.int64) for *_, inside in taps)))
    if isinstance(op, SoftmaxInt8):
        return integers.softmax(x, _numbers(image, op.multiplier)[0])
    if isinstance(op, ConvInt8):
        sums = integers.wrap(_int8_sums(net, image, op, x) + _numbers(image, op.bias))
        y = integers.scaled(sums, _numbers(image, op.multiplier))
    else:
        assert isinstance(op, AddInt8)
        pairs = _numbers(image, op.multiplier)
        parts = zip(inputs, op.inputs, pairs[:2], strict=True)
        terms = [integers.scaled((q - net.tensors[t].quantization.zero_point) << 20, pair) for q, t, pair in parts]
        y = integers.scaled(integers.wrap(terms[0] + terms[1]), pairs[2])
    limited: integers.Integers = np.clip(integers.wrap(y + op.to.zero_point), op.low, op.high)
    return limited


def _numbers(image: ParameterImage, name: str) -> integers.Integers:
    return image.values(name).astype(np.int64)


def _quantize(x: FloatArray, to: Quantization) -> integers.Integers:
    """To the nearest step, ties away from 0; NaN counts as the least."""
    return np.asarray(np.clip(_nearest(x / np.float32(to.scale)) + to.zero_point, -128, 127))


def _over_own_range(x: FloatArray, symmetric: bool) -> FloatArray:
    """One image rounded to 8 bits over its own range."""
    least, greatest = np.fmin.reduce(x, axis=None, initial=0), np.fmax.reduce(x, axis=None, initial=0)
    zero_point = 0
    if least == greatest:
        return np.zeros_like(x)
    if symmetric:
        reach = max(-least, greatest)
        scale, per_unit = reach / np.float32(127), np.float32(127) / reach
    else:
        step = (np.float64(greatest) - np.float64(least)) / 255
        scale = np.float32(step)
        per_unit = np.float32(1) / scale
        from_least, from_greatest = -least / step, greatest / step
        zero = -128 + from_least if 128 + from_least < 127 + from_greatest else 127 - from_greatest
        zero_point = int(_nearest(np.array(zero, np.float32)))
        zero_point = min(max(zero_point, -128), 127)
    q = np.clip(_nearest(np.float32(zero_point) + x * per_unit), -127 if symmetric else -128, 127)
    return np.multiply((q - zero_point).astype(np.float32), scale)


def _nearest(x: FloatArray) -> integers.Integers:
    """To the nearest whole number, ties away from 0; limited to +-1024, NaN counts as the least."""
    x = np.where(x > -1024, np.minimum(x, np.float32(1024)), np.float32(-1024))
    whole = np.trunc(x)
    return np.asarray(whole + (x - whole >= 0.5) - (x - whole <= -0.5)).astype(np.int64)


def _whole_conv(net: Network, image: ParameterImage, op: Conv, x: NDArray[Any]) -> FloatArray:
    """Sums, rounded to float32, times the input's scale."""
    scale = np.float32(net.tensors[op.input].quantization.scale)
    return np.multiply(_int8_sums(net, image, op, x).astype(np.float32), scale)


def _int8_sums(net: Network, image: ParameterImage, op: Conv | ConvInt8, x: NDArray[Any]) -> integers.Integers:
    """Sums of products, in float64, which holds them exactly."""
    out, weight = net.tensors[op.output], image.values(op.weight).astype(np.float64)
    shifted = (x - net.tensors[op.input].quantization.zero_point).astype(np.float64)
    acc = np.zeros((len(x), *out.shape))
    _, kh, kw, _ = weight.shape
    for ky, kx, patch, inside in _taps(shifted, out, (kh, kw), op):
        acc += _grouped(np.where(inside, patch, 0), weight[:, ky, kx], op.groups)
    return acc.astype(np.int64)


def _taps(
    x: NDArray[Any], out: Tensor, kernel: tuple[int, int], op: Conv | GatedConv | ConvInt8 | MaxPool | AveragePool
) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.bool_]]]:
    """For each kernel position, row by row: (row, column, what it reads (N, oh, ow, C), where that is inside)."""
    height, width = x.shape[1:3]
    oh, ow = out.shape[:2]
    dilation = op.dilation if isinstance(op, (Conv, ConvInt8)) else (1, 1)
    _, (top, left) = window_geometry((height, width), extent(kernel, dilation), op.stride, op.padding)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            iy = np.arange(oh) * op.stride[0] - top + ky * dilation[0]
            ix = np.arange(ow) * op.stride[1] - left + kx * dilation[1]
            inside = ((iy >= 0) & (iy < height))[:, None] & ((ix >= 0) & (ix < width))[None, :]
            patch = x[:, np.clip(iy, 0, height - 1)][:, :, np.clip(ix, 0, width - 1)]
            yield ky, kx, patch, inside[None, :, :, None]


def _binary_conv(net: Network, image: ParameterImage, op: Conv | GatedConv, x: FloatArray) -> FloatArray:
    """Dot products of +-1; a bit set in the padding of a weight row counts as one more differing bit a tap."""
    out = net.tensors[op.output]
    region = image.region(op.weight)
    o, kh, kw, _ = region.shape
    weight = image.values(op.weight)
    extra = _row_padding(image, op.weight).reshape(o, kh, kw)
    dot = np.zeros((len(x), *out.shape), np.float32)
    pad_value, groups = (op.pad_value, op.groups) if isinstance(op, Conv) else (0, 1)
    for ky, kx, patch, inside in _taps(x, out, (kh, kw), op):
        read = np.where(inside, patch, np.float32(pad_value))
        counted = np.ones_like(inside) if pad_value else inside
        dot += _grouped(read, weight[:, ky, kx], groups) - 2 * counted * extra[:, ky, kx]
    return dot


def _grouped(x: NDArray[Any], weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Dot products over the channels: x (..., in), weight (out, in / groups) -> (..., out). Exact for integers."""
    parts = zip(np.split(x, groups, axis=-1), np.split(weight, groups), strict=True)
    return np.concatenate([part @ filters.T for part, filters in parts], axis=-1)


def _row_padding(image: ParameterImage, name: str) -> FloatArray:
    """How many of the bits that fill up each row are set."""
    encoding = image.region(name).encoding
    assert isinstance(encoding, Binary)
    bits = np.unpackbits(np.frombuffer(image.raw(name), np.uint8), bitorder="little")
    counts: FloatArray = bits.reshape(-1, row_bits(encoding))[:, encoding.row :].sum(axis=1).astype(np.float32)
    return counts


def _real_conv(net: Network, image: ParameterImage, op: Conv, x: FloatArray) -> FloatArray:
    out = net.tensors[op.output]
    weight = image.values(op.weight)
    filters, kh, kw, channels = weight.shape
    first = np.arange(filters) // (filters // op.groups) * channels  # first input channel of each filter's group
    acc = np.zeros((len(x), *out.shape), np.float32)
    for ky, kx, patch, inside in _taps(x, out, (kh, kw), op):
        if op.pad_value:
            patch, inside = np.where(inside, patch, np.float32(1)), np.ones_like(inside)
        whole = bool(inside.all())
        for c in range(channels):
            sums = acc + patch[..., _channels(op, first, c)] * weight[:, ky, kx, c]
            acc = sums if whole else np.where(inside, sums, acc)
    return acc


def _channels(op: Conv, first: NDArray[np.int64], c: int) -> NDArray[np.int64]:
    """The input channel that each filter multiplies by its weight `c`; one for all where there is one group."""
    return first[:1] + c if op.groups == 1 else first + c


def _max_pool(op: MaxPool, x: NDArray[Any], out: Tensor) -> NDArray[Any]:
    best = np.zeros((len(x), *out.shape), x.dtype)
    seen = np.zeros((1, *out.shape[:2], 1), np.bool_)
    for _, _, patch, inside in _taps(x, out, op.size, op):
        best = np.where(inside & (~seen | (patch > best)), patch, best)
        seen = seen | inside
    return best


def _average_pool(op: AveragePool, x: FloatArray, out: Tensor) -> FloatArray:
    total = np.zeros((len(x), *out.shape), np.float32)
    count = np.zeros((1, *out.shape[:2], 1), np.float32)
    for _, _, patch, inside in _taps(x, out, op.size, op):
        total = np.where(inside, total + patch, total)
        count += inside
    return total / count


def _rint(x: FloatArray) -> FloatArray:
    """To the nearest integer, ties to even, by adding and subtracting 1.5 * 2^23; for |x| below 2^22."""
    return (x + np.float32(12582912)) - np.float32(12582912)


def exp(x: FloatArray) -> FloatArray:
    """e^x for x <= 0 as the engine computes it (docs/spec.md, "Softmax"): Cephes expf in float32, 0 below -87."""
    f = np.float32
    n = _rint(x * f(1.44269504))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440e-4)
    y = np.full_like(x, f(1.9875691500e-4))
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = y * r + f(c)
    y = (y * r * r + r) + f(1)
    usable = (x >= f(-87)) & (x <= 0)
    power = ((np.where(usable, n, 0).astype(np.int32) + 127) << 23).view(np.float32)
    return np.where(np.isnan(x), x, np.where(x > 0, f(1), np.where(usable, y * power, f(0))))


def softmax(x: FloatArray) -> FloatArray:
    """Softmax over the last axis, sums in order of the channels."""
    top = x[..., 0]
    for c in range(1, x.shape[-1]):
        top = np.where(x[..., c] > top, x[..., c], top)
    y = exp(x - top[..., None])
    total = np.zeros_like(top)
    for c in range(x.shape[-1]):
        total = total + y[..., c]
    scores: FloatArray = y / total[..., None]
    return scores
