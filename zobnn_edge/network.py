"""The network as plain data: tensors, parameters, operations. NumPy only; knows nothing of files, engines or boards.

Activations are `(height, width, channels)`, one image; a vector is `(1, 1, n)`. A tensor is *real* (float32), *binary*
(+1/-1, packed one bit an element) or *int8* (whole numbers q that stand for `scale * (q - zero_point)`). Operations are
listed in the order of execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from zobnn_edge.encoding import INT8, Binary, Encoding, FloatArray, InputArray, Int32
from zobnn_edge.errors import InputError, ModelError

Shape = tuple[int, int, int]
Kind = Literal["real", "binary", "int8"]
Role = Literal["weight", "scale", "bias", "slope", "threshold"]
Padding = Literal["valid", "same"]


@dataclass(frozen=True)
class Quantization:
    """What the numbers q of an int8 tensor stand for: `scale * (q - zero_point)`."""

    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class Tensor:
    """An activation: its name, its shape (height, width, channels), its kind and, where that is int8, its scale."""

    name: str
    shape: Shape
    kind: Kind = "real"
    quantization: Quantization = Quantization()

    @property
    def size(self) -> int:
        """Number of elements."""
        h, w, c = self.shape
        return h * w * c


@dataclass(frozen=True, eq=False)
class Parameter:
    """A trained constant: where it belongs, what it does, its values (float32) and how they are stored.

    Convolution weights are (out channels, kernel height, kernel width, in channels). Of a coded parameter, `values`
    are what the codes stand for: use `encoded` to change the encoding.
    """

    name: str
    layer: str
    role: Role
    values: FloatArray
    encoding: Encoding

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return tuple(self.values.shape)

    @property
    def type(self) -> Literal["binary", "L", "S"]:
        """binary (one bit), L-type (real weights of a convolution or dense layer) or S-type (everything small)."""
        if isinstance(self.encoding, Binary):
            return "binary"
        return "L" if self.role == "weight" else "S"

    def encoded(self, encoding: Encoding) -> Parameter:
        """The parameter in another encoding, with the values rounded to it."""
        values = encoding.decode(encoding.encode(self.values)).reshape(self.values.shape)
        return replace(self, values=values, encoding=encoding)


@dataclass(frozen=True)
class _Op:
    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        return (self.input,)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters it uses."""
        return ()


@dataclass(frozen=True)
class Conv(_Op):
    """Convolution without bias; a dense layer is one whose kernel covers its input.

    On a binary input with binary weights it counts differing bits; on a real input it adds products in the order
    (kernel row, kernel column, channel). Outside a "same"-padded input it reads `pad_value`: 1, or 0 (no contribution).
    Of `groups` groups each reads its share of the input channels and makes its share of the output channels; as many
    groups as input channels are a depthwise convolution. `dilation` is the distance of the kernel's elements.
    """

    weight: str
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    pad_value: Literal[0, 1] = 0
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.weight,)


@dataclass(frozen=True)
class MaxPool(_Op):
    """Maximum over a window; positions outside the input are left out. Keeps the input's kind."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = "valid"


@dataclass(frozen=True)
class AveragePool(_Op):
    """Mean over a window of a real tensor; positions outside the input are not counted."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = "valid"


@dataclass(frozen=True)
class Affine(_Op):
    """`x * scale[c] + bias[c]`, in that order and rounded after each; without `scale`, `x * gain` (a constant)."""

    scale: str | None = None
    bias: str | None = None
    gain: float = 1.0

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(p for p in (self.scale, self.bias) if p is not None)


@dataclass(frozen=True)
class PRelu(_Op):
    """`x` where x >= 0, else `x * slope`; one slope a channel, or one an element."""

    slope: str

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.slope,)


@dataclass(frozen=True)
class Clip(_Op):
    """`x` limited to [low, high]; ReLU is [0, inf]. NaN passes."""

    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True)
class Sign(_Op):
    """Real to binary: -1 where x < 0, else +1 (so 0, -0 and NaN give +1)."""


@dataclass(frozen=True)
class Threshold(_Op):
    """Real to binary: -1 where x < threshold[c], else +1. Batch norm and sign in one comparison."""

    threshold: str

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.threshold,)


@dataclass(frozen=True)
class Unpack(_Op):
    """Binary to real: +1.0 and -1.0."""


@dataclass(frozen=True)
class Add(_Op):
    """Sum of two real tensors of one shape."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True)
class Mul(_Op):
    """Product of two real tensors of one shape, or of a tensor and one value a channel (1, 1, channels)."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True)
class Concat(_Op):
    """Two real tensors of one height and width, channels after channels."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True)
class Pad(_Op):
    """A border of `value` around a real tensor: rows (above, below), columns (left, right)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    value: float = 0.0


