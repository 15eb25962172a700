"""Networks made by the tests: a few fixed ones of every shape of use, and random ones for property tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zobnn_edge.encoding import INT8, Binary, Encoding, Float32, Int32, Uniform
from zobnn_edge.harden import harden
from zobnn_edge.integers import multiplier
from zobnn_edge.network import Builder, Network, Pixels
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
    Pad,
    Padding,
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
from zobnn_edge.policy import Policy
from zobnn_edge.tensor import Quantization, Shape

Rng = np.random.Generator
DYADIC = Pixels(1 / 128, -1.0)


def dyadic_inputs(net: Network, n: int, seed: int = 0) -> np.ndarray:
    """(n, H, W, C) float32 multiples of 1/64 in [-1, 1), which pixels of DYADIC hold: every first-layer sum of them is
    exact, ties are common."""
    return (np.random.default_rng(seed).integers(-64, 65, (n, *net.input_shape)).clip(max=63) / 64).astype(np.float32)


class Author:
    """A Builder with random parameters and running names: every method appends one operation."""

    def __init__(
        self, shape: Shape, seed: int = 0, pixels: Pixels = DYADIC, quantization: Quantization | None = None
    ) -> None:
        self.rng: Rng = np.random.default_rng(seed)
        self.b = Builder("test", shape, pixels, quantization)
        self.x = self.b.input
        self.n = 0

    def _name(self, kind: str) -> str:
        self.n += 1
        return f"{kind}{self.n}"

    @property
    def shape(self) -> Shape:
        return self.b.tensors[self.x].shape

    def _parameter(self, layer: str, role: str, values: np.ndarray, encoding: Encoding | int | None) -> str:
        if isinstance(encoding, int):
            encoding = Uniform.of_range(float(values.min()), float(values.max()), encoding)
        return self.b.parameter(f"{layer}/{role}", layer, role, values, encoding or Float32())  # type: ignore[arg-type]

    def _add(self, op: object) -> Author:
        self.x = self.b.add(op)  # type: ignore[arg-type]
        return self

    def conv(
        self,
        out: int,
        kernel: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        pad_value: int = 0,
        weight: Encoding | int | str | None = "binary",
        groups: int = 1,
        dilation: tuple[int, int] = (1, 1),
    ) -> Author:
        """`weight`: "binary", or the encoding (bits of a min-max code, whole if over int8) of real weights."""
        name = self._name("conv")
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        strides = (stride, stride) if isinstance(stride, int) else stride
        c = self.shape[2] // groups
        shape = (out, kh, kw, c)
        if weight == "binary":
            row = c if self.b.tensors[self.x].kind == "binary" else 0
            p = self._parameter(name, "weight", self.rng.choice([-1.0, 1.0], shape), Binary(row=row))
        elif isinstance(weight, int) and self.b.tensors[self.x].kind == "int8":
            zero_point = int(self.rng.integers(-1, 1 << weight))
            codes = self.rng.integers(0, 1 << weight, shape)
            p = self._parameter(name, "weight", codes - zero_point, Uniform(weight, 1.0, zero_point))
        else:
            p = self._parameter(name, "weight", self.rng.normal(size=shape), weight)  # type: ignore[arg-type]
        return self._add(Conv(name, self.x, name, p, strides, padding, pad_value, groups, dilation))  # type: ignore[arg-type]

    def affine(self, encoding: Encoding | int | None = None, scale: bool = True, spread: float = 1.0) -> Author:
        """Scales of both signs and some zeros; biases that make ties when the scale is 1/8 and inputs are integers."""
        name, c = self._name("affine"), self.shape[2]
        scales = self.rng.choice([-1, 1], c) * self.rng.integers(0, 9, c) / 8
        biases = self.rng.integers(-64, 65, c) / 16 * spread
        s = self._parameter(name, "scale", scales, encoding) if scale else None
        return self._add(Affine(name, self.x, name, s, self._parameter(name, "bias", biases, encoding)))

    def gain(self, gain: float) -> Author:
        name = self._name("gain")
        return self._add(Affine(name, self.x, name, gain=gain))

    def threshold(
        self, encoding: Encoding | int | None = None, spread: float = 8.0, values: np.ndarray | None = None
    ) -> Author:
        """Whole thresholds of the given spread, or the given ones."""
        name, c = self._name("threshold"), self.shape[2]
        if values is None:
            values = np.rint(self.rng.normal(size=c) * spread)
        return self._add(Threshold(name, self.x, name, self._parameter(name, "threshold", values, encoding)))

    def prelu(
        self, encoding: Encoding | int | None = None, by_element: bool = False, values: np.ndarray | None = None
    ) -> Author:
        """Slopes of both signs, or the given ones."""
        name = self._name("prelu")
        if values is None:
            values = self.rng.normal(size=self.shape if by_element else self.shape[2:])
        return self._add(PRelu(name, self.x, name, self._parameter(name, "slope", values, encoding)))

    def sign(self) -> Author:
        return self._add(Sign(name := self._name("sign"), self.x, name))

    def unpack(self) -> Author:
        return self._add(Unpack(name := self._name("unpack"), self.x, name))

    def clip(self, low: float = 0.0, high: float = float("inf")) -> Author:
        return self._add(Clip(name := self._name("clip"), self.x, name, low, high))

    def max_pool(self, size: int = 2, stride: int = 2, padding: Padding = "valid") -> Author:
        return self._add(MaxPool(name := self._name("maxpool"), self.x, name, (size, size), (stride, stride), padding))

    def average_pool(self, size: int = 2, stride: int = 2, padding: Padding = "valid") -> Author:
        name = self._name("avgpool")
        return self._add(AveragePool(name, self.x, name, (size, size), (stride, stride), padding))

    def global_pool(self) -> Author:
        name, size = self._name("avgpool"), self.shape[:2]
        return self._add(AveragePool(name, self.x, name, size, size))

    def add(self, other: str) -> Author:
        return self._add(Add(name := self._name("add"), self.x, name, other))

    def mul(self, other: str) -> Author:
        return self._add(Mul(name := self._name("mul"), self.x, name, other))

    def concat(self, other: str) -> Author:
        return self._add(Concat(name := self._name("concat"), self.x, name, other))

    def pad(self, rows: tuple[int, int], columns: tuple[int, int], value: float = 0.0) -> Author:
        return self._add(Pad(name := self._name("pad"), self.x, name, rows, columns, value))

    def thermometer(self, planes: int, gain: float) -> Author:
        return self._add(Thermometer(name := self._name("thermometer"), self.x, name, planes, gain))

    def softmax(self) -> Author:
        return self._add(Softmax(name := self._name("softmax"), self.x, name))

    def reshape(self, shape: Shape) -> Author:
        return self._add(Reshape(name := self._name("reshape"), self.x, name, shape))

    def dense(self, out: int, weight: Encoding | int | str | None = "binary") -> Author:
        return self.conv(out, self.shape[:2], weight=weight)

    def quantize(self, scale: float = 1 / 64, zero_point: int = -3) -> Author:
        return self._add(Quantize(name := self._name("quantize"), self.x, name, Quantization(scale, zero_point)))

    def dequantize(self) -> Author:
        return self._add(Dequantize(name := self._name("dequantize"), self.x, name))

    def conv_int8(
        self,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: Padding = "valid",
        groups: int = 1,
        dilation: tuple[int, int] = (1, 1),
        limits: tuple[int, int] = (-128, 127),
    ) -> Author:
        """Whole weights; factors that use the output's range, some below 2^-8 and some above 1."""
        name, c = self._name("conv"), self.shape[2] // groups
        weights = self.rng.integers(-128, 128, (out, *kernel, c))
        factors = self.rng.choice([1.5, 2e-2, 1e-3], out) * self.rng.uniform(0.5, 1, out)
        to = Quantization(1 / 32, int(self.rng.integers(-128, 128)))
        w = self._parameter(name, "weight", weights, INT8)
        bias = self._parameter(name, "bias", self.rng.integers(-3000, 3000, out), Int32())
        pairs = self._parameter(name, "scale", np.array([multiplier(f) for f in factors]), Int32())
        return self._add(ConvInt8(name, self.x, name, w, bias, pairs, to, *limits, stride, padding, groups, dilation))

    def add_int8(self, other: str, limits: tuple[int, int] = (-128, 127)) -> Author:
        name = self._name("add")
        pairs = np.array([multiplier(f) for f in (0.5, 0.37, 1.7 / (1 << 20))])
        scales = self._parameter(name, "scale", pairs, Int32())
        return self._add(AddInt8(name, self.x, name, other, scales, Quantization(1 / 16, 5), *limits))

    def softmax_int8(self, step: float = 0.17) -> Author:
        name = self._name("softmax")
        pairs = self._parameter(name, "scale", np.array([multiplier(step * (1 << 26))]), Int32())
        return self._add(SoftmaxInt8(name, self.x, name, pairs))

    def gated_conv(
        self,
        out: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: Padding = "half",
        encoding: Encoding | int | None = None,
    ) -> Author:
        """Both planes of a real tensor, and thresholds that a good part of the sums exceeds."""
        name, c = self._name("gated"), self.shape[2]
        high = self.b.add(Sign(f"{name}/high", self.x, f"{name}/high"))
        low = self.b.add(LowBit(f"{name}/low", self.x, f"{name}/low", float(np.float32(2 / 3))))
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self._parameter(name, "weight", self.rng.choice([-1.0, 1.0], (out, kh, kw, c)), Binary(row=c))
        values = self.rng.integers(-3, 4, out) - 0.5 * self.rng.integers(0, 2, out)
        threshold = self._parameter(name, "threshold", values, encoding)
        self.x = high
        return self._add(GatedConv(name, high, name, low, weight, threshold, (stride, stride), padding))

    def dynamic_range(self, symmetric: bool = True) -> Author:
        return self._add(DynamicRange(name := self._name("rounded"), self.x, name, symmetric))

    def network(self) -> Network:
        return self.b.network(self.x)


