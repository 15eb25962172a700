"""An ELF file for Arm taken apart: every byte that its loaded segments occupy belongs to exactly one part.

A part is a symbol, or what lies between symbols: bytes of an object file that have no name, or padding. Symbols are
what the linker wrote; object files come from its map, source files from the debug information. Each may be missing,
and then so is that column.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from elftools.dwarf.descriptions import describe_form_class
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from zobnn_edge.audit.linkmap import EMPTY, LinkMap
from zobnn_edge.boards import Memory
from zobnn_edge.elf import DAMAGED, arm_attributes, board_name
from zobnn_edge.errors import InputError

PADDING = "(padding)"
UNNAMED = "(unnamed)"
_WORD = 4
"""A hole of fewer bytes inside an input section is padding behind a function."""
_LARGEST_ALIGNMENT = 8
"""Without a map, a hole between symbols of fewer bytes is taken for padding."""


@dataclass(frozen=True)
class Symbol:
    """A function or object: `address` without the bit that marks Thumb code; `size` 0 where the file does not say."""

    name: str
    address: int
    size: int
    is_function: bool
    is_global: bool


@dataclass(frozen=True)
class Segment:
    """A loaded segment: where its bytes lie in flash (`load`), where they are used (`address`)."""

    address: int
    load: int
    file_bytes: int
    memory_bytes: int
    writable: bool


@dataclass(frozen=True)
class Section:
    """A section that takes memory; `data` is empty where the file holds nothing for it."""

    name: str
    address: int
    size: int
    executable: bool
    data: bytes


@dataclass(frozen=True)
class Part:
    """Bytes of one region that belong together. `address` is where they lie in that region."""

    region: str
    section: str
    symbol: str
    object: str
    source: str
    address: int
    bytes: int


@dataclass(frozen=True)
class Span:
    """What one segment takes of a region: `address` there, and the address at which the same bytes are used."""

    region: str
    address: int
    used_at: int
    bytes: int


class Elf:
    """The contents of an ELF file that matter for memory.

    `symbols` are functions and objects, `labels` the addresses of all names, those of the linker script among them;
    `data_marks` says where in the code data begins and ends, ascending: (address, is data); `attributes` are those of
    the Arm ABI, such as TAG_CPU_ARCH_PROFILE; `board` is the name of the board that this project's firmware is for.
    """

    def __init__(self, data: bytes, where: str, link_map: LinkMap = EMPTY) -> None:
        """Raises InputError, naming `where`, for what is no ELF file, is not for Arm, is no program or is damaged."""
        self._map = link_map
        try:
            self._file = ELFFile(io.BytesIO(data))
        except DAMAGED as error:
            raise InputError(f"{where}: not an ELF file that can be read ({error}); is it complete?") from None
        if self._file["e_machine"] != "EM_ARM" or self._file.elfclass != 32 or not self._file.little_endian:
            machine = str(self._file["e_machine"]).removeprefix("EM_")
            raise InputError(f"{where}: for {machine}, not for a 32-bit little-endian Arm; give firmware of a Cortex-M")
        try:
            self.entry: int = self._file["e_entry"]
            self.segments = [_segment(s) for s in self._file.iter_segments() if _takes_memory(s)]
            self.sections = sorted(self._sections(), key=lambda s: s.address)
            self.labels = {s.name: int(s["st_value"]) for s in self._raw_symbols if s.name}
            self.data_marks = self._data_marks()
            self.attributes = arm_attributes(self._file)
            self.board = board_name(self._file)
            self.symbols = sorted(set(self._symbols()), key=lambda s: (s.address, -s.size, not s.is_global, s.name))
        except DAMAGED as error:
            raise InputError(f"{where}: damaged ELF file ({error}); is it complete?") from None
        if not self.segments:
            raise InputError(f"{where}: an ELF file without loaded segments; give a linked program, not an object file")
        for s in self._file.iter_segments():
            if s["p_offset"] + s["p_filesz"] > len(data):
                raise InputError(f"{where}: truncated: a segment ends at byte {s['p_offset'] + s['p_filesz']:,}")

    def _sections(self) -> Iterator[Section]:
        for s in self._file.iter_sections():
            if s["sh_flags"] & SH_FLAGS.SHF_ALLOC and s["sh_size"] and not s["sh_flags"] & SH_FLAGS.SHF_TLS:
                held = s["sh_type"] != "SHT_NOBITS"
                executable = bool(s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
                yield Section(s.name, s["sh_addr"], s["sh_size"], executable, s.data() if held else b"")

    def _symbols(self) -> Iterator[Symbol]:
        for s in self._raw_symbols:
            kind = s["st_info"]["type"]
            if kind in ("STT_FUNC", "STT_OBJECT") and isinstance(s["st_shndx"], int):
                function = kind == "STT_FUNC"
                address = s["st_value"] & ~1 if function else s["st_value"]
                yield Symbol(s.name, address, s["st_size"], function, s["st_info"]["bind"] != "STB_LOCAL")

    @cached_property
    def _raw_symbols(self) -> list[Any]:
        tables = (s for s in self._file.iter_sections() if isinstance(s, SymbolTableSection) and s.name == ".symtab")
        return [symbol for table in tables for symbol in table.iter_symbols()]

    def _data_marks(self) -> list[tuple[int, bool]]:
        loaded = {
            i for i, s in enumerate(self._file.iter_sections()) if s["sh_flags"] & SH_FLAGS.SHF_ALLOC
        }  # the sections of debug information have marks, too
        marks = (s for s in self._raw_symbols if s.name[:2] in ("$t", "$d") and s["st_shndx"] in loaded)
        # Of equal addresses the later one holds: data without a byte may end what lies before.
        return sorted(((s["st_value"], s.name[:2] == "$d") for s in marks), key=lambda mark: mark[0])

    def read(self, address: int, count: int) -> bytes | None:
        """Bytes as the program finds them; None where the file holds none."""
        for s in self.sections:
            if s.data and s.address <= address and address + count <= s.address + s.size:
                return s.data[address - s.address : address - s.address + count]
        return None

    def symbol(self, name: str) -> Symbol | None:
        """The symbol of that name."""
        return next((s for s in self.symbols if s.name == name), None)

    def region_of(self, address: int, regions: dict[str, Memory], writable: bool) -> str:
        """The region of an address: of the linker script, else what the segment looks like."""
        for name, memory in regions.items():
            if memory.origin <= address < memory.origin + memory.bytes:
                return name
        return "RAM" if writable else "FLASH"

    def spans(self, regions: dict[str, Memory]) -> list[Span]:
        """What the segments take: each its bytes in flash, and those in RAM where they are used elsewhere or grow."""
        spans = []
        for s in self.segments:
            apart = s.load != s.address
            if s.file_bytes and apart:
                spans.append(Span(self.region_of(s.load, regions, False), s.load, s.address, s.file_bytes))
            spans.append(
                Span(self.region_of(s.address, regions, s.writable or apart), s.address, s.address, s.memory_bytes)
            )
        return spans

    def parts(self, regions: dict[str, Memory]) -> list[Part]:
        """All parts; those of a span add up to its bytes."""
        found = []
        for span in self.spans(regions):
            shift = span.address - span.used_at
            for part in self._of_span(span.used_at, span.used_at + span.bytes):
                found.append(replace(part, region=span.region, address=part.address + shift))
        return found

    def _of_span(self, begin: int, end: int) -> Iterator[Part]:
        at = begin
        for s in self.sections:
            if s.address + s.size <= at or s.address >= end:
                continue
            if s.address > at:
                yield Part("", "", PADDING, "", "", at, s.address - at)
            stop = min(end, s.address + s.size)
            yield from self._of_section(s, max(at, s.address), stop)
            at = stop
        if at < end:
            yield Part("", "", PADDING, "", "", at, end - at)

    def _of_section(self, section: Section, begin: int, end: int) -> Iterator[Part]:
        at = begin
        for s in self._sized:
            start, stop = max(s.address, at), min(s.address + s.size, end)
            if start >= end:
                break
            if stop <= start:
                continue
            yield from self._between(section, at, start)
            yield self._part(section, s.name, start, stop)
            at = stop
        yield from self._between(section, at, end)

    @cached_property
    def _sized(self) -> list[Symbol]:
        """Symbols with sizes: a function without one, in assembly, reaches to the next."""
        starts = sorted({s.address for s in self.symbols})
        ends = [s.address + s.size for s in self.sections]
        sized = []
        for s in self.symbols:
            if s.size == 0 and s.is_function:
                following = [x for x in (*starts[bisect_right(starts, s.address) :][:1], *ends) if x > s.address]
                s = replace(s, size=min(following, default=s.address) - s.address)
            if s.size:
                sized.append(s)
        return sorted(sized, key=lambda s: (s.address, -s.size, not s.is_global, s.name))

    def _between(self, section: Section, begin: int, end: int) -> Iterator[Part]:
        """Parts of a hole between symbols, cut where the map's input sections begin and end."""
        while begin < end:
            held = self._map.at(begin)
            if held is not None:
                stop = min(end, held.address + held.bytes)
                yield self._part(section, PADDING if stop - begin < _WORD else UNNAMED, begin, stop)
            elif self._map.sections:
                i = bisect_right(self._map.sections, begin, key=lambda s: s.address)
                stop = min(end, self._map.sections[i].address) if i < len(self._map.sections) else end
                filled = section.data or stop - begin < _LARGEST_ALIGNMENT
                yield self._part(section, PADDING if filled else UNNAMED, begin, stop)
            else:
                stop = end
                yield self._part(section, PADDING if stop - begin < _LARGEST_ALIGNMENT else UNNAMED, begin, stop)
            begin = stop

    def _part(self, section: Section, symbol: str, begin: int, end: int) -> Part:
        held = self._map.at(begin)
        source = "" if symbol == PADDING else self._source(begin)
        return Part("", section.name, symbol, held.object if held else "", source, begin, end - begin)

    @property
    def functions(self) -> list[Symbol]:
        """Functions with their sizes, ascending; of several names for one address the first."""
        seen: dict[int, Symbol] = {}
        for s in self._sized:
            if s.is_function:
                seen.setdefault(s.address, s)
        return list(seen.values())

    def _source(self, address: int) -> str:
        i = bisect_right(self._sources, (address, 1 << 32, "")) - 1
        if i < 0:
            return ""
        begin, end, source = self._sources[i]
        return source if begin <= address < end else ""

    @cached_property
    def _sources(self) -> list[tuple[int, int, str]]:
        """(first address, end, source file) of what the debug information knows, ascending."""
        if not self._file.has_dwarf_info():
            return []
        try:
            return sorted(self._ranges())
        except DAMAGED:
            return []  # damaged debug information says nothing, and that is all it can do

    def _ranges(self) -> Iterator[tuple[int, int, str]]:
        dwarf = self._file.get_dwarf_info()
        names = {}
        for unit in dwarf.iter_CUs():
            top = unit.get_top_DIE()
            name = top.attributes.get("DW_AT_name")
            names[unit.cu_offset] = source = _path(name.value.decode()) if name else ""
            for die in top.iter_children():
                if die.tag == "DW_TAG_variable" and (address := _static_address(die)) is not None:
                    size = self._object_sizes.get(address, 1)
                    yield address, address + size, source
        aranges = dwarf.get_aranges()
        for entry in aranges.entries if aranges else ():
            if entry.length and (entry.begin_addr or not self.segments[0].address):
                yield entry.begin_addr, entry.begin_addr + entry.length, names.get(entry.info_offset, "")

    @cached_property
    def _object_sizes(self) -> dict[int, int]:
        return {s.address: s.size for s in self.symbols if not s.is_function}


def _takes_memory(segment: Any) -> bool:
    return bool(segment["p_type"] == "PT_LOAD" and segment["p_memsz"])


def _segment(s: Any) -> Segment:
    return Segment(s["p_vaddr"], s["p_paddr"], s["p_filesz"], s["p_memsz"], bool(s["p_flags"] & 2))


def _static_address(die: Any) -> int | None:
    """The address of a static variable: DW_OP_addr and nothing else."""
    location = die.attributes.get("DW_AT_location")
    if location is None or describe_form_class(location.form) not in ("exprloc", "block"):
        return None
    expression = bytes(location.value)
    return int.from_bytes(expression[1:], "little") if len(expression) == 5 and expression[0] == 3 else None


def _path(name: str) -> str:
    """A source file's name: relative as it is, without the steps up; of an absolute one the last two parts."""
    path = PurePosixPath(name)
    parts = path.parts[-2:] if path.is_absolute() else [part for part in path.parts if part != ".."]
    return "/".join(parts)
