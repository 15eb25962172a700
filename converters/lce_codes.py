"""Where the codes of the parameters lie in an LCE flatbuffer, so that a bit of the parameter image flips there too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.flatbuffer import Span, metadata, read
from converters.lce_graph import CODE_BITS, NEGATED
from zobnn_edge.encoding import CodeArray
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.image import ParameterImage

_WIDTHS = {0: 32, 7: 16, 9: 8}


@dataclass(frozen=True)
class Stored:
    """A parameter as a file stores it.

    `offsets`: byte offsets of its copies (one, unless operators need it in different signs); `count`: elements, each of
    `width` bits of which the lowest `bits` are the code (in packed binary weights, the bits that fill up rows count);
    `negated`: some output channels have the opposite sign, as batch norm with a negative scale was folded behind them.
    """

    name: str
    offsets: tuple[int, ...]
    count: int
    width: int
    bits: int
    negated: bool

    @property
    def inverted(self) -> bool:
        """True where the top bit of each code is stored inverted (the code minus half its range)."""
        return self.bits == self.width and self.bits in (8, 16)


def parameter_offsets(blob: bytes) -> dict[str, Stored]:
    """Every parameter whose codes lie in the file, by name. Raises ModelError when the file is not one of `write`'s."""
    model = read(blob)
    try:
        return _parameters(blob, model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A table or an index that is missing, or points nowhere.
        raise ModelError(f"a damaged TFLite flatbuffer: {error}") from None


def _parameters(blob: bytes, model: dict[str, Any]) -> dict[str, Stored]:
    buffers = [buffer["data"] for buffer in model["buffers"]]
    code_bits = metadata(blob, model, CODE_BITS)
    if code_bits is None:
        raise ModelError(f"the flatbuffer has no metadata {CODE_BITS}; write it with zobnn-edge")
    stored: dict[str, Stored] = {}
    for tensor, bits in zip(model["subgraphs"][0]["tensors"], code_bits, strict=True):
        if bits:
            this = _stored(tensor["name"], buffers[tensor["buffer"]], bits, tensor["type"])
            stored[this.name] = _joined(stored[this.name], this) if this.name in stored else this
    return stored


def _stored(name: str, data: Span, bits: int, type: int) -> Stored:
    negated, bits = bool(bits & NEGATED), bits & ~NEGATED
    width = 1 if bits == 1 else _WIDTHS[type]
    return Stored(name, (data.offset,), 8 * data.size // width, width, bits, negated)


def _joined(a: Stored, b: Stored) -> Stored:
    offsets = tuple(dict.fromkeys(a.offsets + b.offsets))
    return Stored(a.name, offsets, a.count, a.width, a.bits, a.negated or b.negated)


def read_codes(blob: bytes, name: str) -> CodeArray:
    """The codes of a parameter in the order of its elements, bits that fill up rows included.

    Raises InputError when the file does not hold it, or holds it with some channels negated.
    """
    stored = _find(parameter_offsets(blob), name)
    if stored.negated:
        raise InputError(f"{name} is stored with the channels negated whose batch norm has a negative scale")
    data = np.frombuffer(blob, np.uint8, -(-stored.count * stored.width // 8), stored.offsets[0])
    if stored.width == 1:
        return np.unpackbits(data, bitorder="little").astype(np.uint32)
    codes = data.view(f"<u{stored.width // 8}").astype(np.uint32)
    return codes ^ np.uint32(1 << (stored.bits - 1)) if stored.inverted else codes


def flip(blob: bytes, image: ParameterImage, addresses: Iterable[int]) -> bytes:
    """The file with the same bits inverted that `image.flipped(addresses)` inverts in the image of its network.

    Raises InputError naming the first bit that the file does not hold.
    """
    stored, data = parameter_offsets(blob), bytearray(blob)
    for address in addresses:
        for bit in _counterparts(stored, image, address):
            data[bit // 8] ^= 1 << (bit % 8)
    return bytes(data)


def _counterparts(stored: dict[str, Stored], image: ParameterImage, address: int) -> list[int]:
    """The bits of the file (counted from its start) that one bit of the image stands for."""
    location = image.locate(address)
    region = location.region
    here = _find(stored, region.name)
    elements = region.bits if here.width == 1 else region.count
    if here.bits != region.encoding.bits or not elements <= here.count < elements + 32:
        raise InputError(f"{region.name}: the flatbuffer is of another network than the image")
    if location.index is None and here.negated:
        raise InputError(f"{location}: no counterpart in the flatbuffer, where some channels of it are negated")
    if here.width == 1:
        within = address - region.first_bit
    else:
        element, bit = divmod(address - region.first_bit, region.encoding.bits)
        within = element * here.width + bit
    return [8 * offset + within for offset in here.offsets]


def _find(stored: dict[str, Stored], name: str) -> Stored:
    if name not in stored:
        raise InputError(f"{name} is not in the flatbuffer: it was folded into LCE's own thresholds; harden it first")
    return stored[name]
