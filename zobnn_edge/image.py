"""ParameterImage: the bytes that lie in memory, and the map of them. The fault space is this image.

The same bytes lie in the C header, in the board's SRAM and in the host engine. A *bit address* counts bits from the
start of the image, least significant bit of byte 0 first (docs/spec.md, "Parameter image").
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from zobnn_edge.encoding import (
    Encoding,
    FloatArray,
    cell_bits,
    health,
    is_redundant,
    pack,
    read_values,
    row_bits,
    scales_bits,
    stored_bits,
)
from zobnn_edge.errors import InputError
from zobnn_edge.network import Network
from zobnn_edge.protection import Health
from zobnn_edge.tensor import Parameter

REGION_ALIGN = 4


@dataclass(frozen=True)
class Region:
    """Where one parameter lies: byte `offset` in the image, `count` codes, in the shape and encoding given."""

    name: str
    layer: str
    role: str
    type: str
    shape: tuple[int, ...]
    encoding: Encoding
    offset: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Number of stored bits: those that fill up rows, redundant ones and scales in memory included."""
        return stored_bits(self.encoding, self.count)

    @property
    def code_bits(self) -> int:
        """The same without those that fill up rows."""
        return self.count * self.encoding.bits if self.encoding.row else self.bits

    @property
    def bytes(self) -> int:
        """Number of bytes it takes."""
        return -(-self.bits // 8)

    @property
    def first_bit(self) -> int:
        """Bit address of its first bit."""
        return 8 * self.offset

    @property
    def first_code(self) -> int:
        """Bit address of the first bit of its first code."""
        return self.first_bit + scales_bits(self.encoding)


@dataclass(frozen=True)
class Location:
    """What a bit address stands for: bit `bit` of the cell of element `index`, which begins with its code.

    Both are None for a bit of no element: one that fills a row, of a scale, or a check bit of a word.
    """

    region: Region
    index: tuple[int, ...] | None
    bit: int | None

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.region.name}, " + ("row padding" if self.region.encoding.row else "scale or check bits")
        return f"{self.region.name}[{', '.join(map(str, self.index))}], bit {self.bit}"


@dataclass(frozen=True)
class ParameterImage:
    """The bytes of all parameters and the table of their regions, in ascending order of address."""

    regions: tuple[Region, ...]
    data: bytes

    @staticmethod
    def of(net: Network) -> ParameterImage:
        """The image of a network's parameters, in the order the network lists them."""
        regions, chunks, offset = [], [], 0
        for p in net.parameters.values():
            region = Region(p.name, p.layer, p.role, p.type, p.shape, p.encoding, offset)
            raw = pack(p.encoding.encode(p.values), p.encoding)
            padded = raw + bytes(-len(raw) % REGION_ALIGN)
            regions.append(region)
            chunks.append(padded)
            offset += len(padded)
        return ParameterImage(tuple(regions), b"".join(chunks))

    @property
    def crc(self) -> int:
        """CRC-32 of the bytes; equal on both ends of a link when the images are."""
        return zlib.crc32(self.data)

    @property
    def bits(self) -> int:
        """Size of the fault space: all bits of all regions."""
        return sum(region.bits for region in self.regions)

    def region(self, name: str) -> Region:
        """The region of a parameter; raises InputError when there is none of that name."""
        for region in self.regions:
            if region.name == name:
                return region
        raise InputError(f"there is no parameter {name}; `zobnn show` lists them")

    def locate(self, address: int) -> Location:
        """What a bit address stands for; raises InputError when it belongs to no parameter."""
        at = bisect_right([r.first_bit for r in self.regions], address) - 1
        if at < 0 or address - self.regions[at].first_bit >= self.regions[at].bits:
            raise InputError(f"bit {address} belongs to no parameter (the image has {8 * len(self.data)} bits)")
        region = self.regions[at]
        within, cell = address - region.first_code, cell_bits(region.encoding)
        first = 0
        if region.encoding.row:
            row, within = divmod(within, row_bits(region.encoding))
            first = row * region.encoding.row
        element, bit = divmod(within, cell)
        if not 0 <= element < (region.encoding.row or region.count):
            return Location(region, None, None)
        element += first
        return Location(region, tuple(int(i) for i in np.unravel_index(element, region.shape)), bit)

    def address(self, name: str, index: tuple[int, ...], bit: int) -> int:
        """The bit address of bit `bit` of the code of element `index`; the reverse of `locate`."""
        region = self.region(name)
        try:
            element = int(np.ravel_multi_index(index, region.shape))
        except ValueError:
            raise InputError(f"{name} of shape {region.shape} has no element {list(index)}") from None
        cell = cell_bits(region.encoding)
        if not 0 <= bit < cell:
            raise InputError(f"the codes of {name} have {cell} bits, there is no bit {bit}")
        if region.encoding.row:
            row, within = divmod(element, region.encoding.row)
            return region.first_bit + row * row_bits(region.encoding) + within * cell + bit
        return region.first_code + element * cell + bit

    def flipped(self, addresses: Iterable[int]) -> ParameterImage:
        """The image with bits inverted (an address given twice is inverted twice)."""
        data = bytearray(self.data)
        for address in addresses:
            self.locate(address)
            data[address // 8] ^= 1 << (address % 8)
        return replace(self, data=bytes(data))

    def raw(self, name: str) -> bytes:
        """The bytes of one parameter."""
        region = self.region(name)
        return self.data[region.offset : region.offset + region.bytes]

    def values(self, name: str) -> FloatArray:
        """The values that the bytes of one parameter stand for, in its shape."""
        region = self.region(name)
        return read_values(self.raw(name), region.encoding, region.count).reshape(region.shape)

    @property
    def has_redundancy(self) -> bool:
        """Whether any bit is redundant, so that `health` can be other than sound."""
        return any(is_redundant(r.encoding) for r in self.regions)

    @property
    def health(self) -> Health:
        """Cells that are put right as they are read, and cells known to be beyond repair."""
        found = (health(self.raw(r.name), r.encoding, r.count) for r in self.regions)
        return sum(found, Health())

    def parameter(self, name: str) -> Parameter:
        """One parameter, read back from the bytes."""
        r = self.region(name)
        return Parameter(r.name, r.layer, r.role, self.values(name), r.encoding)  # type: ignore[arg-type]

    def ranges(self, names: Iterable[str] | None = None) -> list[tuple[int, int]]:
        """(first bit, number of bits) of the regions named, or of all."""
        wanted = self.regions if names is None else tuple(self.region(n) for n in names)
        return [(r.first_bit, r.bits) for r in wanted]
