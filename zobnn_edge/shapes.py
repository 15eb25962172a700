"""What an operation makes of its inputs: the shape and kind of its output, and whether everything fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zobnn_edge.encoding import INT8, Binary, Encoding, Int32, Uniform, code_of
from zobnn_edge.errors import ModelError
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
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    Pad,
    Padding,
    PRelu,
    Quantize,
    Reshape,
    Sign,
    SoftmaxInt8,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.tensor import Parameter, Quantization, Tensor


def same_geometry(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: (output size, elements of padding before)."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + kernel - size)
    return out, total // 2


def extent(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that a dilated kernel covers."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def window_geometry(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((output height, width), (padding above, left)) of a window op; output sizes are below 1 when nothing fits."""
    if padding == "same":
        (oh, top), (ow, left) = (same_geometry(s, k, t) for s, k, t in zip(size, kernel, stride, strict=True))
        return (oh, ow), (top, left)
    top, left = ((k - 1) // 2 if padding == "half" else 0 for k in kernel)
    sides = zip(size, kernel, stride, (top, left), strict=True)
    oh, ow = ((s + 2 * before - k) // t + 1 for s, k, t, before in sides)
    return (oh, ow), (top, left)


MAX_PRODUCTS = 1 << 24
"""Most products of +-1 whose sum float32 holds exactly."""
MAX_WHOLE_SUM = 1 << 30
"""Sums over int8 inputs stay below this: they are added up in 32 bits, and then become float32, rounded once."""


def infer(op: Op, inputs: list[Tensor], parameters: dict[str, Parameter]) -> Tensor:
    """The output tensor of an operation, after checking that inputs and parameters fit it; raises ModelError."""
    x = inputs[0]
    c = x.shape[2]

    def want(condition: bool, what: str) -> None:
        if not condition:
            raise ModelError(f"{op.name}: {what}")

    def per_channel(name: str | None) -> None:
        if name is not None:
            shape = parameters[name].shape
            want(shape == (c,), f"{name} has shape {shape}, not ({c},)")

    if isinstance(op, Conv):
        weight = parameters[op.weight]
        want(weight.values.ndim == 4, f"{op.weight} has shape {weight.shape}, not (out, height, width, in)")
        o, kh, kw, i = weight.shape
        want(op.groups >= 1 and o % op.groups == 0, f"{o} filters cannot be shared among {op.groups} groups")
        want(i * op.groups == c, f"its kernel takes {i} channels in {op.groups} groups, its input has {c}")
        want(kh * kw * i <= MAX_PRODUCTS, f"{kh * kw * i} products a sum; at most {MAX_PRODUCTS} are exact in float32")
        want(op.pad_value in (0, 1), f"pad value {op.pad_value}; only 0 and 1 are supported")
        if x.kind == "binary":
            want(weight.encoding == Binary(row=i), "binary inputs need binary weights packed in rows")
            want(op.groups == 1 or i % 32 == 0, f"groups of {i} packed channels; they must be multiples of 32")
        else:
            want(weight.encoding.row == 0, f"{x.kind} inputs need weights packed without rows")
        if x.kind == "int8":
            want(op.pad_value == 0, "int8 inputs are padded with nothing (pad value 0)")
            want(is_whole(weight.encoding), f"int8 inputs need whole weights, which those of {op.weight} are not")
            sums = largest_sum(x.quantization, weight)
            want(sums < MAX_WHOLE_SUM, f"sums up to {sums} over int8 inputs; they must stay below {MAX_WHOLE_SUM}")
        want(min(op.dilation) >= 1, f"dilation {op.dilation} must be positive")
        return Tensor(op.output, (*_window(op, x, extent((kh, kw), op.dilation), op.stride, op.padding), o))
    if isinstance(op, GatedConv):
        weight = parameters[op.weight]
        same = x.kind == inputs[1].kind == "binary" and x.shape == inputs[1].shape
        want(same, "gates two binary planes of one shape")
        want(weight.values.ndim == 4 and weight.encoding == Binary(row=c), "needs binary weights packed in rows")
        o, kh, kw, _ = weight.shape
        bits = kh * kw * 32 * -(-c // 32)
        want(bits <= MAX_GATED_BITS, f"{bits} bits a sum; a gated convolution takes at most {MAX_GATED_BITS}")
        want(parameters[op.threshold].shape == (o,), f"{op.threshold} is no threshold for each of {o} channels")
        return Tensor(op.output, (*_window(op, x, (kh, kw), op.stride, op.padding), o))
    if isinstance(op, (MaxPool, AveragePool)):
        want(isinstance(op, MaxPool) or x.kind != "binary", "average pooling needs a real or int8 input")
        shape = (*_window(op, x, op.size, op.stride, op.padding), c)
        return Tensor(op.output, shape, x.kind, x.quantization)
    if isinstance(op, Reshape):
        size = int(np.prod(op.shape))
        want(x.kind != "binary", "reshapes a binary tensor")
        want(size == x.size and min(op.shape) > 0, f"reshapes {x.shape} to {op.shape}")
        return Tensor(op.output, op.shape, x.kind, x.quantization)
    if isinstance(op, (Dequantize, ConvInt8, AddInt8, SoftmaxInt8)):
        want(all(t.kind == "int8" for t in inputs), f"{type(op).__name__} needs int8 inputs")
        return _infer_int8(op, inputs, parameters, want)
    if isinstance(op, Unpack):
        want(x.kind == "binary", "unpacks a tensor that is not binary")
        return Tensor(op.output, x.shape)
    want(x.kind == "real", f"{type(op).__name__} needs a real input")
    if isinstance(op, Affine):
        per_channel(op.scale)
        per_channel(op.bias)
        want(op.scale is None or op.gain == 1.0, "an affine takes a scale or a gain, not both")
        want(bool(np.isfinite(op.gain)) and np.float32(op.gain) == op.gain, "the gain is no finite float32")
    elif isinstance(op, PRelu):
        size = parameters[op.slope].values.size
        want(size in (c, x.size), f"{op.slope} has {size} slopes; its input has {c} channels, {x.size} elements")
    elif isinstance(op, Threshold):
        per_channel(op.threshold)
    elif isinstance(op, LowBit):
        want(op.bound > 0 and np.float32(op.bound) == op.bound, f"bound {op.bound}; a positive float32 is needed")
    elif isinstance(op, Clip):
        want(op.low <= op.high, f"clips to [{op.low}, {op.high}], an empty range")
    elif isinstance(op, Add):
        want(inputs[1].kind == "real", f"adds {inputs[1].name}, which is binary")
        want(x.shape == inputs[1].shape, f"adds shapes {x.shape} and {inputs[1].shape}")
    elif isinstance(op, Mul):
        want(inputs[1].kind == "real", f"multiplies by {inputs[1].name}, which is binary")
        want(inputs[1].shape in (x.shape, (1, 1, c)), f"multiplies shapes {x.shape} and {inputs[1].shape}")
    elif isinstance(op, Concat):
        other = inputs[1]
        want(other.kind == "real", f"joins {other.name}, which is binary")
        want(x.shape[:2] == other.shape[:2], f"joins shapes {x.shape} and {other.shape}")
        return Tensor(op.output, (*x.shape[:2], c + other.shape[2]))
    elif isinstance(op, Pad):
        want(min(*op.rows, *op.columns) >= 0, f"pads by {op.rows} and {op.columns}")
        want(np.float32(op.value) == op.value, f"pads with {op.value}, which is no float32")
        return Tensor(op.output, (x.shape[0] + sum(op.rows), x.shape[1] + sum(op.columns), c))
    elif isinstance(op, Thermometer):
        want(op.planes >= 1 and np.float32(op.gain) == op.gain, f"{op.planes} planes, gain {op.gain}")
        return Tensor(op.output, (*x.shape[:2], c * op.planes), "binary")
    elif isinstance(op, Quantize):
        _check_quantization(op.to, want)
        return Tensor(op.output, x.shape, "int8", op.to)
    binary = isinstance(op, (Sign, LowBit, Threshold))
    return Tensor(op.output, x.shape, "binary" if binary else "real")


MAX_GATED_BITS = 32767
"""Most bits, those that fill up words included, whose sums of the high plane fit 16 bits."""


def is_whole(encoding: Encoding) -> bool:
    """Whether every code stands for a whole number, whatever flips."""
    code = code_of(encoding)
    return isinstance(code, Binary) or (isinstance(code, Uniform) and code.scale == 1 and code.scales == "flash")


def largest_sum(inputs: Quantization, weight: Parameter) -> int:
    """A bound on sums of products of int8 inputs and whole weights, whatever inputs and codes are."""
    taps = int(np.prod(weight.shape[1:]))
    reach = max(127 - inputs.zero_point, inputs.zero_point + 128)
    e = code_of(weight.encoding)
    return taps * reach * (max(abs(e.zero_point), abs(e.levels - 1 - e.zero_point)) if isinstance(e, Uniform) else 1)


def check_input(x: Tensor) -> None:
    """Raises ModelError where a tensor cannot be a network's input: real ones can, and int8."""
    if x.kind == "binary":
        raise ModelError(f"{x.name}: a network's input is real or int8, not binary")
    if x.kind == "int8" and not _is_quantization(x.quantization):
        raise ModelError(f"{x.name}: int8 with scale {x.quantization.scale} and zero point {x.quantization.zero_point}")
    if x.kind == "real" and x.quantization != Quantization():
        raise ModelError(f"{x.name}: real, but with a scale or a zero point; only int8 has them")


MAX_INT8_PRODUCTS = 65000
"""Most products of an int8 activation and weight whose sum stays below 2^31."""


SOFTMAX_INT8 = Quantization(1 / 256, -128)


def _is_quantization(q: Quantization) -> bool:
    return bool(0 < q.scale < np.inf) and np.float32(q.scale) == q.scale and -128 <= q.zero_point <= 127


def _check_quantization(q: Quantization, want: Callable[[bool, str], None]) -> None:
    want(_is_quantization(q), f"int8 with scale {q.scale} and zero point {q.zero_point}")


def _infer_int8(
    op: Dequantize | ConvInt8 | AddInt8 | SoftmaxInt8,
    inputs: list[Tensor],
    parameters: dict[str, Parameter],
    want: Callable[[bool, str], None],
) -> Tensor:
    """`infer` for operations in integers."""
    x = inputs[0]
    if isinstance(op, Dequantize):
        return Tensor(op.output, x.shape)

    def numbers(name: str, shape: tuple[int, ...]) -> None:
        p = parameters[name]
        want(p.shape == shape and p.encoding == Int32(), f"{name} is no int32 of shape {shape}")

    if isinstance(op, SoftmaxInt8):
        numbers(op.multiplier, (1, 2))
        return Tensor(op.output, x.shape, "int8", SOFTMAX_INT8)
    _check_quantization(op.to, want)
    want(-128 <= op.low <= op.high <= 127, f"limits to [{op.low}, {op.high}]")
    if isinstance(op, AddInt8):
        want(inputs[1].shape == x.shape, f"adds shapes {x.shape} and {inputs[1].shape}")
        numbers(op.multiplier, (3, 2))
        return Tensor(op.output, x.shape, "int8", op.to)
    weight = parameters[op.weight]
    want(weight.values.ndim == 4, f"{op.weight} has shape {weight.shape}, not (out, height, width, in)")
    o, kh, kw, i = weight.shape
    want(weight.encoding == INT8, f"{op.weight} is not stored as int8")
    want(op.groups >= 1 and o % op.groups == 0, f"{o} filters cannot be shared among {op.groups} groups")
    want(
        i * op.groups == x.shape[2], f"its kernel takes {i} channels in {op.groups} groups, its input has {x.shape[2]}"
    )
    want(kh * kw * i <= MAX_INT8_PRODUCTS, f"{kh * kw * i} products a sum; at most {MAX_INT8_PRODUCTS} fit 32 bits")
    want(min(op.dilation) >= 1, f"dilation {op.dilation} must be positive")
    numbers(op.bias, (o,))
    numbers(op.multiplier, (o, 2))
    size = _window(op, x, extent((kh, kw), op.dilation), op.stride, op.padding)
    return Tensor(op.output, (*size, o), "int8", op.to)


def _window(op: Op, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> tuple[int, int]:
    if min(*kernel, *stride) < 1:
        raise ModelError(f"{op.name}: kernel {kernel} and stride {stride} must be positive")
    out, _ = window_geometry(x.shape[:2], kernel, stride, padding)
    if min(out) < 1:
        raise ModelError(f"{op.name}: a window of {kernel} does not fit its input {x.shape[:2]}")
    return out
