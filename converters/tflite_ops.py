"""What each operator of a TFLite or LCE file becomes in a Network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite_constants import Constant, bits_of_words
from converters.tflite_file import Operator
from converters.tflite_graph import Graph, Handler, image_shape, padding, stride
from zobnn_edge.encoding import Binary, Encoding, Float32, Uniform, row_bits
from zobnn_edge.errors import ModelError
from zobnn_edge.operations import (
    Add,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Conv,
    DynamicRange,
    MaxPool,
    Mul,
    Pad,
    PRelu,
    Reshape,
    Softmax,
    Thermometer,
    Threshold,
)
from zobnn_edge.tensor import Shape

Array = NDArray[Any]
Pair = tuple[int, int]

_ACTIVATIONS = {1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
_RELUS = {"RELU": (0.0, np.inf), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}


def _conv_2d(graph: Graph, op: Operator) -> str:
    channels = graph.image_input(op)[2]
    kernel = _kernel(graph, op)
    per_group = kernel.values.shape[3]
    if per_group == 0 or channels % per_group:
        raise ModelError(f"{op}: its kernel takes {per_group} channels, its input has {channels}")
    return _windowed(graph, op, kernel, kernel.values, channels // per_group)


def _depthwise_conv_2d(graph: Graph, op: Operator) -> str:
    channels = graph.image_input(op)[2]
    kernel = _kernel(graph, op)
    return _windowed(graph, op, kernel, kernel.values.transpose(3, 1, 2, 0), channels)


def _kernel(graph: Graph, op: Operator) -> Constant:
    kernel = graph.floats(op, 1)
    if kernel.values.ndim != 4:
        raise ModelError(f"{op}: its kernel has {kernel.values.ndim} dimensions instead of four")
    return kernel


def _windowed(graph: Graph, op: Operator, kernel: Constant, values: Array, groups: int) -> str:
    dilation = (op.option("dilation_h_factor", 1), op.option("dilation_w_factor", 1))
    window = {"stride": stride(op), "padding": padding(op), "groups": groups, "dilation": dilation}
    return _linear(graph, op, kernel, values, **window)


def _fully_connected(graph: Graph, op: Operator) -> str:
    kernel, shape = graph.floats(op, 1), graph.builder.tensors[graph.real_input(op)].shape
    return _linear(graph, op, kernel, kernel.values.reshape(-1, *dense_window(op, kernel.values.shape, shape)))


def dense_window(op: Operator, weights: tuple[int, ...], shape: Shape) -> Shape:
    """The kernel (height, width, in) of a dense layer: all its input, as both are row-major, or each pixel of it."""
    if op.option("weights_format") == 0 and len(weights) == 2:
        if weights[1] == int(np.prod(shape)):
            return shape
        if weights[1] == shape[2] and op.option("keep_num_dims"):
            return 1, 1, shape[2]
    raise ModelError(f"{op}: its weights of shape {weights} do not fit an input of {shape}")


def _linear(graph: Graph, op: Operator, kernel: Constant, values: Array, **window: Any) -> str:
    """A convolution with weights (out, height, width, in), its bias and its activation.

    Weights of float32 that are all +-s of their output channel are bits and a scale: so LCE stores the binary layers
    that it has no binary operator for. They read bits where the input is a sign. Files of zobnn-edge tell what is
    binary.
    """
    x = _rounded_at_run_time(graph, op, graph.real_input(op))
    assert kernel.encoding is not None
    encoding: Encoding = kernel.encoding
    scale = _scale(values) if isinstance(encoding, Float32) and not kernel.source.bits else None
    if scale is not None:
        values, encoding = np.sign(values), Binary()
        packable = window.get("groups", 1) == 1 or values.shape[3] % 32 == 0
        bits = graph.bits(x) if packable else None
        if bits is not None:
            x, encoding = bits, Binary(row=values.shape[3])
    weight = graph.parameter(op, "weight", values, encoding, of=kernel)
    y = graph.add(op, Conv, x, weight, layer=graph.layer(weight), **window)
    if scale is not None and not (scale == 1).all():
        y = graph.add(op, Affine, y, graph.parameter(op, "scale", scale), part="/scale")
    bias = graph.floats(op, 2) if graph.constant_input(op, 2) else None
    if bias is not None and bias.values.any():
        y = _biased(graph, op, y, bias, part="/bias")
    return _activated(graph, op, y)


def _rounded_at_run_time(graph: Graph, op: Operator, x: str) -> str:
    """The input of a linear operator as its kernel sees it: on int8 weights that are no parameters of zobnn-edge's,
    TFLite's hybrid kernels round a real input to 8 bits."""
    weights = graph.file.tensors[op.inputs[1]]
    if weights.type != "int8" or weights.bits:
        return x
    by_channel = len(weights.scales) > 1 or op.name == "DEPTHWISE_CONV_2D"
    symmetric = not by_channel and not op.option("asymmetric_quantize_inputs", 0)
    key = (x, symmetric)
    if key not in graph.rounded:
        graph.rounded[key] = graph.add(op, DynamicRange, x, symmetric, part="/rounded")
    return graph.rounded[key]


