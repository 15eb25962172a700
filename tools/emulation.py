"""A network's operations on the floats of TensorFlow and of PyTorch: what a fault campaign costs without an engine for
bits.

Bits are +1.0 and -1.0, parameters variables that take what an image decodes to: the same network, flips included but
those of bits that only fill up rows, up to the order of sums. Either library has it as is fast there: TensorFlow as one
compiled graph with oneDNN's kernels, PyTorch operation by operation, in memory channels last, comparisons written as
floats. (`torch.compile` is left out: on a busy machine it took 13 to 51 s a network, and won half again on FracBNN,
next to nothing on CNV.)
"""

from __future__ import annotations

import importlib.util
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
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
    Softmax,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import window_geometry

Border = tuple[tuple[int, int], tuple[int, int]]
"""Rows (above, below) and columns (left, right)."""
Run = Callable[[InputArray], FloatArray]
BATCHES = (40, 200)
"""Sizes that are tried; the float libraries get 200 images at a time."""


class Emulation(ABC):
    """A network in floats. Convolutions of one group and no dilation; pools that need no border.

    All tensors are (N, height, width, channels). What the libraries do alike is done here, with `_library`.
    """

    KERNEL: tuple[int, int, int, int]
    """Axes of a kernel (out, height, width, in) in the order that the library wants."""

    def __init__(self, library: Any, net: Network) -> None:
        self._library = library
        self._net = net
        self._image = ParameterImage.of(net)
        self._kernels = {op.weight for op in net.ops if isinstance(op, (Conv, GatedConv))}
        self._values = {name: self._variable(self._value(name, self._image)) for name in net.parameters}

    def put(self, image: ParameterImage) -> None:
        """Take the parameters of an image; those whose bits are as before stay."""
        old, new = (np.frombuffer(i.data, np.uint8) for i in (self._image, image))
        for r in image.regions:
            if not np.array_equal(old[r.offset : r.offset + r.bytes], new[r.offset : r.offset + r.bytes]):
                self._assign(self._values[r.name], self._value(r.name, image))
        self._image = image

    def run(self, inputs: InputArray) -> FloatArray:
        """Scores (N, outputs) of inputs (N, height, width, channels), float32 or uint8."""
        x = self._net.pixels.apply(inputs) if inputs.dtype == np.uint8 else inputs
        entry = self._net.tensors[self._net.input]
        if entry.kind == "int8":
            scale, zero_point = np.float32(entry.quantization.scale), np.float32(entry.quantization.zero_point)
            x = (np.clip(np.rint(x / scale) + zero_point, -128, 127) - zero_point) * scale
        return self._scores(x)

    def _value(self, name: str, image: ParameterImage) -> FloatArray:
        values = image.values(name).astype(np.float32)
        return values.transpose(self.KERNEL) if name in self._kernels else values

    def _forward(self, x: Any) -> Any:
        tensors = {self._net.input: x}
        for op in self._net.ops:
            tensors[op.output] = self._one(op, [tensors[t] for t in op.inputs])
        return self._library.reshape(tensors[self._net.output], (-1, self._net.outputs))

    def _one(self, op: Op, inputs: list[Any]) -> Any:
        library, values, x = self._library, self._values, inputs[0]
        if isinstance(op, Conv):
            return self._convolve(op, x, op.pad_value)
        if isinstance(op, GatedConv):
            upper, lower = (self._convolve(op, plane) for plane in inputs)
            return self._gate(upper, lower, values[op.threshold])
        if isinstance(op, (MaxPool, AveragePool)):
            assert op.padding == "valid", f"{op.name}: not needed so far"
            return self._pool(op, x)
        if isinstance(op, Threshold):
            return self._signs(x, values[op.threshold])
        if isinstance(op, Sign):
            return self._signs(x, 0.0)
        if isinstance(op, LowBit):
            return self._signs(x, self._signs(x, 0.0) * op.bound)
        if isinstance(op, Affine):
            y = x * (op.gain if op.scale is None else values[op.scale])
            return y if op.bias is None else y + values[op.bias]
        if isinstance(op, PRelu):
            return self._prelu(x, values[op.slope])
        if isinstance(op, Clip):
            return self._clip(x, op.low, op.high)
        if isinstance(op, Thermometer):
            levels = library.linspace(0.5, op.planes - 0.5, op.planes)
            planes = self._signs(library.round(x * op.gain)[..., None], levels)
            return library.reshape(planes, (-1, *self._net.tensors[op.output].shape))
        if isinstance(op, Concat):
            return library.concat(inputs, -1)
        if isinstance(op, Softmax):
            return self._softmax(x)
        assert isinstance(op, (Add, Unpack)), f"{op.name}: not needed so far"
        return x + inputs[1] if isinstance(op, Add) else x

    def _convolve(self, op: Conv | GatedConv, x: Any, outside: int = 0) -> Any:
        kernel, size = self._net.parameters[op.weight].shape[1:3], self._net.tensors[op.input].shape[:2]
        out, before = window_geometry(size, kernel, op.stride, op.padding)
        rows, columns = (
            (b, max((o - 1) * s + k - n - b, 0))
            for o, b, s, k, n in zip(out, before, op.stride, kernel, size, strict=True)
        )
        border = (rows, columns)
        if outside and np.any(border):
            x, border = self._pad(x, border, float(outside)), ((0, 0), (0, 0))
        return self._conv(x, self._values[op.weight], op.stride, border)

    @abstractmethod
    def _variable(self, values: FloatArray) -> Any: ...
    @abstractmethod
    def _assign(self, variable: Any, values: FloatArray) -> None: ...
    @abstractmethod
    def _scores(self, x: FloatArray) -> FloatArray: ...
    @abstractmethod
    def _conv(self, x: Any, kernel: Any, stride: tuple[int, int], border: Border) -> Any: ...
    @abstractmethod
    def _pad(self, x: Any, border: Border, value: float) -> Any: ...
    @abstractmethod
    def _pool(self, op: MaxPool | AveragePool, x: Any) -> Any: ...
    @abstractmethod
    def _signs(self, x: Any, limit: Any) -> Any:
        """-1 where x < limit, else +1."""

    @abstractmethod
    def _gate(self, upper: Any, lower: Any, limit: Any) -> Any: ...
    @abstractmethod
    def _prelu(self, x: Any, slope: Any) -> Any: ...
    @abstractmethod
    def _clip(self, x: Any, low: float, high: float) -> Any: ...
    @abstractmethod
    def _softmax(self, x: Any) -> Any: ...


