"""Network -> LCE flatbuffer: a TFLite file that the stock interpreter of Larq Compute Engine runs, without TensorFlow.

The file stores the codes, not what they stand for: a DEQUANTIZE in front of each coded parameter decodes it at run
time, so that a flipped bit of the image is a flipped bit of the file (`flip`). Scores equal the engine's bit for bit,
except for sums of rounded products (a real convolution whose products are no short binary fractions) and softmax.

Binary convolutions are written with multiplier 1 and bias 0, so that they give the dot product itself, and batch norm
follows as MUL and ADD in the engine's order of rounding. Before a sign they give bits: LCE answers -1 where the number
of differing bits exceeds an integer, which is computed from the codes of a threshold at run time, or at export from a
batch norm or a threshold that is not coded. In groups, only LCE's reference and indirect kernels run them.

An int8 input is the float32 input behind QUANTIZE and DEQUANTIZE; what lies in the middle between two steps, where no
pixel should, QUANTIZE may round to the even one. Where steps are no power of two, sums over it are rounded products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.flatbuffer import node
from converters.lce_codes import Stored, flip, parameter_offsets, read_codes
from converters.lce_graph import Graph, reshape
from converters.lce_lowering import as_tflite_knows, covered
from converters.lce_thresholds import fold, rounding
from zobnn_edge.encoding import Float32, Uniform, row_bits
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Network
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
    Op,
    Pad,
    PRelu,
    Reshape,
    Sign,
    Softmax,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import window_geometry

__all__ = ["Stored", "flip", "parameter_offsets", "read_codes", "writable", "write"]

_SAME, _VALID = 0, 1
_RELUS = {(0.0, float("inf")): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def write(net: Network) -> bytes:
    """The flatbuffer of a network: float32 in (1, height, width, channels), float32 scores out, (1, n) if flat.

    Raises ModelError when the network is inconsistent or holds what LCE has no operator for.
    """
    if not writable(net):
        raise ModelError(
            f"{net.name}: computes in 8-bit integers; its flatbuffer is the .tflite file that it came from"
        )
    return _Writer(as_tflite_knows(net.validate())).file()


def writable(net: Network) -> bool:
    """Whether a flatbuffer is written of a network: not of one that computes in 8-bit integers, all or in part."""
    hybrid = any(isinstance(op, DynamicRange) for op in net.ops)
    whole = all(isinstance(op, Conv) for op in net.consumers(net.input))  # of an int8 input
    return not hybrid and all(t.kind != "int8" or (t.name == net.input and whole) for t in net.tensors.values())


class _Writer:
    """Goes through the operations in order; `at` is the flatbuffer's tensor for each of the network's."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.graph = Graph()
        self.input = self.graph.tensor((1, *net.input_shape), name=net.input)
        self.at = {net.input: self.input}
        self.fused: set[str] = set()

    def file(self) -> bytes:
        source = self.net.tensors[self.net.input]
        if source.kind == "int8":
            self.at[source.name] = self.graph.rounded(self.input, (1, *source.shape), source.quantization)
        for op in self.net.ops:
            if op.output not in self.fused:
                self.emit(op)
        scores = self.at[self.net.output]
        if self.net.tensors[self.net.output].shape[:2] == (1, 1):
            flat = (1, self.net.outputs)
            scores = self.graph.op("RESHAPE", [scores], flat, options=reshape(flat))
        return self.graph.file(self.net.name, self.input, scores)

    def emit(self, op: Op) -> None:
        if isinstance(op, Conv) and self.net.tensors[op.input].kind == "binary":
            self.binary_conv(op)
        else:
            self.at[op.output] = self.lowered(op, self.at[op.input])

    def lowered(self, op: Op, x: int) -> int:
        """The operators of any operation but a binary convolution, on tensor `x`; returns their result."""
        if isinstance(op, Conv):
            return self.real_conv(op, x)
        if isinstance(op, (MaxPool, AveragePool)):
            return self.pool(op, x)
        if isinstance(op, Affine):
            return self.affine(op, x)
        if isinstance(op, Clip):
            return self.clip(op, x)
        if isinstance(op, PRelu):
            return self.step("PRELU", op, x, self.slopes(op))
        if isinstance(op, Threshold):
            return self.binarized(op, self.step("SUB", op, x, self.vector(op.threshold)))
        if isinstance(op, Sign):
            return self.binarized(op, x)
        if isinstance(op, Unpack):
            return self.step("LceDequantize", op, x)
        if isinstance(op, (Add, Mul)):
            return self.step("ADD" if isinstance(op, Add) else "MUL", op, x, self.at[op.other])
        if isinstance(op, Concat):
            axis = node("ConcatenationOptions", axis=3)
            return self.graph.op("CONCATENATION", [x, self.at[op.other]], self.shape(op.output), options=axis)
        if isinstance(op, Pad):
            return self.padded(op.input, x, np.array([op.rows, op.columns], np.int32), op.value)
        if isinstance(op, Thermometer):
            return self.thermometer(op, x)
        if isinstance(op, Softmax):
            return self.graph.op("SOFTMAX", [x], self.shape(op.output), options=node("SoftmaxOptions", beta=1.0))
        if isinstance(op, Reshape):
            return self.graph.op("RESHAPE", [x], self.shape(op.output), options=reshape(self.shape(op.output)))
        raise ModelError(f"{op.name}: {type(op).__name__} has no counterpart in an LCE flatbuffer")

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape in the file: one image; a binary tensor in packed words."""
        h, w, c = self.net.tensors[tensor].shape
        return (1, h, w, c if self.net.tensors[tensor].kind == "real" else -(-c // 32))

    def step(self, name: str, op: Op, *inputs: int) -> int:
        """An operator without options whose result has the shape of the operation's output."""
        h, w, c = self.net.tensors[op.output].shape
        return self.graph.op(name, inputs, (1, h, w, c))

    def binarized(self, op: Op, x: int) -> int:
        return self.graph.op("LceQuantize", [x], self.shape(op.output), "int32")

    def vector(self, name: str) -> int:
        """A parameter with one value a channel."""
        parameter = self.net.parameters[name]
        return self.graph.real(parameter, parameter.shape)

    def slopes(self, op: PRelu) -> int:
        """One slope a channel, or one an element."""
        slope, shape = self.net.parameters[op.slope], self.net.tensors[op.input].shape
        return self.graph.real(slope, shape[2:] if slope.values.size == shape[2] else shape)

    def affine(self, op: Affine, x: int) -> int:
        if op.scale is not None:
            x = self.step("MUL", op, x, self.vector(op.scale))
        elif op.gain != 1.0:
            x = self.step("MUL", op, x, self.graph.constant(op.gain))
        return x if op.bias is None else self.step("ADD", op, x, self.vector(op.bias))

    def clip(self, op: Clip, x: int) -> int:
        if (op.low, op.high) in _RELUS:
            return self.step(_RELUS[op.low, op.high], op, x)
        if op.low > -np.inf:
            x = self.step("MAXIMUM", op, x, self.graph.constant(op.low))
        if op.high < np.inf:
            x = self.step("MINIMUM", op, x, self.graph.constant(op.high))
        return x

    def pool(self, op: MaxPool | AveragePool, x: int) -> int:
        padding = _SAME if op.padding == "same" else _VALID
        (height, width), (down, right) = op.size, op.stride
        shape = self.shape(op.output)
        if self.net.tensors[op.input].kind == "binary":
            window = {"filter_height": height, "filter_width": width, "stride_height": down, "stride_width": right}
            return self.graph.op("LceBMaxPool2d", [x], shape, "int32", {"padding": padding, **window})
        name = "MAX_POOL_2D" if isinstance(op, MaxPool) else "AVERAGE_POOL_2D"
        options = node(
            "Pool2DOptions", padding=padding, stride_w=right, stride_h=down, filter_width=width, filter_height=height
        )
        return self.graph.op(name, [x], shape, options=options)

    def real_conv(self, op: Conv, x: int) -> int:
        """CONV_2D, in groups too; where each channel is its own group DEPTHWISE_CONV_2D, filters (1, h, w, out)."""
        weight, outside = self.net.parameters[op.weight], self.outside(op)
        out, height, width, _ = weight.shape
        if op.pad_value and outside.any():
            x = self.padded(op.input, x, outside, 1.0)
        geometry = {
            "padding": _SAME if outside.any() and not op.pad_value else _VALID,
            "stride_w": op.stride[1],
            "stride_h": op.stride[0],
            "dilation_w_factor": op.dilation[1],
            "dilation_h_factor": op.dilation[0],
        }
        name, options, filters = "CONV_2D", node("Conv2DOptions", **geometry), self.graph.real(weight, weight.shape)
        if 1 < op.groups == self.net.tensors[op.input].shape[2]:
            name = "DEPTHWISE_CONV_2D"
            options = node("DepthwiseConv2DOptions", depth_multiplier=out // op.groups, **geometry)
            # Transposed at run time, so that the file holds the codes in the order of the image.
            order = self.graph.constant(np.array([3, 1, 2, 0], np.int32))
            transpose = node("TransposeOptions")
            filters = self.graph.op("TRANSPOSE", [filters, order], (1, height, width, out), options=transpose)
        inputs = [x, filters, self.graph.constant(np.zeros(out, np.float32))]
        return self.graph.op(name, inputs, self.shape(op.output), options=options)

    def padded(self, tensor: str, x: int, border: NDArray[np.int32], value: float) -> int:
        """A border ((above, below), (left, right)) around `x`, which is the network's `tensor`."""
        h, w, c = self.net.tensors[tensor].shape
        (top, bottom), (left, right) = border.tolist()
        widths = np.array([(0, 0), (top, bottom), (left, right), (0, 0)], np.int32)
        inputs = [x, self.graph.constant(widths), self.graph.constant(value)]
        return self.graph.op("PADV2", inputs, (1, h + top + bottom, w + left + right, c))

    def thermometer(self, op: Thermometer, x: int) -> int:
        """The levels minus 1, 2, ..., planes are not negative where a plane is +1. MAXIMUM makes 0 of NaN."""
        h, w, c = self.net.tensors[op.input].shape
        if op.gain != 1.0:
            x = self.graph.op("MUL", [x, self.graph.constant(op.gain)], (1, h, w, c))
        levels = self.graph.op("ROUND", [x], (1, h, w, c))
        levels = self.graph.op("MAXIMUM", [levels, self.graph.constant(0.0)], (1, h, w, c))
        column, planes, flat = (1, h * w, c, 1), (1, h * w, c, op.planes), (1, h, w, c * op.planes)
        levels = self.graph.op("RESHAPE", [levels], column, options=reshape(column))
        steps = self.graph.constant(np.arange(1, op.planes + 1, dtype=np.float32))
        above = self.graph.op("SUB", [levels, steps], planes)
        return self.binarized(op, self.graph.op("RESHAPE", [above], flat, options=reshape(flat)))

    def outside(self, op: Conv) -> NDArray[np.int32]:
        """How far the windows reach out of the input: ((above, below), (left, right))."""
        size, kernel = self.net.tensors[op.input].shape[:2], covered(self.net, op)
        out, before = window_geometry(size, kernel, op.stride, op.padding)
        ends = [(o - 1) * s + k - b - n for o, s, k, b, n in zip(out, op.stride, kernel, before, size, strict=True)]
        return np.array([(b, max(0, end)) for b, end in zip(before, ends, strict=True)], np.int32)

    def binary_conv(self, op: Conv) -> None:
        """A convolution that counts differing bits, together with the sign behind it where LCE can answer in bits."""
        zero_padded = op.pad_value == 0 and self.outside(op).any()
        reader = self.only_reader(op.output)
        if not zero_padded and (self.coded_threshold(op, reader) or self.folded_sign(op, reader)):
            return
        channels = self.net.tensors[op.output].shape[2]
        multiplier = self.graph.constant(np.ones(channels, np.float32))
        bias = self.graph.constant(np.zeros(channels, np.float32))
        self.at[op.output] = self.counted(op, op.output, None, multiplier, bias, -1)

    def only_reader(self, tensor: str) -> Op | None:
        """The one operation that reads a tensor, when nobody else needs it."""
        readers = self.net.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor != self.net.output else None

    def coded_threshold(self, op: Conv, reader: Op | None) -> bool:
        """Write convolution and threshold as one, with LCE's threshold computed from the codes at run time."""
        if not isinstance(reader, Threshold):
            return False
        threshold = self.net.parameters[reader.threshold]
        taps, most = self.bits_compared(op)
        how = rounding(threshold.encoding, taps, most) if isinstance(threshold.encoding, Uniform) else None
        if how is None:
            return False
        half = self.graph.real(threshold, threshold.shape, halved=True)
        if how == "ceil":
            half = self.graph.op("CEIL", [half], threshold.shape)
        limit = self.graph.op("SUB", [self.graph.constant(taps / 2), half], threshold.shape)
        if how == "floor":
            limit = self.graph.op("FLOOR", [limit], threshold.shape)
        limit = self.graph.op("CAST", [limit], threshold.shape, "int32")
        self.at[reader.output] = self.counted(op, reader.output, None, -1, -1, limit)
        self.fused.add(reader.output)
        return True

    def folded_sign(self, op: Conv, reader: Op | None) -> bool:
        """Write convolution and what is uncoded up to the sign as one, with LCE's threshold computed now."""
        affine = reader if isinstance(reader, Affine) else None
        last = self.only_reader(affine.output) if affine else reader
        if not isinstance(last, Sign if affine else (Sign, Threshold)):
            return False
        steps = [step for step in (affine, last) if step]
        if not all(self.may_vanish(step) for step in steps):
            return False
        parameters, channels = self.net.parameters, self.net.tensors[op.output].shape[2]
        scale, bias = np.ones(channels, np.float32), None
        if affine:
            scale = parameters[affine.scale].values if affine.scale else scale * np.float32(affine.gain)
            bias = parameters[affine.bias].values if affine.bias else None
        elif isinstance(last, Threshold):
            bias = -parameters[last.threshold].values
        folded = fold(scale, bias, *self.bits_compared(op))
        limit = self.graph.constant(folded.thresholds)
        self.at[last.output] = self.counted(op, last.output, folded.negated, -1, -1, limit)
        self.fused.update(step.output for step in steps)
        return True

    def may_vanish(self, op: Op) -> bool:
        """True when the parameters of an operation need not be in the file: not coded, and nobody else's."""
        users = [name for other in self.net.ops for name in other.parameters]
        return all(
            isinstance(self.net.parameters[name].encoding, Float32) and users.count(name) == 1 for name in op.parameters
        )

    def bits_compared(self, op: Conv) -> tuple[int, int]:
        """(taps times channels; how many bits can differ, those included that fill up rows of weights)."""
        weight = self.net.parameters[op.weight]
        _, height, width, channels = weight.shape
        return height * width * channels, height * width * row_bits(weight.encoding)

    def counted(
        self, op: Conv, output: str, negated: NDArray[np.bool_] | None, multiplier: int, bias: int, limit: int
    ) -> int:
        """LceBconv2d with float32 result (multiplier, bias) or in bits (limit); -1 stands for an input left out."""
        weight = self.net.parameters[op.weight]
        out, height, width, channels = weight.shape
        words = row_bits(weight.encoding) // 32
        options = {
            "channels_in": channels * op.groups,
            "dilation_height_factor": op.dilation[0],
            "dilation_width_factor": op.dilation[1],
            "fused_activation_function": 0,
            "pad_values": op.pad_value,
            "padding": _SAME if self.outside(op).any() else _VALID,
            "stride_height": op.stride[0],
            "stride_width": op.stride[1],
        }
        inputs = [self.at[op.input], self.graph.packed(weight, (out, height, width, words), negated)]
        type = "float32" if limit < 0 else "int32"
        return self.graph.op("LceBconv2d", [*inputs, multiplier, bias, limit], self.shape(output), type, options)