def _logistic(graph: Graph, op: Operator) -> str:
    return graph.builder.sigmoid(graph.name(op), graph.real_input(op))


def _scale(kernel: Array) -> Array | None:
    """The scale of each filter whose weights are all +-scale; None when some are not. One weight shows nothing."""
    size = np.abs(kernel.reshape(len(kernel), -1)) if kernel.size else np.zeros((1, 1))
    if size.shape[1] < 2 or not (size[:, :1] > 0).all() or not (size == size[:, :1]).all():
        return None
    scale: Array = size[:, 0]
    return scale


def _biased(graph: Graph, op: Operator, x: str, bias: Constant, part: str = "") -> str:
    name = graph.parameter(op, "bias", _by_channel(graph, op, x, bias), bias.encoding, of=bias)
    return graph.add(op, Affine, x, None, name, layer=graph.layer(name), part=part)


def _activated(graph: Graph, op: Operator, x: str) -> str:
    """The activation that is fused into an operator."""
    code = op.option("fused_activation_function")
    if code == 0:
        return x
    if code not in _ACTIVATIONS:
        raise ModelError(f"{op}: fused activation {code}; only RELU, RELU_N1_TO_1 and RELU6 are supported")
    return graph.add(op, Clip, x, *_ACTIVATIONS[code], part="/activation")


def _lce_stride(op: Operator) -> Pair:
    return op.option("stride_height"), op.option("stride_width")


def _pool(graph: Graph, op: Operator) -> str:
    graph.image_input(op)
    kind = MaxPool if op.name == "MAX_POOL_2D" else AveragePool
    size = (op.option("filter_height"), op.option("filter_width"))
    return _activated(graph, op, graph.add(op, kind, graph.real_input(op), size, stride(op), padding(op)))


def _mean(graph: Graph, op: Operator) -> str:
    """A mean over height, width or both."""
    x, axes = graph.real_input(op), mean_axes(graph, op)
    h, w, _ = graph.builder.tensors[x].shape
    size = (h if 1 in axes else 1, w if 2 in axes else 1)
    y = graph.add(op, AveragePool, x, size, size, "valid")
    return _as_the_file_says(graph, op, y)


def mean_axes(graph: Graph, op: Operator) -> set[int]:
    """What a MEAN goes over: height (1), width (2) or both."""
    rank = len(graph.file.tensors[op.inputs[0]].shape)
    axes = {int(a) % rank + 4 - rank for a in graph.integers(op, 1).reshape(-1)}
    if not axes <= {1, 2}:
        raise ModelError(f"{op}: a mean over axes {sorted(axes)}; only height and width are supported")
    return axes


def _add(graph: Graph, op: Operator) -> str:
    x, constant = _operands(graph, op)
    if constant is None:
        return _activated(graph, op, graph.add(op, Add, x, graph.real_input(op, 1)))
    return _activated(graph, op, _biased(graph, op, x, constant))


def _mul(graph: Graph, op: Operator) -> str:
    x, constant = _operands(graph, op)
    if constant is None:
        other = graph.real_input(op, 1)
        if graph.builder.tensors[x].size < graph.builder.tensors[other].size:
            x, other = other, x
        return _activated(graph, op, graph.add(op, Mul, x, other))
    if constant.values.size == 1 and not constant.source.bits:
        return _activated(graph, op, graph.add(op, Affine, x, gain=float(constant.values.reshape(()))))
    scale = graph.parameter(op, "scale", _by_channel(graph, op, x, constant), constant.encoding, of=constant)
    return _activated(graph, op, graph.add(op, Affine, x, scale, layer=graph.layer(scale)))