@dataclass(frozen=True)
class Thermometer(_Op):
    """Real to binary: channel c becomes `planes` channels, plane k of them +1 where k < round(x * gain), else -1.

    Rounds to nearest, ties to even. The input coding of FracBNN (docs/method.md).
    """

    planes: int
    gain: float


@dataclass(frozen=True)
class Softmax(_Op):
    """Softmax over the channels of a real tensor (docs/spec.md, "Softmax")."""


@dataclass(frozen=True)
class Quantize(_Op):
    """Real to int8: `x / scale`, rounded to the nearest whole number (ties away from 0), plus the zero point."""

    to: Quantization


@dataclass(frozen=True)
class Dequantize(_Op):
    """Int8 to real: `scale * (q - zero_point)`."""


@dataclass(frozen=True)
class ConvInt8(_Op):
    """Convolution in integers, as TensorFlow Lite's reference kernels (docs/spec.md, "Integers").

    The sum of `(q - zero_point) * w` and a bias is multiplied by the channel's multiplier, a fraction and a power of 2,
    and limited to [low, high]. `multiplier` has the shape (output channels, 2). Outside its input it reads nothing.
    """

    weight: str
    bias: str
    multiplier: str
    to: Quantization
    low: int = -128
    high: int = 127
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.weight, self.bias, self.multiplier)


@dataclass(frozen=True)
class AddInt8(_Op):
    """Sum of two int8 tensors of one shape; `multiplier` (3, 2) is those of the inputs and of the output."""

    other: str
    multiplier: str
    to: Quantization
    low: int = -128
    high: int = 127

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.multiplier,)


@dataclass(frozen=True)
class SoftmaxInt8(_Op):
    """Softmax over the channels of an int8 tensor in fixed point; the result has steps of 1/256 from -128 on."""

    multiplier: str

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.multiplier,)


@dataclass(frozen=True)
class Reshape(_Op):
    """Another shape over the same elements of a real or int8 tensor, row-major. No work at run time."""

    shape: Shape


Op = (
    Conv
    | MaxPool
    | AveragePool
    | Affine
    | PRelu
    | Clip
    | Sign
    | Threshold
    | Unpack
    | Add
    | Mul
    | Concat
    | Pad
    | Thermometer
    | Softmax
    | Reshape
    | Quantize
    | Dequantize
    | ConvInt8
    | AddInt8
    | SoftmaxInt8
)


