"""Flatbuffers made by hand, and what their interpreters compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from converters import lce_interpreter
from converters.flatbuffer import node
from converters.lce_graph import Graph, reshape
from converters.tflite import import_tflite
from zobnn_edge import reference
from zobnn_edge.engine import Engine
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network


def normal(*shape: int) -> np.ndarray:
    """Random float32 numbers, the same ones for the same shape."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def assert_same(net: Network, back: Network, x: np.ndarray) -> None:
    """Two networks give scores of the same bits."""
    np.testing.assert_array_equal(reference.run(back, x).view("u4"), reference.run(net, x).view("u4"))


def made(build: Callable[[Graph, int], int], shape: tuple[int, ...] = (1, 5, 6, 4)) -> bytes:
    """A file whose operators `build` appends."""
    graph = Graph()
    x = graph.tensor(shape)
    return graph.file("made", x, build(graph, x))


def assert_interpreted(blob: bytes, x: np.ndarray, rounding: float = 0.0) -> Network:
    """The imported network agrees with the interpreter of LCE; returns it. `rounding`: what LCE loses itself."""
    net = import_tflite(blob)
    expected = lce_interpreter.run(blob, x)
    np.testing.assert_allclose(
        reference.run(net, x), expected, rtol=1e-5, atol=rounding + 1e-5 * float(np.abs(expected).max())
    )
    return net


def stored(g: Graph, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
    """An int8 activation."""
    quantization = node("QuantizationParameters", scale=(scale,), zero_point=(zero_point,))
    return g._tensor(shape, "int8", quantization=quantization)


def conv(g: Graph, x: int, relu: int = 0, stride: int = 1, padding: int = 0, groups: int = 1, dilation: int = 1) -> int:
    options = node(
        "Conv2DOptions",
        padding=padding,
        stride_w=stride,
        stride_h=stride,
        fused_activation_function=relu,
        dilation_w_factor=dilation,
        dilation_h_factor=1,
    )
    inputs = [x, g.constant(normal(8, 3, 2, 4 // groups)), g.constant(normal(8))]
    w = 6 if padding == 0 else 6 - dilation
    shape = (1, -(-(5 if padding == 0 else 3) // stride), -(-w // stride), 8)
    return g.op("CONV_2D", inputs, shape, options=options)


def depthwise(g: Graph, x: int, dilation: int) -> int:
    options = node(
        "DepthwiseConv2DOptions",
        padding=0,
        stride_w=1,
        stride_h=1,
        depth_multiplier=2,
        fused_activation_function=3,
        dilation_w_factor=dilation,
        dilation_h_factor=2,
    )
    inputs = [x, g.constant(normal(1, 3, 3, 8)), g.constant(normal(8))]
    return g.op("DEPTHWISE_CONV_2D", inputs, (1, 5, 6, 8), options=options)


def pool(g: Graph, x: int, name: str) -> int:
    options = node(
        "Pool2DOptions",
        padding=0,
        stride_w=2,
        stride_h=1,
        filter_width=3,
        filter_height=2,
        fused_activation_function=1,
    )
    return g.op(name, [x], (1, 5, 3, 4), options=options)


def dense(g: Graph, x: int, flatten: bool) -> int:
    if flatten:
        x = g.op("RESHAPE", [x, g.constant(np.array([-1, 120], np.int32))], (1, 120), options=reshape((-1, 120)))
    options = node("FullyConnectedOptions", fused_activation_function=1)
    return g.op("FULLY_CONNECTED", [x, g.constant(normal(7, 120)), g.constant(normal(7))], (1, 7), options=options)


def mean(g: Graph, x: int, axes: list[int]) -> int:
    return g.op("MEAN", [x, g.constant(np.array(axes, np.int32))], (1, 4) if len(axes) == 2 else (1, 6, 4))


def softmax(g: Graph, x: int) -> int:
    return g.op("SOFTMAX", [mean(g, x, [1, 2])], (1, 4), options=node("SoftmaxOptions", beta=0.5))


def concatenation(g: Graph, x: int) -> int:
    options = node("ConcatenationOptions", axis=-1)
    return g.op("CONCATENATION", [x, x, g.op("RELU", [x], (1, 5, 6, 4))], (1, 5, 6, 12), options=options)


def step(g: Graph, name: str, *inputs: int, table: str | None = None, **options: Any) -> int:
    return g.op(name, inputs, (1, 5, 6, 4), options=node(table, **options) if table else None)


def pad(g: Graph, x: int) -> int:
    widths = np.array([(0, 0), (1, 2), (0, 3), (0, 0)], np.int32)
    return g.op("PAD", [x, g.constant(widths)], (1, 8, 9, 4))


def gate(g: Graph, x: int) -> int:
    values = g.op("RESHAPE", [mean(g, x, [1, 2])], (1, 1, 1, 4), options=reshape((1, 1, 1, 4)))
    return step(g, "MUL", values, x, table="MulOptions", fused_activation_function=2)


def reference_kernels(larq: Any, blob: bytes, x: np.ndarray) -> np.ndarray:
    """Scores of TFLite's reference kernels on float inputs, quantized as the file says."""
    tf, _ = larq
    from tensorflow.lite.python.interpreter import OpResolverType

    interpreter = tf.lite.Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = source["quantization"]
    steps = x / np.float32(scale)
    codes = np.clip(np.trunc(steps + np.copysign(0.5, steps)) + zero_point, -128, 127).astype(np.int8)
    scores = []
    for one in codes:
        interpreter.set_tensor(source["index"], one[np.newaxis])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(result["index"])[0])
    scale, zero_point = result["quantization"]
    return (np.array(scores, np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def float_reference_kernels(larq: Any, blob: bytes, x: np.ndarray) -> np.ndarray:
    """Scores of TFLite's reference kernels of a file that takes and gives float32."""
    tf, _ = larq
    from tensorflow.lite.python.interpreter import OpResolverType

    interpreter = tf.lite.Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    scores = []
    for one in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one[np.newaxis])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(scores)


def quantized(larq: Any, model: Any) -> bytes:
    """A Keras model as an int8 file, calibrated on normal inputs."""
    tf, _ = larq
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[np.newaxis]] for x in normal(20, *model.input_shape[1:]))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def assert_engine(net: Network, x: np.ndarray) -> np.ndarray:
    model = Model.of(net)
    scores = Engine(model.plan).run(model.image.data, x)
    np.testing.assert_array_equal(scores.view("u4"), reference.run(net, x).view("u4"))
    return scores