class TensorFlow(Emulation):
    """One compiled graph."""

    KERNEL = (1, 2, 3, 0)

    def __init__(self, net: Network) -> None:
        tf, _ = keras()
        super().__init__(tf, net)
        self._graph = tf.function(self._forward, jit_compile=False)

    def _variable(self, values: FloatArray) -> Any:
        return self._library.Variable(values)

    def _assign(self, variable: Any, values: FloatArray) -> None:
        variable.assign(values)

    def _scores(self, x: FloatArray) -> FloatArray:
        scores: FloatArray = self._graph(self._library.constant(x)).numpy()
        return scores

    def _conv(self, x: Any, kernel: Any, stride: tuple[int, int], border: Border) -> Any:
        return self._library.nn.conv2d(x, kernel, stride, [(0, 0), *border, (0, 0)])

    def _pad(self, x: Any, border: Border, value: float) -> Any:
        return self._library.pad(x, [(0, 0), *border, (0, 0)], constant_values=value)

    def _pool(self, op: MaxPool | AveragePool, x: Any) -> Any:
        nn = self._library.nn
        return (nn.max_pool2d if isinstance(op, MaxPool) else nn.avg_pool2d)(x, op.size, op.stride, "VALID")

    def _signs(self, x: Any, limit: Any) -> Any:
        return 1 - 2 * self._library.cast(x < limit, "float32")

    def _gate(self, upper: Any, lower: Any, limit: Any) -> Any:
        return 2 * upper + lower * self._library.cast(upper >= limit, "float32")

    def _prelu(self, x: Any, slope: Any) -> Any:
        return self._library.where(x >= 0, x, x * slope)

    def _clip(self, x: Any, low: float, high: float) -> Any:
        return self._library.clip_by_value(x, low, high)

    def _softmax(self, x: Any) -> Any:
        return self._library.nn.softmax(x)


