"""The operations of a network, as plain data: what each computes, of which tensors, with which parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zobnn_edge.tensor import Quantization, Shape

Padding = Literal["valid", "same", "half"]
"""valid: none; same: TensorFlow's, the odd one behind; half: PyTorch's, (kernel - 1) // 2 on every side."""


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
    (kernel row, kernel column, channel); on an int8 input, with whole weights, it adds integers and multiplies the sum
    by the input's scale. Outside a padded input it reads `pad_value`: 1, or 0 (no contribution).
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
class GatedConv(_Op):
    """FracBNN's precision-gated convolution of activations of two bits, the planes `input` (high) and `other` (low).

    With h and l the sums of the convolutions of the planes with the same binary weights: `2 h` where h < threshold[c],
    else `2 h + l`. Outside its input it reads nothing. Source: Zhang et al., arXiv 2012.12206 (docs/method.md).
    """

    other: str
    weight: str
    threshold: str
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.weight, self.threshold)


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
class LowBit(_Op):
    """Real to binary, the lower of two bits whose upper one is the sign: -1 where x < bound * sign(x), else +1.

    Of the levels -1, -1/3, 1/3, 1 (bound 2/3), x becomes the nearest as `(2 * Sign + LowBit) / 3`.
    """

    bound: float


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
class DynamicRange(_Op):
    """A real tensor rounded to 8 bits over its own range and back, as TensorFlow Lite's hybrid kernels do.

    `symmetric`: 255 steps about 0; else 256 from the least to the greatest element, 0 among them (docs/spec.md).
    """

    symmetric: bool = True


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
    | GatedConv
    | MaxPool
    | AveragePool
    | Affine
    | PRelu
    | Clip
    | Sign
    | LowBit
    | Threshold
    | Unpack
    | Add
    | Mul
    | Concat
    | Pad
    | Thermometer
    | Softmax
    | DynamicRange
    | Reshape
    | Quantize
    | Dequantize
    | ConvInt8
    | AddInt8
    | SoftmaxInt8
)
