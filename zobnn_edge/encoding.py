"""Encodings: real values <-> integer codes <-> stored bits.

Codes are packed least significant bit first: bit `j` of code `i` is bit `i * bits + j` of the region, and bit `k` of a
byte string is bit `k % 8` of byte `k // 8` (docs/spec.md, "Encodings"). Twelve bits take twelve bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.protection import Bits, Health, Protection

FloatArray = NDArray[np.float32]
CodeArray = NDArray[np.uint32]
InputArray = NDArray[Any]
"""Float32 or uint8 inputs, (N, height, width, channels)."""

WORD = 32
Scales = Literal["flash", "ram", "tmr"]


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
class Float16:
    """IEEE 754 binary16, to the nearest, ties to even; what is beyond its range becomes its largest number."""

    bits: int = 16
    row: int = 0

    def encode(self, values: FloatArray) -> CodeArray:
        """The bit patterns of the nearest binary16 numbers."""
        limit = np.float32(65504)
        return np.clip(values, -limit, limit).astype("<f2").view("<u2").astype(np.uint32)

    def decode(self, codes: CodeArray) -> FloatArray:
        """The values of the bit patterns; NaNs keep their payload, moved up."""
        h = np.asarray(codes, np.uint32)
        sign, exponent, fraction = h >> 15 << 31, h >> 10 & 31, h & 1023
        special = np.where(exponent == 31, 255, exponent + 112)
        normal = (sign | special << 23 | fraction << 13).astype("<u4").view("<f4")
        small = fraction.astype(np.float32) * np.float32(2.0**-24)
        return np.where(exponent == 0, np.where(sign > 0, -small, small), normal).astype(np.float32)


@dataclass(frozen=True)
class Guarded:
    """Float32 whose exponent is limited as it is read: a biased exponent above `exponent` counts as `exponent`.

    Sign and fraction stay. So no flip makes infinity, NaN, or a number of 2^(exponent - 126) or more.
    """

    exponent: int
    bits: int = 32
    row: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.exponent <= 254:
            raise ValueError(f"a largest exponent of {self.exponent}; it must be 1 to 254")

    def encode(self, values: FloatArray) -> CodeArray:
        """The bit patterns of the values."""
        return Float32().encode(values)

    def decode(self, codes: CodeArray) -> FloatArray:
        """The values of the bit patterns, their exponents limited."""
        word = np.asarray(codes, np.uint32)
        limited = (word & np.uint32(0x807FFFFF)) | np.uint32(self.exponent << 23)
        return Float32().decode(np.where((word >> 23 & 255) > self.exponent, limited, word))

    @staticmethod
    def of(values: FloatArray) -> Guarded:
        """The guard of finite values: the exponent of the largest."""
        return Guarded(max(1, int((Float32().encode(values) >> 23 & 255).max())))


@dataclass(frozen=True)
class Clamped:
    """Float32 that is limited to [low, high] as it is read; NaN is read as 0, limited likewise."""

    low: float
    high: float
    bits: int = 32
    row: int = 0

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if not np.isfinite(bound) or np.float32(bound) != bound:
                raise ValueError(f"the bound {bound!r} is no finite float32 value")
        if self.low > self.high:
            raise ValueError(f"[{self.low}, {self.high}] is no range")

    def encode(self, values: FloatArray) -> CodeArray:
        """The bit patterns of the values."""
        return Float32().encode(values)

    def decode(self, codes: CodeArray) -> FloatArray:
        """The values of the bit patterns, limited."""
        values, low, high = Float32().decode(codes), np.float32(self.low), np.float32(self.high)
        values = np.where(np.isnan(values), np.float32(0), values)
        values = np.where(values < low, low, values)
        return np.where(values > high, high, values)

    @staticmethod
    def of(values: FloatArray) -> Clamped:
        """The bounds of finite values: the smallest and the largest."""
        return Clamped(float(values.min()), float(values.max()))


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
    is rounded once to float32. `scales`: whether scale and zero point lie in the plan, out of reach of faults
    ("flash"), in front of the codes ("ram"), or there three times ("tmr"; each bit is what two of three say).
    """

    bits: int
    scale: float
    zero_point: int
    row: int = 0
    scales: Scales = "flash"

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
        return _uniform(codes, np.float32(self.scale), self.zero_point)

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


Code = Float32 | Float16 | Guarded | Clamped | Uniform


@dataclass(frozen=True)
class Protected:
    """Codes that are stored redundantly: `code` says what they stand for, `by` how their bits are stored."""

    code: Code
    by: Protection

    def __post_init__(self) -> None:
        self.by.check(self.code.bits)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.code.bits

    @property
    def row(self) -> int:
        """Protected codes have no rows."""
        return 0

    def encode(self, values: FloatArray) -> CodeArray:
        """The codes of the values."""
        return self.code.encode(values)

    def decode(self, codes: CodeArray) -> FloatArray:
        """The values of the codes."""
        return self.code.decode(codes)


Encoding = Float32 | Float16 | Guarded | Clamped | Binary | Uniform | Int32 | Protected

INT8 = Uniform(8, 1.0, 128)
"""Weights of 8-bit integer networks: the bytes of two's complement with the sign bit inverted, faults alike."""


