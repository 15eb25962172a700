"""What the operators of an int8 TFLite file become in a Network: integers in, integers out.

Scales of a file become multipliers (a fraction and a power of 2), computed in double precision as TensorFlow Lite
computes them when it prepares a model (tensorflow/lite/kernels/kernel_util.cc, add.cc, activations.cc).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import tflite_int8_parts as parts
from converters.tflite_file import FileTensor, Operator
from converters.tflite_graph import Graph, Handler, padding, stride
from converters.tflite_ops import HANDLERS as REAL
from converters.tflite_ops import dense_window, mean_axes
from zobnn_edge.encoding import INT8, Int32
from zobnn_edge.errors import ModelError
from zobnn_edge.integers import SOFTMAX_BITS, multiplier
from zobnn_edge.operations import AddInt8, AveragePool, ConvInt8, Dequantize, MaxPool, Quantize, SoftmaxInt8
from zobnn_edge.shapes import SOFTMAX_INT8
from zobnn_edge.tensor import Quantization, Tensor

Array = NDArray[Any]
Pair = tuple[int, int]

_BOUNDS = {0: (-math.inf, math.inf), 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""What the activations fused into an operator limit to: none, RELU, RELU_N1_TO_1, RELU6."""
_RELUS = {"RELU": _BOUNDS[1], "RELU_N1_TO_1": _BOUNDS[2], "RELU6": _BOUNDS[3]}


def quantization(who: object, tensor: FileTensor) -> Quantization:
    """The one scale and zero point of an int8 activation."""
    if tensor.type != "int8" or len(tensor.scales) != 1 or len(tensor.zero_points) > 1:
        raise ModelError(f"{who}: an activation of type {tensor.type} with {len(tensor.scales)} scales; int8 has one")
    scale, zero_point = tensor.scales[0], (*tensor.zero_points, 0)[0]
    if not 0 < scale < math.inf or not -128 <= zero_point <= 127:
        raise ModelError(f"{who}: an int8 activation with scale {scale} and zero point {zero_point}")
    return Quantization(scale, zero_point)


def _limits(op: Operator, q: Quantization) -> Pair:
    """The numbers that a fused activation limits to."""
    code = op.option("fused_activation_function")
    if code not in _BOUNDS:
        raise ModelError(f"{op}: fused activation {code}; only RELU, RELU_N1_TO_1 and RELU6 are supported")
    low, high = (_number(bound, q) for bound in _BOUNDS[code])
    return max(-128, low), min(127, high)


def _number(bound: float, q: Quantization) -> int:
    if math.isinf(bound):
        return 1000 if bound > 0 else -1000
    steps = float(np.float32(bound) / np.float32(q.scale))
    return q.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def _input(graph: Graph, op: Operator, place: int = 0) -> Tensor:
    x = graph.builder.tensors[graph.input(op, place)]
    if x.kind != "int8":
        raise ModelError(f"{op}: mixes int8 with {x.kind} activations")
    return x


def _output(graph: Graph, op: Operator) -> Quantization:
    return quantization(op, graph.file.tensors[op.output])