class PyTorch(Emulation):
    """Operation by operation. `torch.where` takes ten times as long as a comparison that writes floats."""

    KERNEL = (0, 3, 1, 2)

    def __init__(self, net: Network) -> None:
        import torch

        self._functions = torch.nn.functional
        super().__init__(torch, net)

    def _variable(self, values: FloatArray) -> Any:
        return self._library.from_numpy(values)

    def _assign(self, variable: Any, values: FloatArray) -> None:
        variable.copy_(self._library.from_numpy(values))

    def _scores(self, x: FloatArray) -> FloatArray:
        with self._library.inference_mode():
            scores: FloatArray = self._forward(self._library.from_numpy(x)).numpy()
        return scores

    def _conv(self, x: Any, kernel: Any, stride: tuple[int, int], border: Border) -> Any:
        (above, below), (left, right) = border
        if (above, left) != (below, right):
            x, above, left = self._pad(x, border, 0.0), 0, 0
        y = self._functions.conv2d(x.permute(0, 3, 1, 2), kernel, None, stride, (above, left))
        return y.permute(0, 2, 3, 1)

    def _pad(self, x: Any, border: Border, value: float) -> Any:
        return self._functions.pad(x, (0, 0, *border[1], *border[0]), value=value)

    def _pool(self, op: MaxPool | AveragePool, x: Any) -> Any:
        pool = self._functions.max_pool2d if isinstance(op, MaxPool) else self._functions.avg_pool2d
        return pool(x.permute(0, 3, 1, 2), op.size, op.stride).permute(0, 2, 3, 1)

    def _signs(self, x: Any, limit: Any) -> Any:
        return self._below(x, limit).mul_(-2).add_(1)

    def _gate(self, upper: Any, lower: Any, limit: Any) -> Any:
        above = 1 - self._below(upper, limit)
        return above.mul_(lower).add_(upper, alpha=2)

    def _below(self, x: Any, limit: Any) -> Any:
        return self._library.lt(x, limit, out=self._library.empty(0))

    def _prelu(self, x: Any, slope: Any) -> Any:
        if slope.ndim > 1:
            return self._library.where(x >= 0, x, x * slope)
        return self._functions.prelu(x.permute(0, 3, 1, 2), slope).permute(0, 2, 3, 1)

    def _clip(self, x: Any, low: float, high: float) -> Any:
        return self._library.clip(x, low, high)

    def _softmax(self, x: Any) -> Any:
        return self._library.softmax(x, -1)


@cache
def emulations() -> dict[str, type[Emulation]]:
    """By library, those that are installed; a line says how to get PyTorch where it is not."""
    if importlib.util.find_spec("torch"):
        return {"TensorFlow": TensorFlow, "PyTorch": PyTorch}
    print("PyTorch is not installed, and left out: pip install 'zobnn-edge[bench]'")
    return {"TensorFlow": TensorFlow}


def one_thread() -> None:
    """For all that is emulated, with TensorFlow's fast kernels; has to come before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    tf, _ = keras()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


def fastest(runs: list[Run], inputs: InputArray) -> Run:
    """Of several ways to the same scores, each with batches of several sizes, the one that takes least time."""

    def in_batches(run: Run, size: int) -> Run:
        return lambda x: np.concatenate([run(x[first : first + size]) for first in range(0, len(x), size)])

    def seconds(run: Run) -> float:
        run(inputs)  # compiles
        turns = []
        for _ in range(3):
            started = time.process_time()
            run(inputs)
            turns.append(time.process_time() - started)
        return min(turns)

    return min((in_batches(run, size) for run in runs for size in BATCHES), key=seconds)