@dataclass(frozen=True)
class Pixels:
    """What an 8-bit input stands for: `x = p * scale + offset`, each step rounded to float32."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, pixels: InputArray) -> FloatArray:
        """The float32 input of uint8 pixels."""
        return np.asarray(pixels, np.uint8).astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


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
    oh, ow = ((s - k) // t + 1 for s, k, t in zip(size, kernel, stride, strict=True))
    return (oh, ow), (0, 0)


@dataclass(frozen=True)
class Network:
    """A whole network. Build one with `Builder`, which works out the shapes; `validate` checks one from elsewhere."""

    name: str
    input: str
    output: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    parameters: dict[str, Parameter]
    pixels: Pixels = field(default_factory=Pixels)

    @property
    def input_shape(self) -> Shape:
        """(height, width, channels) of one input."""
        return self.tensors[self.input].shape

    @property
    def outputs(self) -> int:
        """Number of scores."""
        return self.tensors[self.output].size

    def consumers(self, tensor: str) -> list[Op]:
        """The operations that read a tensor, in order."""
        return [op for op in self.ops if tensor in op.inputs]

    def producer(self, tensor: str) -> Op | None:
        """The operation that writes a tensor; None for the input."""
        return next((op for op in self.ops if op.output == tensor), None)

    def layers(self) -> Iterator[tuple[str, list[Parameter]]]:
        """The parameters grouped by layer, in order."""
        groups: dict[str, list[Parameter]] = {}
        for parameter in self.parameters.values():
            groups.setdefault(parameter.layer, []).append(parameter)
        yield from groups.items()

    def macs(self, op: Op) -> int:
        """Multiply-accumulates of a convolution (every tap counted, padding included); 0 for other operations."""
        if not isinstance(op, (Conv, ConvInt8)):
            return 0
        oh, ow, _ = self.tensors[op.output].shape
        return oh * ow * self.parameters[op.weight].values.size

    def validate(self) -> Network:
        """The network itself, when every name, shape and kind fits; raises ModelError naming what does not."""
        if self.input not in self.tensors or self.output not in self.tensors:
            raise ModelError(f"{self.name}: the input or the output is not among the tensors")
        if not self.ops:
            raise ModelError(f"{self.name}: a network without operations")
        if self.tensors[self.output].kind != "real":
            raise ModelError(f"{self.name}: the scores must be real; the network ends in a sign")
        known = {self.input}
        for op in self.ops:
            for tensor in op.inputs:
                if tensor not in known:
                    raise ModelError(f"{op.name}: reads {tensor}, which nothing before it writes")
            for parameter in op.parameters:
                if parameter not in self.parameters:
                    raise ModelError(f"{op.name}: there is no parameter {parameter}")
            if op.output in known:
                raise ModelError(f"{op.name}: writes {op.output}, which is written already")
            expected = infer(op, [self.tensors[t] for t in op.inputs], self.parameters)
            if self.tensors.get(op.output) != expected:
                raise ModelError(f"{op.name}: its output {op.output} should be {expected.kind} {expected.shape}")
            known.add(op.output)
        if self.output not in known:
            raise ModelError(f"{self.name}: nothing writes the output {self.output}")
        return self


MAX_PRODUCTS = 1 << 24
"""Most products of +-1 whose sum float32 holds exactly."""


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
            want(weight.encoding.row == 0, "real inputs need weights packed without rows")
        want(min(op.dilation) >= 1, f"dilation {op.dilation} must be positive")
        return Tensor(op.output, (*_window(op, x, extent((kh, kw), op.dilation), op.stride, op.padding), o))
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
    binary = isinstance(op, (Sign, Threshold))
    return Tensor(op.output, x.shape, "binary" if binary else "real")


MAX_INT8_PRODUCTS = 65000
"""Most products of an int8 activation and weight whose sum stays below 2^31."""

SOFTMAX_INT8 = Quantization(1 / 256, -128)


def _check_quantization(q: Quantization, want: Callable[[bool, str], None]) -> None:
    positive = bool(0 < q.scale < np.inf) and np.float32(q.scale) == q.scale
    want(positive and -128 <= q.zero_point <= 127, f"int8 with scale {q.scale} and zero point {q.zero_point}")


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


class Builder:
    """Collects operations in order and works out every tensor. Each method returns the name of the output tensor.

    >>> b = Builder("tiny", (4, 4, 3))
    >>> y = b.add(AveragePool("pool", b.input, "pool", (4, 4), (4, 4)))
    >>> b.network(y).outputs
    3
    """

    def __init__(self, name: str, input_shape: Shape, pixels: Pixels | None = None) -> None:
        self.name = name
        self.input = "input"
        self.pixels = pixels or Pixels()
        self.tensors: dict[str, Tensor] = {"input": Tensor("input", input_shape)}
        self.ops: list[Op] = []
        self.parameters: dict[str, Parameter] = {}

    def parameter(self, name: str, layer: str, role: Role, values: FloatArray, encoding: Encoding) -> str:
        """Add a parameter (its values rounded to the encoding); returns its name."""
        if name in self.parameters:
            raise ModelError(f"there are two parameters {name}; layer names must differ")
        exact = np.float64 if isinstance(encoding, Int32) else np.float32
        raw = Parameter(name, layer, role, np.ascontiguousarray(values, exact), encoding)
        self.parameters[name] = raw.encoded(encoding)
        return name

    def add(self, op: Op) -> str:
        """Append an operation; raises ModelError when it does not fit. Returns its output's name."""
        if op.output in self.tensors:
            raise ModelError(f"{op.name}: there is a tensor {op.output} already")
        self.tensors[op.output] = infer(op, [self.tensors[t] for t in op.inputs], self.parameters)
        self.ops.append(op)
        return op.output

    def network(self, output: str) -> Network:
        """The finished network with the given output tensor."""
        net = Network(
            self.name, self.input, output, dict(self.tensors), tuple(self.ops), dict(self.parameters), self.pixels
        )
        return net.validate()


def rebuilt(net: Network, ops: list[Op], parameters: dict[str, Parameter], output: str | None = None) -> Network:
    """`net` with other operations and parameters: shapes are worked out anew.

    Parameters are listed in the order of their use; those that nobody uses are dropped.
    """
    b = Builder(net.name, net.input_shape, net.pixels)
    b.input = net.input
    b.tensors = {net.input: net.tensors[net.input]}
    b.parameters = {name: parameters[name] for op in ops for name in op.parameters}
    for op in ops:
        b.add(op)
    return b.network(output or net.output)


def as_inputs(net: Network, inputs: InputArray) -> InputArray:
    """`inputs` as an array (N, height, width, channels) of float32 or uint8.

    Sides of 1 may be missing, or all sides be merged to (N, elements). Raises InputError when it does not fit.
    """
    x = np.asarray(inputs)
    if x.dtype not in (np.float32, np.uint8):
        raise InputError(f"inputs of type {x.dtype}; {net.name} takes float32 or uint8 (convert with .astype)")
    shape = net.input_shape
    if x.ndim < 2 or _sides(x.shape[1:]) not in (_sides(shape), (int(np.prod(shape)),)):
        raise InputError(f"inputs of shape {x.shape}; {net.name} takes (N, {', '.join(map(str, shape))})")
    return np.ascontiguousarray(x.reshape(len(x), *shape))


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1) or (1,)