def _sub(graph: Graph, op: Operator) -> str | None:
    """A constant subtracted: a negative bias, or a threshold where only signs are taken of the difference."""
    x, constant = graph.real_input(op), graph.floats(op, 1)
    readers = graph.readers(op.output)
    plain = op.option("fused_activation_function") == 0 and op.output != graph.file.output
    if plain and readers and all(reader.name == "LceQuantize" for reader in readers):
        return None
    negative = replace(constant, values=-constant.values, encoding=Float32())
    return _activated(graph, op, _biased(graph, op, x, negative))


def _operands(graph: Graph, op: Operator) -> tuple[str, Constant | None]:
    """What a sum or product reads: an activation, and the constant beside it or before it, if there is one."""
    for place in (0, 1):
        if graph.constant_input(op, place) is not None:
            return graph.real_input(op, 1 - place), graph.floats(op, place)
    return graph.real_input(op), None


def _by_channel(graph: Graph, op: Operator, x: str, constant: Constant) -> Array:
    """The values of a constant, one a channel."""
    channels, values = graph.builder.tensors[x].shape[2], constant.values
    if values.size == 1:
        return np.full(channels, values.reshape(()), np.float32)
    if values.size != channels or values.shape[-1] != channels:
        raise ModelError(f"{op}: a constant of shape {values.shape}; only one a channel ({channels}) is supported")
    return values.reshape(channels)


def _relu(graph: Graph, op: Operator) -> str:
    return graph.add(op, Clip, graph.real_input(op), *_RELUS[op.name])


def _bound(graph: Graph, op: Operator) -> str:
    x, constant = _operands(graph, op)
    if constant is None or constant.values.size != 1 or np.isnan(constant.values).any():
        raise ModelError(f"{op}: only a single constant is supported as bound")
    bound = float(constant.values.reshape(()))
    return graph.add(op, Clip, x, *((bound, np.inf) if op.name == "MAXIMUM" else (-np.inf, bound)))


def _prelu(graph: Graph, op: Operator) -> str:
    x, constant = graph.real_input(op), graph.floats(op, 1)
    shape = graph.builder.tensors[x].shape
    if constant.values.size == int(np.prod(shape)) and constant.values.shape[-3:] == shape:
        values = constant.values.reshape(shape if shape[:2] != (1, 1) else shape[2:])
    else:
        values = _by_channel(graph, op, x, constant)
    slope = graph.parameter(op, "slope", values, constant.encoding, of=constant)
    return graph.add(op, PRelu, x, slope, layer=graph.layer(slope))


def _leaky_relu(graph: Graph, op: Operator) -> str:
    x = graph.real_input(op)
    slopes = np.full(graph.builder.tensors[x].shape[2], op.options.get("alpha", 0.0), np.float32)
    return graph.add(op, PRelu, x, graph.parameter(op, "slope", slopes))


def _softmax(graph: Graph, op: Operator) -> str:
    x, beta = graph.real_input(op), float(op.options.get("beta", 0.0))
    if beta != 1.0:
        x = graph.add(op, Affine, x, gain=beta)
    return graph.add(op, Softmax, x)


def _reshape(graph: Graph, op: Operator) -> str:
    return _as_the_file_says(graph, op, graph.input(op))