def _conv_2d(graph: Graph, op: Operator) -> str:
    channels = graph.image_input(op)[2]
    weights = _weights(graph, op, 4)
    per_group = weights.shape[3]
    if per_group == 0 or channels % per_group:
        raise ModelError(f"{op}: its kernel takes {per_group} channels, its input has {channels}")
    return _windowed(graph, op, weights, channels // per_group, _scales(graph, op, len(weights), 0))


def _depthwise_conv_2d(graph: Graph, op: Operator) -> str:
    channels = graph.image_input(op)[2]
    weights = _weights(graph, op, 4).transpose(3, 1, 2, 0)
    return _windowed(graph, op, weights, channels, _scales(graph, op, len(weights), 3))


def _fully_connected(graph: Graph, op: Operator) -> str:
    weights, shape = _weights(graph, op, 2), _input(graph, op).shape
    window = dense_window(op, weights.shape, shape)
    return _linear(graph, op, weights.reshape(-1, *window), _scales(graph, op, len(weights), 0))


def _windowed(graph: Graph, op: Operator, weights: Array, groups: int, scales: Array) -> str:
    dilation = (op.option("dilation_h_factor", 1), op.option("dilation_w_factor", 1))
    window = {"stride": stride(op), "padding": padding(op), "groups": groups, "dilation": dilation}
    return _linear(graph, op, weights, scales, **window)


def _weights(graph: Graph, op: Operator, rank: int) -> Array:
    """The stored numbers of the weights, whose zero point must be 0."""
    tensor = graph.stored_input(op, 1)
    if tensor.type != "int8" or any(tensor.zero_points) or len(tensor.shape) != rank:
        raise ModelError(f"{op}: its weights must be int8 with zero point 0 and {rank} dimensions")
    return tensor.array().astype(np.float32)


def _scales(graph: Graph, op: Operator, filters: int, axis: int) -> Array:
    """The scale of each filter, in double precision."""
    tensor = graph.stored_input(op, 1)
    if len(tensor.scales) not in (1, filters) or (len(tensor.scales) > 1 and tensor.axis != axis):
        raise ModelError(f"{op}: {len(tensor.scales)} scales along dimension {tensor.axis} for {filters} filters")
    scales = np.array(tensor.scales, np.float64)
    if not ((scales > 0) & np.isfinite(scales)).all():
        raise ModelError(f"{op}: a scale of its weights is not positive")
    return np.broadcast_to(scales, filters)


def _linear(graph: Graph, op: Operator, weights: Array, scales: Array, **window: Any) -> str:
    x, to = _input(graph, op), _output(graph, op)
    factors = [x.quantization.scale * float(scale) / to.scale for scale in scales]
    weight = graph.parameter(op, "weight", weights, INT8)
    bias = graph.parameter(op, "bias", _bias(graph, op, len(weights)), Int32())
    pairs = graph.parameter(op, "scale", np.array([multiplier(f) for f in factors], np.float64), Int32())
    return graph.add(op, ConvInt8, x.name, weight, bias, pairs, to, *_limits(op, to), **window)


def _bias(graph: Graph, op: Operator, filters: int) -> Array:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(filters)
    tensor = graph.stored_input(op, 2)
    if tensor.type != "int32" or tensor.shape != (filters,):
        raise ModelError(f"{op}: its bias must be int32, one for each of {filters} filters")
    return tensor.array().astype(np.float64)


def _operands(graph: Graph, op: Operator) -> tuple[Tensor, FileTensor | None]:
    """What a sum or product reads: an activation, and the constant beside it or before it, if there is one."""
    for place in (0, 1):
        if graph.constant_input(op, place) is not None:
            return _input(graph, op, 1 - place), graph.stored_input(op, place)
    return _input(graph, op), None


def _by_channel(graph: Graph, op: Operator, x: Tensor, constant: FileTensor) -> tuple[Array, Quantization]:
    """The numbers of an int8 constant, one a channel, and what they stand for."""
    numbers, channels = constant.array().astype(np.int64), x.shape[2]
    if numbers.size != 1 and (numbers.size != channels or numbers.shape[-1] != channels):
        raise ModelError(f"{op}: a constant of shape {numbers.shape}; only one a channel ({channels}) is supported")
    return np.broadcast_to(numbers.reshape(-1), channels), quantization(op, constant)


def _add(graph: Graph, op: Operator) -> str:
    (a, constant), to = _operands(graph, op), _output(graph, op)
    if constant is None:
        b = _input(graph, op, 1)
    else:
        b = graph.builder.tensors[parts.constant(graph, op, a.name, *_by_channel(graph, op, a, constant))]
    twice = 2 * max(a.quantization.scale, b.quantization.scale)
    factors = [a.quantization.scale / twice, b.quantization.scale / twice, twice / ((1 << 20) * to.scale)]
    return graph.add(op, AddInt8, a.name, b.name, parts.pairs(graph, op, factors), to, *_limits(op, to))


def _mul(graph: Graph, op: Operator) -> str:
    (x, constant), to = _operands(graph, op), _output(graph, op)
    if constant is None:
        other = _input(graph, op, 1)
        x, other = (other, x) if x.size < other.size else (x, other)
        factor = _in_float32(op, x.quantization.scale, other.quantization.scale, to)
        return parts.product(graph, op, x.name, other.name, to, factor, _limits(op, to))
    numbers, q = _by_channel(graph, op, x, constant)
    factor = _in_float32(op, x.quantization.scale, q.scale, to)
    return parts.by_channel(graph, op, x.name, numbers - q.zero_point, to, factor, _limits(op, to))


def _in_float32(op: Operator, a: float, b: float, to: Quantization) -> float:
    """a * b / scale, each rounded to float32."""
    with np.errstate(all="ignore"):
        factor = float(np.float32(a) * np.float32(b) / np.float32(to.scale))
    if not math.isfinite(factor):
        raise ModelError(f"{op}: scales {a:g} and {b:g} to {to.scale:g} are out of range")
    return factor


def _mean(graph: Graph, op: Operator) -> str:
    return parts.mean(graph, op, _input(graph, op).name, mean_axes(graph, op), _output(graph, op))


def _relu(graph: Graph, op: Operator) -> str:
    x, to = _input(graph, op), _output(graph, op)
    low, high = (_number(bound, to) for bound in _RELUS[op.name])
    factor = _in_float32(op, x.quantization.scale, 1.0, to)
    return parts.rescaled(graph, op, x.name, to, factor, (max(-128, low), min(127, high)))


def _prelu(graph: Graph, op: Operator) -> str:
    """PRELU, with a slope a channel or an element, and LEAKY_RELU, whose slope is no int8 number but a factor."""
    x, to = _input(graph, op), _output(graph, op)
    if op.name == "LEAKY_RELU":
        slopes, scale = np.ones(x.shape[2], np.int64), float(op.options.get("alpha", 0.0))
    else:
        constant = graph.stored_input(op, 1)
        numbers, q = constant.array().astype(np.int64), quantization(op, constant)
        per_element = numbers.size == x.size and numbers.shape[-3:] == x.shape
        slopes = (numbers if per_element else _by_channel(graph, op, x, constant)[0]) - q.zero_point
        scale = q.scale
    own = x.quantization.scale
    factors = _in_float32(op, own, 1.0, to), _in_float32(op, own, scale, to)
    return parts.prelu(graph, op, x.name, slopes, to, factors)


def _pool(graph: Graph, op: Operator) -> str:
    graph.image_input(op)
    x, to = _input(graph, op), _output(graph, op)
    if x.quantization != to:
        raise ModelError(f"{op}: pooling that rescales is not supported; convert the model anew")
    kind = MaxPool if op.name == "MAX_POOL_2D" else AveragePool
    size = (op.option("filter_height"), op.option("filter_width"))
    y = graph.add(op, kind, x.name, size, stride(op), padding(op))
    limits = _limits(op, to)
    return y if limits == parts.ANY else parts.rescaled(graph, op, y, to, 1.0, limits)


def _moved(graph: Graph, op: Operator) -> str:
    """An operator that puts numbers elsewhere, done on what they stand for: rounding gives the same numbers again."""
    to = _output(graph, op)
    for place in range(len(op.inputs) if op.name == "CONCATENATION" else 1):
        if _input(graph, op, place).quantization != to:
            raise ModelError(f"{op}: numbers of one scale become those of another; convert the model anew")
    return _rounded(graph, op)


def _rounded(graph: Graph, op: Operator) -> str:
    """An operator on real numbers, with its result rounded."""
    y = REAL[op.name](graph, op)
    assert y is not None
    return graph.add(op, Quantize, y, _output(graph, op), part="/rounded")


def _softmax(graph: Graph, op: Operator) -> str:
    x, beta = _input(graph, op), float(op.options.get("beta", 0.0))
    if _output(graph, op) != SOFTMAX_INT8:
        raise ModelError(f"{op}: its result must have scale 1/256 and zero point -128")
    fraction, shift = multiplier(min(beta * x.quantization.scale * (1 << (31 - SOFTMAX_BITS)), float((1 << 31) - 1)))
    if shift < 0:
        raise ModelError(f"{op}: a softmax of steps of {x.quantization.scale} is all alike")
    pairs = graph.parameter(op, "scale", np.array([(fraction, shift)], np.float64), Int32())
    return graph.add(op, SoftmaxInt8, x.name, pairs)


def _quantize(graph: Graph, op: Operator) -> str:
    x, to = graph.builder.tensors[graph.input(op)], _output(graph, op)
    if x.kind == "int8":
        return parts.rescaled(graph, op, x.name, to, x.quantization.scale / to.scale)
    return graph.add(op, Quantize, graph.real_input(op), to)


def _dequantize(graph: Graph, op: Operator) -> str:
    return graph.add(op, Dequantize, _input(graph, op).name)


INT8_HANDLERS: dict[str, Handler] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _moved,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": REAL["EXPAND_DIMS"],
    "FULLY_CONNECTED": _fully_connected,
    "LEAKY_RELU": _prelu,
    "LOGISTIC": _rounded,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _mul,
    "PAD": _moved,
    "PADV2": _moved,
    "PRELU": _prelu,
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu,
    "RELU_N1_TO_1": _relu,
    "RESHAPE": REAL["RESHAPE"],
    "SOFTMAX": _softmax,
    "SQUEEZE": REAL["SQUEEZE"],
}
"""What appends each operator on int8 activations to the network."""
