"""The fault space: which stored bits may be hit, and their numbering (docs/spec.md, "Faults").

That is the parameter image, unless another memory is chosen by name: there a bit address counts bits from the start of
that memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.encoding import Binary, cell_bits, row_bits
from zobnn_edge.errors import InputError
from zobnn_edge.image import ParameterImage, Region
from zobnn_edge.layout import lay_out

if TYPE_CHECKING:
    from zobnn_edge.model_file import Model

Addresses = NDArray[np.int64]
MEMORIES = {
    "parameters": "the parameter image",
    "arena": "the activations, in the middle of an inference",
    "plan": "the plan, which is then kept in RAM: what the engine does, and where",
    "sram": "all of a board's SRAM, with stack, link buffers and injector",
}
"""What faults can be in, by name. All but the first reach beyond what a hardened network protects."""


@dataclass(frozen=True)
class Part:
    """The first `size` bits of a region that lie at `first + period * i + offset`, in ascending order."""

    region: Region
    first: int
    period: int
    offsets: tuple[int, ...]
    size: int

    def addresses(self, positions: Addresses) -> Addresses:
        """The bit addresses of some of its bits, counted from 0."""
        i, at = np.divmod(positions, len(self.offsets))
        out: Addresses = self.first + self.period * i + np.asarray(self.offsets, np.int64)[at]
        return out

    def contains(self, addresses: Addresses) -> NDArray[np.bool_]:
        """Which addresses are among its bits."""
        i, offset = np.divmod(addresses - self.first, self.period)
        position = i * len(self.offsets) + np.searchsorted(self.offsets, offset)
        return np.isin(offset, self.offsets) & (position >= 0) & (position < self.size)


def _part(region: Region, bits: Collection[int] | None) -> Part:
    """All stored bits of a region, or those at some bit positions of its codes."""
    if bits is None:
        return Part(region, region.first_bit, 1, (0,), region.bits)
    encoding, cell = region.encoding, cell_bits(region.encoding)
    chosen = sorted(j for j in bits if 0 <= j < cell)
    if not encoding.row:
        return Part(region, region.first_code, cell, tuple(chosen), region.count * len(chosen))
    offsets = tuple(i * cell + j for i in range(encoding.row) for j in chosen)
    return _in_rows(region, offsets)


def _in_rows(region: Region, offsets: tuple[int, ...]) -> Part:
    """The bits at some places of every row."""
    period = row_bits(region.encoding)
    return Part(region, region.first_bit, period, offsets, region.bits // period * len(offsets))


def _rest(region: Region) -> list[Part]:
    """The bits of a region that belong to no element: what fills up rows, scales in memory, check bits of words."""
    encoding = region.encoding
    if encoding.row:
        offsets = tuple(range(encoding.row * encoding.bits, row_bits(encoding)))
        return [_in_rows(region, offsets)] if offsets else []
    codes = region.first_code + region.count * cell_bits(encoding)
    ends = [(region.first_bit, region.first_code), (codes, region.first_bit + region.bits)]
    return [Part(region, first, 1, (0,), end - first) for first, end in ends if end > first]


@dataclass(frozen=True)
class Filter:
    """A choice of stored bits; None chooses everything. Written into a journal's header as it is.

    Types are binary, L (real weights) and S (all other reals); bit positions are those of the code, 0 the lowest. With
    bit positions given, bits that fill up rows are left out.

    `memory` is one of MEMORIES; in another than the parameters these choices make no sense. Faults come before each
    inference or, by `at`, in the middle of it: when the operation of that name (or index) begins. `sram_bytes` is the
    size of the board's SRAM.
    """

    parameters: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    bits: tuple[int, ...] | None = None
    memory: str = "parameters"
    at: str | None = None
    sram_bytes: int | None = None

    def within(self, model: Model) -> FaultSpace:
        """The bits chosen; raises InputError for a name that there is not, or when nothing is left."""
        self.operation(model)
        if self.memory == "parameters":
            return self.of(model.image)
        if self.memory not in MEMORIES:
            raise InputError(f"there is no fault space {self.memory}; use {', '.join(MEMORIES)}")
        if any((self.parameters, self.types, self.layers, self.roles, self.bits)):
            raise InputError(f"a choice of parameters makes no sense of faults in {self.memory}")
        if self.memory == "arena" and self.at is None:
            raise InputError("an inference writes the arena before it reads it; say when faults come, by --at OP")
        if self.memory in ("plan", "sram") and self.at is not None:
            raise InputError(f"faults in {self.memory} come before an inference; leave --at out")
        sizes = {"arena": model.arena_bytes, "plan": len(model.plan), "sram": self.sram_bytes}
        size = sizes[self.memory]
        if not size:
            raise InputError(f"nothing is known of the {self.memory} of the target; use a board")
        whole = Region(self.memory, self.memory, "memory", "binary", (8 * size,), Binary(), 0)
        return FaultSpace(ParameterImage((whole,), bytes(size)), (_part(whole, None),))

    def operation(self, model: Model) -> int | None:
        """The index of the operation that faults come before, of those that an inference can be stopped at: the one
        named, or the one it is fused with. None: they come before the inference. Raises InputError for no operation."""
        if self.at is None:
            return None
        groups = lay_out(model.network).groups
        first = 0
        for group in groups:
            if any(op.name == self.at for op in group) or str(first) == self.at:
                return first
            first += len(group)
        known = ", ".join(op.name for group in groups for op in group)
        raise InputError(f"there is no operation {self.at}; there are {known}")

    def of(self, image: ParameterImage) -> FaultSpace:
        """The bits of a parameter image chosen; raises as `within` does."""
        wanted = (
            ("parameter", self.parameters, [r.name for r in image.regions]),
            ("type", self.types, [r.type for r in image.regions]),
            ("layer", self.layers, [r.layer for r in image.regions]),
            ("role", self.roles, [r.role for r in image.regions]),
        )
        keep = [True] * len(image.regions)
        for what, names, have in wanted:
            for name in names or ():
                if name not in have:
                    known = ", ".join(dict.fromkeys(have))
                    raise InputError(f"there is no {what} {name}; there are {known}")
            keep = [k and (names is None or h in names) for k, h in zip(keep, have, strict=True)]
        parts = [_part(r, self.bits) for r, k in zip(image.regions, keep, strict=True) if k]
        parts = [part for part in parts if part.size]
        if not parts:
            raise InputError("no stored bit is of the types, layers, roles and bit positions asked for, all at once")
        return FaultSpace(image, tuple(parts))


@dataclass(frozen=True)
class Stratum:
    """Bits alike: of one layer, one role and one bit position; position None stands for bits of no element."""

    layer: str
    role: str
    bit: int | None

    def __str__(self) -> str:
        return f"{self.layer}, {self.role}, " + ("other bits" if self.bit is None else f"bit {self.bit}")


@dataclass(frozen=True)
class FaultSpace:
    """Stored bits of an image, numbered from 0 in ascending order of their addresses."""

    image: ParameterImage
    parts: tuple[Part, ...]

    @property
    def memory(self) -> str:
        """The one of MEMORIES that it is in."""
        first = self.parts[0].region
        return first.name if first.role == "memory" else "parameters"

    @cached_property
    def _ends(self) -> Addresses:
        """The number of the first bit that lies behind each part."""
        return np.cumsum([part.size for part in self.parts], dtype=np.int64)

    @cached_property
    def size(self) -> int:
        """Number of bits."""
        return sum(part.size for part in self.parts)

    @cached_property
    def regions(self) -> list[str] | None:
        """The names of its regions if it is made of whole ones, else None."""
        whole = all(part.size == part.region.bits for part in self.parts)
        return [part.region.name for part in self.parts] if whole else None

    @cached_property
    def ranges(self) -> list[tuple[int, int]]:
        """(first bit, number of bits) of the regions it has bits of."""
        return [(part.region.first_bit, part.region.bits) for part in self.parts]

    def addresses(self, positions: Addresses) -> Addresses:
        """The bit addresses of some of its bits, by their numbers."""
        out = np.empty(len(positions), np.int64)
        at = np.searchsorted(self._ends, positions, side="right")
        for i in set(at.tolist()):
            part, here = self.parts[i], at == i
            out[here] = part.addresses(positions[here] - (self._ends[i] - part.size))
        return out

    def contains(self, addresses: Addresses) -> NDArray[np.bool_]:
        """Which addresses are among its bits."""
        hits = np.zeros(len(addresses), bool)
        for part in self.parts:
            hits |= part.contains(addresses)
        return hits

    def starts(self, length: int) -> FaultSpace:
        """Those of its bits from which `length` bits in a row lie in one region; raises InputError if there is none."""
        parts = []
        for part in self.parts:
            last = part.region.first_bit + part.region.bits - length
            i, offset = divmod(last - part.first, part.period)
            fit = i * len(part.offsets) + sum(o <= offset for o in part.offsets)
            if fit > 0:
                parts.append(replace(part, size=min(fit, part.size)))
        if not parts:
            raise InputError(f"no parameter of the fault space has {length} bits in a row")
        return replace(self, parts=tuple(parts))

    def strata(self) -> Iterator[tuple[Stratum, FaultSpace]]:
        """Its bits sorted by layer, role and bit position; every bit is in one stratum."""
        groups: dict[Stratum, list[Part]] = {}
        for part in self.parts:
            region = part.region
            whole = part.size == region.bits
            step = cell_bits(region.encoding)
            bits = range(step) if whole else sorted({offset % step for offset in part.offsets})
            for bit in bits:
                groups.setdefault(Stratum(region.layer, region.role, bit), []).append(_part(region, (bit,)))
            for rest in _rest(region) if whole else []:
                groups.setdefault(Stratum(region.layer, region.role, None), []).append(rest)
        for stratum, parts in groups.items():
            yield stratum, replace(self, parts=tuple(parts))


def stratum_of(image: ParameterImage, address: int) -> Stratum:
    """The stratum of one bit address."""
    at = image.locate(address)
    return Stratum(at.region.layer, at.region.role, at.bit)