def _as_the_file_says(graph: Graph, op: Operator, x: str) -> str:
    """`x` in the shape that the operator's output has in the file."""
    shape = image_shape(op, graph.file.tensors[op.output].shape)
    tensor = graph.builder.tensors[x]
    if tensor.kind == "binary":
        if (*tensor.shape[:2], -(-tensor.shape[2] // 32)) == shape:
            return x
        raise ModelError(f"{op}: on packed bits, which is not supported")
    if tensor.shape == shape:
        return x
    if tensor.size != int(np.prod(shape)):
        raise ModelError(f"{op}: its shape is known at run time only; convert the model with a fixed batch size of 1")
    y = graph.add(op, Reshape, x, shape)
    if x in graph.bits_of:
        graph.bits_of[y] = None
    return y


def _pad(graph: Graph, op: Operator) -> str:
    x, widths = graph.real_input(op), graph.integers(op, 1)
    if widths.shape != (len(graph.file.tensors[op.inputs[0]].shape), 2):
        raise ModelError(f"{op}: paddings of shape {widths.shape} do not fit its input")
    rows, columns, channels = ([(0, 0)] * 3 + [(int(a), int(b)) for a, b in widths[1:]])[-3:]
    if widths[0].any() or channels != (0, 0):
        raise ModelError(f"{op}: pads batch or channels; only height and width are supported")
    value = 0.0
    if op.name == "PADV2":
        constant = graph.floats(op, 2)
        if constant.values.size != 1:
            raise ModelError(f"{op}: pads with {constant.values.size} values; only one is supported")
        value = float(constant.values.reshape(()))
    return graph.add(op, Pad, x, rows, columns, value)


def _concatenation(graph: Graph, op: Operator) -> str:
    rank = len(graph.file.tensors[op.output].shape)
    if rank == 0 or op.option("axis") % rank != rank - 1:
        raise ModelError(f"{op}: along axis {op.option('axis')}; only channels, the last one, are supported")
    x = graph.real_input(op)
    for place in range(1, len(op.inputs)):
        x = graph.add(op, Concat, x, graph.real_input(op, place))
    return _activated(graph, op, x)


def _lce_quantize(graph: Graph, op: Operator) -> str:
    """A sign, a threshold (of a difference) or a thermometer code."""
    source = graph.writers.get(op.inputs[0]) if op.inputs else None
    if op.index in graph.aliases:
        return graph.add(op, Thermometer, graph.real_input(op), _planes(graph, op), 1.0)
    if source is not None and source.name == "SUB" and source.output not in graph.at:
        x, constant = graph.real_input(source), graph.floats(source, 1)
        values = _by_channel(graph, source, x, constant)
        threshold = graph.parameter(op, "threshold", values, constant.encoding, of=constant)
        return graph.add(op, Threshold, x, threshold, layer=graph.layer(threshold))
    return graph.sign(graph.real_input(op))


def find_thermometers(graph: Graph) -> None:
    """Have every LceQuantize read directly what the thermometer code before it reads.

    The code is ROUND, perhaps MAXIMUM with 0, RESHAPE, SUB of 1, 2, ... planes, RESHAPE. `walk` passes over them then.
    """
    for op in graph.file.operators:
        chain = _before(graph, op) if op.name == "LceQuantize" else []
        names = [before.name for before in chain]
        if names[:4] == ["RESHAPE", "SUB", "RESHAPE", "MAXIMUM"] and _is_zero(graph, chain[3]):
            del names[3], chain[3]
        if names[:4] == ["RESHAPE", "SUB", "RESHAPE", "ROUND"] and _planes(graph, op):
            graph.aliases[op.index] = (chain[3].inputs[0],)


def _before(graph: Graph, op: Operator) -> list[Operator]:
    """Up to five operators, each the one that makes the first input of the one after it, last one first."""
    chain: list[Operator] = []
    while len(chain) < 5 and op.inputs and op.inputs[0] in graph.writers:
        op = graph.writers[op.inputs[0]]
        chain.append(op)
    return [before for before in chain if before.inputs]


def _planes(graph: Graph, op: Operator) -> int:
    """The planes of the thermometer code before an LceQuantize: what is subtracted counts 1, 2, ...; 0 if not."""
    subtract = _before(graph, op)[1]
    constant = graph.constant_input(subtract, 1)
    steps = constant.values.reshape(-1) if constant is not None else np.zeros(0)
    return steps.size if np.array_equal(steps, np.arange(1, steps.size + 1)) else 0


def _is_zero(graph: Graph, op: Operator) -> bool:
    constant = graph.constant_input(op, 1)
    return constant is not None and constant.values.size == 1 and not constant.values.any()


def _lce_dequantize(graph: Graph, op: Operator) -> str:
    return graph.real(graph.bit_input(op))


def _lce_max_pool(graph: Graph, op: Operator) -> str:
    graph.image_input(op)
    size = (op.option("filter_height"), op.option("filter_width"))
    return graph.add(op, MaxPool, graph.bit_input(op), size, _lce_stride(op), padding(op))


def _lce_conv(graph: Graph, op: Operator) -> str:
    """LceBconv2d with float32 result (activation, multiplier, bias) or bits (limits of differing bits)."""
    x, channels = graph.bit_input(op), graph.image_input(op)[2]
    weight, groups = _lce_kernel(graph, op, channels)
    if op.option("pad_values") not in (0, 1):
        raise ModelError(f"{op}: pads with {op.option('pad_values')}; only 0 and 1 are supported")
    dilation = (op.option("dilation_height_factor", 1), op.option("dilation_width_factor", 1))
    window = (_lce_stride(op), padding(op), op.option("pad_values"), groups, dilation)
    y = graph.add(op, Conv, x, weight, *window, layer=graph.layer(weight))
    if graph.file.tensors[op.output].type == "int32":
        return _limited(graph, op, y, weight)
    # LCE limits the sum itself, before it multiplies.
    y = _activated(graph, op, y)
    multiplier, bias = (graph.floats(op, i) if graph.constant_input(op, i) else None for i in (2, 3))
    if multiplier is not None and not (multiplier.values == 1).all():
        values = _by_channel(graph, op, y, multiplier)
        scale = graph.parameter(op, "scale", values, multiplier.encoding, of=multiplier)
        y = graph.add(op, Affine, y, scale, part="/scale")
    if bias is not None and bias.values.any():
        y = _biased(graph, op, y, bias, part="/bias")
    return y


def _lce_kernel(graph: Graph, op: Operator, channels: int) -> tuple[str, int]:
    """The parameter of packed words (out, height, width, words) and the number of groups, which no option says."""
    kernel, words = graph.needed_constant(op, 1), -(-channels // 32)
    if kernel.values.ndim != 4 or kernel.values.dtype != np.int32 or 0 in kernel.values.shape:
        raise ModelError(f"{op}: its filter must be packed words of four dimensions")
    groups, rest = divmod(words, kernel.values.shape[3])
    if op.option("channels_in") != channels or groups == 0 or rest or channels % groups:
        raise ModelError(f"{op}: a filter for {op.option('channels_in')} channels; its input has {channels}")
    try:
        values = bits_of_words(kernel.values, channels // groups)
    except ValueError as error:
        raise ModelError(f"{op}: its filter does not fit ({error})") from None
    return graph.parameter(op, "weight", values, Binary(row=channels // groups), of=kernel), groups


def _limited(graph: Graph, op: Operator, x: str, weight: str) -> str:
    """A sum compared with a threshold; LCE answers -1 where more bits differ than a limit.

    The limits may be computed from the codes of thresholds (as zobnn-edge writes them): then these are the thresholds.
    """
    parameter, limits = graph.builder.parameters[weight], graph.integers(op, 4).reshape(-1)
    out, height, width, channels = parameter.shape
    if limits.size != out:
        raise ModelError(f"{op}: {limits.size} thresholds for {out} filters")
    taps, most = height * width * channels, height * width * row_bits(parameter.encoding)
    limits = np.clip(limits, -1, most)
    coded = graph.needed_constant(op, 4).coded
    if coded is not None and isinstance(coded.encoding, Uniform) and coded.values.size == out:
        values: Array = 2 * coded.values.reshape(-1)
        encoding = coded.encoding.scaled(2)
        decides = np.clip(np.floor((taps - np.ceil(values.astype(np.float64))) / 2), -1, most)
        exact = np.array_equal(encoding.decode(encoding.encode(values)), values)
        if exact and np.array_equal(decides, limits):
            threshold = graph.parameter(op, "threshold", values, encoding, of=coded)
            return graph.add(op, Threshold, x, threshold, layer=graph.layer(threshold))
    return graph.add(op, Threshold, x, graph.parameter(op, "threshold", (taps - 2 * limits).astype(np.float32)))


HANDLERS: dict[str, Handler] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "LEAKY_RELU": _leaky_relu,
    "LceBMaxPool2d": _lce_max_pool,
    "LceBconv2d": _lce_conv,
    "LceDequantize": _lce_dequantize,
    "LceQuantize": _lce_quantize,
    "MAXIMUM": _bound,
    "LOGISTIC": _logistic,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MINIMUM": _bound,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "RELU": _relu,
    "RELU6": _relu,
    "RELU_0_TO_1": _relu,
    "RELU_N1_TO_1": _relu,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "SQUEEZE": _reshape,
    "SUB": _sub,
}
"""What appends each operator to the network."""
