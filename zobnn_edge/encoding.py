"""Encodings: real values <-> integer codes <-> packed bits.

Codes are packed least significant bit first: bit `j` of code `i` is bit `i * bits + j` of the region, and bit `k` of a
byte string is bit `k % 8` of byte `k // 8` (docs/spec.md, "Encodings"). Twelve bits take twelve bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
CodeArray = NDArray[np.uint32]
InputArray = NDArray[Any]
"""Float32 or uint8 inputs, (N, height, width, channels)."""

WORD = 32


@dataclass(frozen=True)
class Float32:
    """IEEE 754 binary32, as trained: 32 bits, of which one in the exponent can ruin a network."""

    bits: int = 32
    row: int = 0

    def encode(self, values: FloatArray) -> CodeArray:
        """The bit patterns of the values."""
        return np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint32)

    def decode(self, codes: CodeArray) -> FloatArray:
        """The values of the bit patterns."""
        return np.ascontiguousarray(codes, "<u4").view("<f4").astype(np.float32)


@dataclass(frozen=True)
class Binary:
    """One bit: 0 is +1, 1 is -1 (the convention of LCE flatbuffers).

    `row`: elements a row; every row begins a new 32-bit word and the bits behind it are 0 (so that a convolution over
    packed activations reads whole words). 0: no rows, bits follow each other without gaps.
    """

    row: int = 0
    bits: int = 1

    def encode(self, values: FloatArray) -> CodeArray:
        """1 where a value is negative."""
        codes: CodeArray = (np.asarray(values) < 0).astype(np.uint32)
        return codes

    def decode(self, codes: CodeArray) -> FloatArray:
        """+1 or -1."""
        return np.where(codes, np.float32(-1), np.float32(1)).astype(np.float32)


@dataclass(frozen=True)
class Uniform:
    """Uniform codes of `bits` bits, ZOBNN's Q and D (docs/method.md).

    `q = clamp(round(v / scale) + zero_point)` and `v = scale * (q - zero_point)`.

    Every code is a value of the range, so that no flip can leave it. Rounding is to nearest, ties to even; the product
    is rounded once to float32.
    """

    bits: int
    scale: float
    zero_point: int
    row: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"Uniform takes 2 to 16 bits, not {self.bits}")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"Uniform needs a positive scale, not {self.scale}")
        if np.float32(self.scale) != self.scale:
            raise ValueError(f"the scale {self.scale!r} is not a float32 value")
        if abs(self.zero_point) > MAX_ZERO_POINT:
            raise ValueError(f"the zero point {self.zero_point} is beyond +-{MAX_ZERO_POINT}")

    @property
    def levels(self) -> int:
        """How many codes there are."""
        return 1 << self.bits

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value a code can stand for."""
        return (-self.zero_point * self.scale, (self.levels - 1 - self.zero_point) * self.scale)

    def encode(self, values: FloatArray) -> CodeArray:
        """The nearest code of each value; values outside the range get the nearest end."""
        q = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        codes: CodeArray = np.clip(q, 0, self.levels - 1).astype(np.uint32)
        return codes

    def decode(self, codes: CodeArray) -> FloatArray:
        """`scale * (q - zero_point)` in float32."""
        steps = (np.asarray(codes, np.int64) - self.zero_point).astype(np.float32)
        return np.float32(self.scale) * steps

    def scaled(self, factor: float) -> Uniform:
        """The same codes, each standing for `factor` times as much (the scale is rounded to float32)."""
        return replace(self, scale=float(np.float32(self.scale * factor)))

    @staticmethod
    def of_range(low: float, high: float, bits: int) -> Uniform:
        """The affine code whose range is closest to [low, high]; a range of no width gets one step around its value."""
        low, high = float(low), float(high)
        if not (np.isfinite(low) and np.isfinite(high)) or low > high:
            raise ValueError(f"[{low}, {high}] is no range")
        steps = (1 << bits) - 1
        # The float32 grid near the range bounds how fine a step may be: q - zero_point must stay exact.
        finest = max(abs(low), abs(high), 1e-30) / (MAX_ZERO_POINT - steps)
        scale = float(np.float32(max((high - low) / steps, finest)))
        return Uniform(bits, scale, int(np.rint(-low / scale)))


MAX_ZERO_POINT = 1 << 23
"""Bound on |zero_point|: every `q - zero_point` is then an integer that float32 holds exactly."""


@dataclass(frozen=True)
class Int32:
    """Whole numbers of 32 bits, two's complement: biases and multipliers of 8-bit integer networks.

    Their values are float64, which holds each of them; float32 does not.
    """

    bits: int = 32
    row: int = 0

    def encode(self, values: FloatArray) -> CodeArray:
        """The bit patterns of the values, which must be whole numbers of 32 bits."""
        codes: CodeArray = np.asarray(values, np.int64).astype(np.int32).view(np.uint32)
        return codes

    def decode(self, codes: CodeArray) -> FloatArray:
        """The numbers of the bit patterns, as float64."""
        return np.asarray(codes, np.uint32).view(np.int32).astype(np.float64)


Encoding = Float32 | Binary | Uniform | Int32

INT8 = Uniform(8, 1.0, 128)
"""Weights of 8-bit integer networks: the bytes of two's complement with the sign bit inverted, faults alike."""


def stored_bits(encoding: Encoding, count: int) -> int:
    """How many bits `count` elements take, row padding included."""
    if encoding.row:
        rows = -(-count // encoding.row)
        return rows * row_bits(encoding)
    return count * encoding.bits


def row_bits(encoding: Encoding) -> int:
    """Bits from the start of one row to the start of the next."""
    return -(-encoding.row * encoding.bits // WORD) * WORD


def pack(codes: CodeArray, encoding: Encoding) -> bytes:
    """The codes as bytes, in order, each with the encoding's bits; the last byte is filled up with zeros."""
    flat = np.ascontiguousarray(codes, "<u4").reshape(-1)
    bits = np.unpackbits(flat.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")[:, : encoding.bits]
    if encoding.row:
        if flat.size % encoding.row:
            raise ValueError(f"{flat.size} elements are not whole rows of {encoding.row}")
        rows = bits.reshape(-1, encoding.row * encoding.bits)
        bits = np.pad(rows, ((0, 0), (0, row_bits(encoding) - rows.shape[1])))
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def unpack(data: bytes | memoryview, encoding: Encoding, count: int) -> CodeArray:
    """The `count` codes packed in `data` (row padding is skipped); the reverse of `pack`."""
    need = -(-stored_bits(encoding, count) // 8)
    if len(data) < need:
        raise ValueError(f"{count} codes of {encoding.bits} bits need {need} bytes, not {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, need), bitorder="little")[: stored_bits(encoding, count)]
    if encoding.row:
        bits = bits.reshape(-1, row_bits(encoding))[:, : encoding.row * encoding.bits]
    per_code = bits.reshape(count, encoding.bits).astype(np.uint32)
    weights = np.uint32(1) << np.arange(encoding.bits, dtype=np.uint32)
    codes: CodeArray = (per_code * weights).sum(axis=1, dtype=np.uint32)
    return codes
