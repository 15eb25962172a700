"""Constants of a TFLite file: what operators make of them, and which codes they are decoded from.

A file that stores codes decodes them at run time, with DEQUANTIZE and, as zobnn-edge writes them, SUB and MUL. Here
that is done at import. A constant keeps an encoding only as long as its codes stand for its values exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite_file import File, FileTensor, Operator
from zobnn_edge.encoding import Binary, Encoding, Float32, Uniform
from zobnn_edge.errors import ModelError

Array = NDArray[Any]
_BITS = {"int8": 8, "uint8": 8, "int16": 16}


@dataclass(frozen=True, eq=False)
class Constant:
    """Values in their shape in the file, and how they are stored.

    `encoding` is None for integers; `source` the tensor that holds the codes; `coded` the last constant on the way to
    this one that still had codes of few bits.
    """

    values: Array
    encoding: Encoding | None
    source: FileTensor
    coded: Constant | None = None


def stored(tensor: FileTensor) -> Constant:
    """A constant as the file stores it."""
    values = tensor.array()
    if tensor.type == "float16":
        values = values.astype(np.float32)
    return Constant(values, Float32() if values.dtype == np.float32 else None, tensor)


def dequantized(constant: Constant) -> Constant:
    """`scale * (q - zero_point)` of stored integers, with one scale or one a channel; float16 passes."""
    source = constant.source
    if constant.encoding is not None:
        return constant
    if source.type not in _BITS:
        raise ModelError(f"tensor {source.name!r}: codes of type {source.type} are not supported")
    count = len(source.scales)
    if count == 0 or len(source.zero_points) not in (0, count):
        raise ModelError(f"tensor {source.name!r}: codes without scale and zero point")
    scales = np.array(source.scales, np.float32)
    zero_points = np.array(source.zero_points or (0,) * count, np.float64)
    if count > 1:
        if not 0 <= source.axis < constant.values.ndim or constant.values.shape[source.axis] != count:
            raise ModelError(f"tensor {source.name!r}: {count} scales do not fit shape {source.shape}")
        along = [1] * constant.values.ndim
        along[source.axis] = count
        scales, zero_points = scales.reshape(along), zero_points.reshape(along)
    with np.errstate(all="ignore"):
        values = (constant.values - zero_points).astype(np.float32) * scales
    if count > 1:
        return Constant(values, Float32(), source)
    bits = source.bits or _BITS[source.type]
    shift = 1 << (bits - 1) if bits in (8, 16) and source.type != "uint8" else 0
    return _coded(values.reshape(constant.values.shape), source, bits, scales[0], int(zero_points[0]) + shift)


def _coded(values: Array, source: FileTensor, bits: int, scale: float, zero_point: int) -> Constant:
    """Values that are codes of this kind, where they are."""
    try:
        encoding: Encoding = Uniform(bits, float(scale), zero_point)
    except (OverflowError, ValueError):
        return Constant(values, Float32(), source)
    return _checked(Constant(values, encoding, source))


def _checked(constant: Constant) -> Constant:
    """The constant, with float32 values instead of codes where the codes do not stand for exactly its values."""
    encoding, values = constant.encoding, constant.values
    assert encoding is not None
    with np.errstate(all="ignore"):
        same = np.isfinite(values).all() and np.array_equal(encoding.decode(encoding.encode(values)), values)
    return constant if same else replace(constant, encoding=Float32())


def bits_of_words(words: Array, channels: int) -> Array:
    """+1 and -1 of packed words (..., words), as (..., channels); raises ValueError for bits set behind them."""
    packed = np.ascontiguousarray(words, "<i4")
    bits = np.unpackbits(packed.view(np.uint8).reshape(*packed.shape[:-1], -1), axis=-1, bitorder="little")
    if not bits.shape[-1] - 32 < channels <= bits.shape[-1] or bits[..., channels:].any():
        raise ValueError(f"{packed.shape[-1]} words do not hold {channels} channels and nothing else")
    values: Array = np.where(bits[..., :channels], np.float32(-1), np.float32(1)).astype(np.float32)
    return values


def folded(file: File, op: Operator, inputs: list[Constant]) -> Constant:
    """What an operator makes of constants; raises ModelError when it is none that is folded."""
    if op.name not in _FOLDS:
        raise ModelError(f"{op}: on constants, which is not supported; supported are {', '.join(sorted(_FOLDS))}")
    try:
        result = _FOLDS[op.name](file.tensors[op.output], inputs)
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{op}: does not fit its constants ({error})") from None
    if result.coded is None:
        codes = [c if isinstance(c.encoding, Uniform) else c.coded for c in inputs]
        result = replace(result, coded=next((c for c in codes if c), None))
    return result


def _arithmetic(function: Callable[[Array, Array], Array]) -> Callable[[FileTensor, list[Constant]], Constant]:
    def fold(_: FileTensor, inputs: list[Constant]) -> Constant:
        a, b = inputs
        if a.values.dtype != np.float32 or b.values.dtype != np.float32:
            raise TypeError("not float32")
        size = max(a.values.size, b.values.size)
        if np.prod(np.broadcast_shapes(a.values.shape, b.values.shape), dtype=np.float64) > size:
            raise ValueError(f"shapes {a.values.shape} and {b.values.shape}")
        with np.errstate(all="ignore"):
            values = function(a.values, b.values)
        return _recoded(Constant(values, Float32(), a.source), a, b, function)

    return fold


def _recoded(result: Constant, codes: Constant, by: Constant, function: Callable[[Array, Array], Array]) -> Constant:
    """The result of subtracting a zero point from codes, or of multiplying them by a scale, as codes again."""
    encoding = codes.encoding
    if not isinstance(encoding, Uniform) or by.values.size != 1 or not np.isfinite(by.values).all():
        return result
    number = float(by.values.reshape(()))
    if function is np.multiply:
        return _coded(result.values, codes.source, encoding.bits, encoding.scale * number, encoding.zero_point)
    return _coded(result.values, codes.source, encoding.bits, encoding.scale, encoding.zero_point + round(number))


def _dequantize(_: FileTensor, inputs: list[Constant]) -> Constant:
    (constant,) = inputs
    return dequantized(constant)


def _quantize(out: FileTensor, inputs: list[Constant]) -> Constant:
    """The codes that a QUANTIZE makes at run time, with the scale and zero point of its output."""
    (constant,) = inputs
    (scale,), (zero_point,) = out.scales, out.zero_points or (0,)
    limits = np.iinfo(out.type)
    with np.errstate(all="ignore"):
        steps = constant.values.astype(np.float32) / np.float32(scale)
        codes = np.floor(np.abs(steps) + 0.5) * np.sign(steps) + zero_point
    return Constant(np.nan_to_num(np.clip(codes, limits.min, limits.max)).astype(out.type), None, out)


def _reshape(out: FileTensor, inputs: list[Constant]) -> Constant:
    return replace(inputs[0], values=inputs[0].values.reshape(out.shape))


def _transpose(_: FileTensor, inputs: list[Constant]) -> Constant:
    constant, order = inputs
    return replace(constant, values=constant.values.transpose(order.values.tolist()))


def _unpack(out: FileTensor, inputs: list[Constant]) -> Constant:
    (words,) = inputs
    if words.values.dtype != np.int32:
        raise TypeError("not packed in int32")
    return Constant(bits_of_words(words.values, out.shape[-1]), Binary(), words.source)


def _rounded(function: Callable[[Array], Array]) -> Callable[[FileTensor, list[Constant]], Constant]:
    def fold(_: FileTensor, inputs: list[Constant]) -> Constant:
        (constant,) = inputs
        return Constant(function(constant.values.astype(np.float32)), Float32(), constant.source)

    return fold


def _cast(out: FileTensor, inputs: list[Constant]) -> Constant:
    """To int32, towards zero."""
    (constant,) = inputs
    if out.type != "int32" or constant.values.dtype != np.float32:
        raise TypeError("only float32 to int32 is supported")
    limits = np.iinfo(np.int32)
    whole = np.clip(np.nan_to_num(np.trunc(constant.values.astype(np.float64))), limits.min, limits.max)
    return Constant(whole.astype(np.int32), None, constant.source)


_FOLDS: dict[str, Callable[[FileTensor, list[Constant]], Constant]] = {
    "ADD": _arithmetic(np.add),
    "CAST": _cast,
    "CEIL": _rounded(np.ceil),
    "DEQUANTIZE": _dequantize,
    "FLOOR": _rounded(np.floor),
    "LceDequantize": _unpack,
    "MUL": _arithmetic(np.multiply),
    "QUANTIZE": _quantize,
    "RESHAPE": _reshape,
    "SUB": _arithmetic(np.subtract),
    "TRANSPOSE": _transpose,
}