def described(encoding: Encoding) -> str:
    """An encoding in a few words."""
    code = code_of(encoding)
    if isinstance(code, Uniform):
        low, high = code.range
        text = f"{code.bits}-bit [{low:.4g}, {high:.4g}]"
        text += "" if code.scales == "flash" else f", scale in {code.scales}"
    elif isinstance(code, Guarded):
        text = f"float32, exponent at most {code.exponent}"
    elif isinstance(code, Clamped):
        text = f"float32 within [{code.low:.4g}, {code.high:.4g}]"
    else:
        text = "1 bit" if isinstance(code, Binary) else type(code).__name__.lower()
    return f"{text}, {encoding.by.name}" if isinstance(encoding, Protected) else text


def code_of(encoding: Encoding) -> Encoding:
    """What the codes stand for, however they are stored."""
    return encoding.code if isinstance(encoding, Protected) else encoding


def scales_bits(encoding: Encoding) -> int:
    """Bits of scale and zero point in front of the codes."""
    code = code_of(encoding)
    return {"flash": 0, "ram": 64, "tmr": 192}[code.scales] if isinstance(code, Uniform) else 0


def is_redundant(encoding: Encoding) -> bool:
    """Whether bits are stored that correct others."""
    return isinstance(encoding, Protected) or scales_bits(encoding) == 192


def cell_bits(encoding: Encoding) -> int:
    """Stored bits from the first one of a code to the first one of the next, within a row."""
    return encoding.by.cell(encoding.bits) if isinstance(encoding, Protected) else encoding.bits


def stored_bits(encoding: Encoding, count: int) -> int:
    """How many bits `count` elements take: row padding, redundancy and scales in memory included."""
    if encoding.row:
        return -(-count // encoding.row) * row_bits(encoding)
    codes = encoding.by.stored(encoding.bits, count) if isinstance(encoding, Protected) else count * encoding.bits
    return scales_bits(encoding) + codes


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
    stored = encoding.by.protect(bits) if isinstance(encoding, Protected) else bits.reshape(-1)
    return _scales_in_memory(encoding) + np.packbits(stored, bitorder="little").tobytes()


def unpack(data: bytes | memoryview, encoding: Encoding, count: int) -> CodeArray:
    """The `count` codes packed in `data` (row padding is skipped, cells are corrected); the reverse of `pack`."""
    per_code, _ = _code_bits(data, encoding, count)
    weights = np.uint32(1) << np.arange(encoding.bits, dtype=np.uint32)
    codes: CodeArray = (per_code.astype(np.uint32) * weights).sum(axis=1, dtype=np.uint32)
    return codes


def read_values(data: bytes | memoryview, encoding: Encoding, count: int) -> FloatArray:
    """What the stored bytes of `count` elements stand for, scale and zero point being those stored, if they are."""
    codes, code = unpack(data, encoding, count), code_of(encoding)
    if not isinstance(code, Uniform) or code.scales == "flash":
        return encoding.decode(codes)
    (scale, zero_point), _ = _read_scales(data, encoding)
    return _uniform(codes, scale, zero_point)


def health(data: bytes | memoryview, encoding: Encoding, count: int) -> Health:
    """How the stored bytes of `count` elements fare: cells put right, and cells known to be beyond repair."""
    return _code_bits(data, encoding, count)[1] + _read_scales(data, encoding)[1]


def _code_bits(data: bytes | memoryview, encoding: Encoding, count: int) -> tuple[Bits, Health]:
    """The bits of each code (count, bits), least significant first."""
    bits = stored_bits(encoding, count)
    if len(data) < -(-bits // 8):
        raise ValueError(f"{count} codes of {encoding.bits} bits need {-(-bits // 8)} bytes, not {len(data)}")
    stored = np.unpackbits(np.frombuffer(data, np.uint8), count=bits, bitorder="little")[scales_bits(encoding) :]
    if isinstance(encoding, Protected):
        return encoding.by.correct(stored, encoding.bits, count)
    if encoding.row:
        stored = stored.reshape(-1, row_bits(encoding))[:, : encoding.row * encoding.bits]
    return stored.reshape(count, encoding.bits), Health()


def _scales_in_memory(encoding: Encoding) -> bytes:
    code = code_of(encoding)
    if not isinstance(code, Uniform):
        return b""
    once = np.array(code.scale, "<f4").tobytes() + np.array(code.zero_point, "<i4").tobytes()
    return once * {"flash": 0, "ram": 1, "tmr": 3}[code.scales]


def _read_scales(data: bytes | memoryview, encoding: Encoding) -> tuple[tuple[np.float32, int], Health]:
    """Scale and zero point as stored, and whether a vote was needed; whatever, where none are stored."""
    copies = scales_bits(encoding) // 64
    words = np.frombuffer(data, "<u4", 2 * copies).reshape(copies, 2)
    if copies == 3:
        a, b, c = words
        voted = (a & b) | (a & c) | (b & c)
        return _scale_of(voted), Health(int((words != voted).any()))
    return (_scale_of(words[0]) if copies else (np.float32(1), 0)), Health()


def _scale_of(words: CodeArray) -> tuple[np.float32, int]:
    return words[:1].view("<f4")[0], int(words[1:].view("<i4")[0])


def _uniform(codes: CodeArray, scale: np.float32, zero_point: int) -> FloatArray:
    """`scale * (q - zero_point)`, the difference in 32 bits of two's complement, the product rounded to float32."""
    steps = (np.asarray(codes, np.int64) - zero_point).astype(np.uint32).view(np.int32).astype(np.float32)
    with np.errstate(all="ignore"):
        values: FloatArray = scale * steps
    return values