def binary_chain(seed: int = 0, bits: int | None = None) -> Network:
    """Real 8x8x1 input, binary kernels, batch norm before every sign, dense at the end; like Larq's tutorial."""
    a = Author((8, 8, 1), seed)
    a.conv(33, 3).affine(bits).sign().conv(32, 3, padding="same", pad_value=1).affine(bits).sign().max_pool()
    return a.dense(31).affine(bits).sign().dense(10).affine(bits).softmax().network()


def thresholds(seed: int = 0, bits: int | None = 8) -> Network:
    """Thresholds instead of batch norm; padding of ones, of zeros, on every side; strides, a binary max-pool."""
    a = Author((9, 9, 3), seed)
    a.conv(32, 3, padding="same", weight=bits).threshold(bits, 2.0).conv(64, 3, 2, "half", 0).threshold(bits)
    a.max_pool(2, 1, "same").conv(16, 3, padding="same", pad_value=1).threshold(bits)
    return a.dense(10).affine(bits).network()


def residual(seed: int = 0, bits: int | None = None) -> Network:
    """Residual blocks with PReLU, real first and last layer, average pools; like Bi-Real Net."""
    a = Author((8, 8, 3), seed)
    a.conv(16, 3, padding="same", weight=bits).affine(bits)
    for _ in range(2):
        shortcut = a.x
        a.sign().conv(16, 3, padding="same", pad_value=1).affine(bits).prelu(bits).add(shortcut).affine(bits)
    a.average_pool(3, 2, "same").max_pool(2, 2, "same").clip(-1, 3).prelu(bits, by_element=True)
    return a.global_pool().dense(10, weight=bits).affine(bits, scale=False).network()


