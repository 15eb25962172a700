"""Reading a firmware's ELF file, and whether it is for a board: its name, its core and its memories."""

from __future__ import annotations

import io
import platform
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection, SymbolTableSection

from zobnn_edge.boards import Board, Memory
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes

DAMAGED = (
    *(ELFError, DWARFError, ConstructError, NotImplementedError),
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError),
)
"""What pyelftools raises for a damaged file."""
ARCHITECTURES = {
    "cortex-m0": 12,
    "cortex-m0plus": 12,
    "cortex-m3": 10,
    "cortex-m4": 13,
    "cortex-m7": 13,
    "cortex-m33": 17,
    "cortex-m55": 21,
}
"""Tag_CPU_arch in the ABI of Arm: v6S-M, v7-M, v7E-M, v8-M mainline, v8.1-M mainline."""

_NAME = ".zobnn.board"  # firmware/agent/main.c
_MACHINES = {"arm-none-eabi": "ARM", "native": {"x86_64": "x64", "aarch64": "AArch64"}.get(platform.machine(), "?")}


@dataclass(frozen=True)
class Segment:
    """Bytes that are loaded: where they lie in flash, and where the code finds `size` bytes."""

    flash_address: int
    address: int
    size: int
    writable: bool
    data: bytes


@dataclass(frozen=True)
class FirmwareFile:
    """A firmware: `board` is the name of the board it was built for and `image_crc` the CRC-32 of the image in it, both
    None if it is not this project's; `architecture` is Tag_CPU_arch, None unless it is for Arm."""

    path: Path
    machine: str
    architecture: int | None
    board: str | None
    image_crc: int | None
    segments: tuple[Segment, ...]

    @staticmethod
    def read(path: Path) -> FirmwareFile:
        """Read an ELF file; raises InputError when it is missing, none, or nothing in it is loaded."""
        data = read_bytes(path)
        try:
            elf = ELFFile(io.BytesIO(data))
            segments = tuple(_segments(elf))
            architecture = arm_attributes(elf).get("TAG_CPU_ARCH")
            found = FirmwareFile(path, elf.get_machine_arch(), architecture, board_name(elf), _image_crc(elf), segments)
        except DAMAGED as error:
            raise InputError(f"{path}: not a firmware: no usable ELF file ({error})") from None
        if not segments:
            raise InputError(f"{path}: not a firmware: nothing in it is loaded; give what zobnn build wrote")
        return found

    def check(self, board: Board) -> None:
        """Raise InputError with one line when this firmware is another board's or does not fit this one."""
        if self.board not in (None, board.name):
            way_out = f"zobnn build --board {board.name} makes one"
            raise InputError(f"{self.path}: firmware for {self.board}, not for {board.name}; {way_out}")
        machine = _MACHINES[board.toolchain]
        if self.machine != machine:
            raise InputError(f"{self.path}: code for {self.machine}; {board.name} runs code for {machine}")
        if board.toolchain == "native":
            return
        expected = ARCHITECTURES.get(board.core)
        if expected is not None and self.architecture != expected:
            raise InputError(f"{self.path}: not code for the {board.core} of {board.name}; build it for this board")
        for segment in self.segments:
            self._check_segment(segment, board)

    def _check_segment(self, segment: Segment, board: Board) -> None:
        places = []
        if segment.data:
            places.append(("flash", board.flash, segment.flash_address, len(segment.data)))
        if segment.writable:
            places.append(("RAM", board.ram, segment.address, segment.size))
        for name, memory, address, size in places:
            if not _inside(memory, address, size):
                raise InputError(
                    f"{self.path}: {size} bytes at 0x{address:08X} lie outside the {name} of {board.name} "
                    f"(0x{memory.origin:08X}, {memory.bytes} bytes)"
                )

    def binary(self) -> tuple[int, bytes]:
        """(address, bytes) of what is written to flash, as one stretch: bytes between segments are 0xFF, as erased."""
        parts = [s for s in self.segments if s.data]
        start = min(s.flash_address for s in parts)
        image = bytearray(b"\xff" * (max(s.flash_address + len(s.data) for s in parts) - start))
        for s in parts:
            image[s.flash_address - start : s.flash_address - start + len(s.data)] = s.data
        return start, bytes(image)


def _inside(memory: Memory, address: int, size: int) -> bool:
    return memory.origin <= address and address + size <= memory.origin + memory.bytes


def _segments(elf: ELFFile) -> list[Segment]:
    loaded = (s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"])
    return [Segment(s["p_paddr"], s["p_vaddr"], s["p_memsz"], bool(s["p_flags"] & 2), s.data()) for s in loaded]


def board_name(elf: ELFFile) -> str | None:
    """The board that a firmware was built for; None if it is not this project's."""
    section = elf.get_section_by_name(_NAME)
    return section.data().rstrip(b"\0").decode() if section is not None else None


def arm_attributes(elf: ELFFile) -> dict[str, Any]:
    """Build attributes of the ABI of Arm, such as TAG_CPU_ARCH; none where the file has none."""
    section = elf.get_section_by_name(".ARM.attributes")
    if not isinstance(section, ARMAttributesSection):
        return {}
    parts = (sub for part in section.subsections for sub in part.subsubsections)
    return {a.tag: a.value for sub in parts for a in sub.attributes}


def _image_crc(elf: ELFFile) -> int | None:
    """CRC-32 of the image as it lies in flash: what the firmware says of itself in HELLO."""
    table = elf.get_section_by_name(".symtab")
    symbols = table.get_symbol_by_name("model_image") if isinstance(table, SymbolTableSection) else None
    if not symbols:
        return None
    section = elf.get_section(symbols[0]["st_shndx"])
    start = symbols[0]["st_value"] - section["sh_addr"]
    return zlib.crc32(section.data()[start : start + symbols[0]["st_size"]])
