"""What operations work on: tensors, which are activations, and parameters, which are trained constants.

Activations are `(height, width, channels)`, one image; a vector is `(1, 1, n)`. A tensor is *real* (float32), *binary*
(+1/-1, packed one bit an element) or *int8* (whole numbers q that stand for `scale * (q - zero_point)`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from zobnn_edge.encoding import Binary, Encoding, FloatArray

Shape = tuple[int, int, int]
Kind = Literal["real", "binary", "int8"]
Role = Literal["weight", "scale", "bias", "slope", "threshold"]


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
