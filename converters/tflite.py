"""TFLite flatbuffer -> Network, without TensorFlow: float32, int8 models, and models of Larq Compute Engine.

Files that zobnn-edge wrote come back with the same scores, bit for bit, and the same codes (but for batch norms that
were folded into thresholds of binary convolutions: those come back as thresholds). Codes of other files become
encodings too, where they are constants with one scale. Files with int8 weights and float32 activations ("dynamic
range") round activations to 8 bits at run time, as TFLite's hybrid kernels do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.tflite_file import parse
from converters.tflite_graph import Graph, check_type, image_shape
from converters.tflite_int8 import INT8_HANDLERS, quantization
from converters.tflite_ops import HANDLERS, find_thermometers
from zobnn_edge.errors import ModelError
from zobnn_edge.files import read_bytes
from zobnn_edge.format import MAX_DIM
from zobnn_edge.network import Builder, Network, Pixels, rebuilt
from zobnn_edge.operations import Affine, Clip, Conv, Op, Pad, Padding, Quantize, Thermometer
from zobnn_edge.rewrite import simplify
from zobnn_edge.shapes import extent, window_geometry

_ANONYMOUS = ("", "MLIR Converted.", "TOCO Converted.")


def import_tflite(path_or_bytes: str | Path | bytes, name: str | None = None, pixels: Pixels | None = None) -> Network:
    """The network of a TFLite or LCE flatbuffer: a path, or the contents of a file.

    `name`: the network's name, by default what the file is called inside or outside. `pixels`: what an 8-bit input
    stands for, by default itself. Raises InputError when there is no such file, and ModelError naming the operator that
    is not supported or what is damaged. Source of the operators' meaning: TensorFlow Lite's schema.fbs and reference
    kernels; for LCE, its kernels and converter.
    """
    if isinstance(path_or_bytes, bytes):
        return _import(path_or_bytes, name, "tflite", pixels)
    path = Path(path_or_bytes)
    try:
        return _import(read_bytes(path), name, path.stem, pixels)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _import(blob: bytes, name: str | None, fallback: str, pixels: Pixels | None) -> Network:
    file = parse(blob)
    source = file.tensors[file.input]
    check_type("the input", source)
    shape = image_shape("the input", source.shape)
    if source.type not in ("float32", "int8") or not all(1 <= side <= MAX_DIM for side in shape):
        raise ModelError(
            f"the input: {source.type} of shape {source.shape}; only float32 and int8, sides 1 to {MAX_DIM}"
        )
    inside = "" if file.description in _ANONYMOUS else file.description
    builder = Builder(name or inside or fallback, shape, pixels)
    graph = Graph(file, builder, HANDLERS, INT8_HANDLERS)
    if source.type == "int8":
        to = quantization("the input", source)
        graph.at[file.input] = builder.add(Quantize("input/quantize", builder.input, "input/quantize", to))
    with np.errstate(all="ignore"):  # of parameters that are NaN or infinite
        find_thermometers(graph)
        return simplify(joined(builder.network(graph.walk())))


def joined(net: Network) -> Network:
    """Neighbours that an engine's operation covers together become that operation: files have only parts of some."""
    ops: list[Op] = []
    for op in net.ops:
        last = ops[-1] if ops else None
        private = last is not None and last.output != net.output and net.consumers(last.output) == [op]
        both = _both(net, last, op) if last is not None and private and op.input == last.output else None
        if both is None:
            ops.append(op)
        else:
            ops[-1] = both
    return rebuilt(net, ops, net.parameters)


def _both(net: Network, first: Op, second: Op) -> Op | None:
    """One operation that computes what two do, rounding alike; None when there is none."""
    if isinstance(first, Pad) and isinstance(second, Conv):
        return _padded(net, first, second)
    if isinstance(first, Affine) and isinstance(second, Affine):
        if first.bias is None and second.scale is None and second.gain == 1.0:
            return replace(first, output=second.output, bias=second.bias)
    elif isinstance(first, Clip) and isinstance(second, Clip):
        if (second.low, first.high) == (-np.inf, np.inf) and first.low <= second.high:
            return replace(first, output=second.output, high=second.high)
    elif isinstance(first, Affine) and isinstance(second, Thermometer) and not first.parameters and second.gain == 1.0:
        return replace(second, input=first.input, gain=first.gain)
    return None


def _padded(net: Network, border: Pad, conv: Conv) -> Conv | None:
    """A convolution that reads 0 or 1 outside its input itself; None where no padding makes that border."""
    if conv.padding != "valid" or border.value not in (0.0, 1.0):
        return None
    _, height, width, _ = net.parameters[conv.weight].shape
    kernel = extent((height, width), conv.dilation)
    wanted = net.tensors[conv.output].shape[:2], (border.rows[0], border.columns[0])
    paddings: tuple[Padding, ...] = ("same", "half")
    for padding in paddings:
        if window_geometry(net.tensors[border.input].shape[:2], kernel, conv.stride, padding) == wanted:
            return replace(conv, input=border.input, padding=padding, pad_value=1 if border.value else 0)
    return None