def real(seed: int = 0, bits: int | None = 12) -> Network:
    """A small conventional network: everything real, one-padded convolution, reshape, softmax."""
    a = Author((6, 5, 2), seed, Pixels(1 / 255, 0.0))
    a.conv(5, (3, 2), (2, 1), "same", 1, weight=bits).affine(bits).clip().reshape((1, 1, 3 * 5 * 5))
    a.dense(7, weight=bits).affine(bits, scale=False).sign().unpack().dense(4, weight=bits)
    return a.gain(0.5).affine(bits, scale=False).softmax().network()


def gated(seed: int = 0, bits: int | None = None) -> Network:
    """Thermometer input, grouped and dilated and depthwise convolutions, a channel gate, concatenation, padding."""
    a = Author((7, 6, 2), seed, Pixels(1.0, 0.0)).gain(0.5)
    stem = a.x
    a.thermometer(32, 1 / 4).conv(64, 3, padding="same", groups=2).affine(bits).prelu(bits)
    left = a.x
    a.global_pool().dense(64, weight=bits).affine(bits, scale=False).clip(0, 1)
    gate = a.x
    a.x = left
    a.mul(gate).conv(64, 3, 2, "same", weight=bits, groups=64, dilation=(2, 1)).affine(bits)
    half = a.x
    a.x = stem
    a.average_pool(2, 2, "same").pad((0, 0), (0, 0)).concat(half).pad((1, 0), (0, 2), 0.5).sign()
    return a.conv(8, 2, padding="same", pad_value=1, dilation=(2, 2)).affine(bits).global_pool().network()


def two_bits(seed: int = 0, bits: int | None = None) -> Network:
    """Precision-gated convolutions of two-bit activations, with PReLU and shortcuts; like FracBNN."""
    a = (
        Author((8, 7, 3), seed, Pixels(1.0, 0.0))
        .thermometer(8, 1 / 32)
        .conv(16, 3, padding="same")
        .affine(bits, spread=0.2)
    )
    for out, stride in ((16, 1), (33, 2)):
        shortcut = a.x
        a.gated_conv(out, 3, stride).affine(bits, spread=0.2).prelu(bits)
        a = a.add(shortcut).affine(bits) if stride == 1 else a.affine(bits)
    return a.global_pool().dense(10, weight=bits).affine(bits, scale=False).network()


def bytes_in(seed: int = 0, bits: int | None = None) -> Network:
    """A real first layer with a slope a channel before batch norm, and a real branch of the same pixels."""
    a = Author((9, 8, 3), seed).conv(33, 5, padding="half", weight=bits).prelu(bits).affine(bits).sign().max_pool()
    a.conv(16, 3, padding="same", pad_value=1).affine(bits)
    left = a.x
    a.x = a.b.input
    a.conv(16, 2, 2).affine(bits)
    return a.add(left).dense(10, weight=bits).affine(bits).network()


def integer(seed: int = 0) -> Network:
    """8-bit integers: strides, a depthwise convolution, a shortcut, both pools, a dense layer, softmax."""
    a = Author((9, 8, 3), seed).quantize().conv_int8(16, (3, 3), (2, 2), "same", limits=(-20, 127))
    shortcut = a.x
    a.conv_int8(16, padding="same", groups=16).conv_int8(16, (1, 1)).add_int8(shortcut, (5, 127))
    a.max_pool(2, 1, "same").average_pool(2, 2, "same")
    a.reshape((1, 1, a.b.tensors[a.x].size)).conv_int8(10, (1, 1))
    return a.softmax_int8().dequantize().network()


def hybrid(seed: int = 0) -> Network:
    """Coded weights, and inputs rounded to 8 bits at run time in both ways; like a dynamic-range TFLite file."""
    a = Author((6, 7, 3), seed).dynamic_range().conv(8, 3, padding="same", weight=8).clip()
    a.dynamic_range(symmetric=False).conv(8, 3, weight=8, groups=8).affine().prelu()
    return a.global_pool().dynamic_range(symmetric=False).dense(5, weight=8).network()


NETWORKS: dict[str, Callable[[], Network]] = {
    "binary_chain-float32": lambda: binary_chain(1),
    "binary_chain-8": lambda: binary_chain(1, 8),
    "binary_chain-hardened-8": lambda: harden(binary_chain(1), Policy(8)),
    "thresholds-float32": lambda: thresholds(2, None),
    "thresholds-hardened-8": lambda: harden(thresholds(2, None), Policy(8)),
    "residual-float32": lambda: residual(3),
    "residual-8": lambda: residual(3, 8),
    "residual-hardened-12": lambda: harden(residual(3), Policy(12)),
    "gated-float32": lambda: gated(5),
    "gated-hardened-8": lambda: harden(gated(5), Policy(8)),
    "real-float32": lambda: real(4, None),
    "real-12": lambda: real(4, 12),
    "two_bits-float32": lambda: two_bits(8),
    "two_bits-hardened-8": lambda: harden(two_bits(8), Policy(8)),
    "bytes_in-hardened-8": lambda: harden(bytes_in(8), Policy(8)),
    "bytes_in-hardened-6": lambda: harden(bytes_in(8), Policy(6)),
    "bytes_in-hardened-12": lambda: harden(bytes_in(8), Policy(12)),
    "bytes_in-hardened-16": lambda: harden(bytes_in(8), Policy(16)),
    "integer": lambda: integer(6),
    "hybrid": lambda: hybrid(7),
    "real-hardened-5": lambda: harden(real(4, None), Policy(5)),
}

WRITTEN = [name for name in NETWORKS if name not in ("integer", "hybrid")]
"""Those that a flatbuffer is written of."""
