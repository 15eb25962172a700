"""What the hardware finds in flash when it starts: vector table and memory map of every Cortex-M board."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

from zobnn_edge.boards import Board, Memory, boards, firmware_folder, tomllib
from zobnn_edge.elf import ARCHITECTURES
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model

CORTEX_M = [name for name, board in boards().items() if board.toolchain == "arm-none-eabi"]
SYSTEM_VECTORS = 16


class Firmware:
    """The ELF file of a board."""

    def __init__(self, name: str, model: Model) -> None:
        self.board: Board = boards()[name]
        self.elf = ELFFile(io.BytesIO(built(model, name).read_bytes()))
        symbols = list(self.elf.get_section_by_name(".symtab").iter_symbols())
        self.symbols = {s.name: s["st_value"] for s in symbols}
        self.sizes = {s.name: s["st_size"] for s in symbols}
        self.segments = [s for s in self.elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"]]

    def flash(self, address: int, count: int) -> bytes:
        """Bytes as they lie in flash."""
        for segment in self.segments:
            offset = address - segment["p_paddr"]
            if offset >= 0 and offset + count <= segment["p_filesz"]:
                return bytes(segment.data()[offset : offset + count])
        raise AssertionError(f"nothing in flash at {address:#x}")

    def vectors(self) -> tuple[int, ...]:
        """The vector table: system exceptions and interrupts."""
        count = self.sizes["vectors"]
        return struct.unpack(f"<{count // 4}I", self.flash(self.symbols["vectors"], count))


def inside(memory: Memory, address: int, count: int = 1) -> bool:
    return memory.origin <= address and address + count <= memory.origin + memory.bytes


@pytest.fixture(params=CORTEX_M)
def firmware(request: pytest.FixtureRequest, model: Model) -> Firmware:
    return Firmware(request.param, model)


def test_the_core_finds_a_stack_in_ram_and_the_reset_handler_in_flash(firmware: Firmware) -> None:
    stack, reset, *_ = firmware.vectors()
    assert inside(firmware.board.ram, stack - firmware.board.stack_bytes, firmware.board.stack_bytes)
    assert stack % 8 == 0
    assert inside(firmware.board.flash, reset)
    assert reset & 1, "Thumb"
    assert reset == firmware.symbols["reset_handler"] == firmware.elf["e_entry"]


def test_every_vector_leads_to_its_handler_in_flash(firmware: Firmware) -> None:
    vectors, symbols = firmware.vectors(), firmware.symbols
    uart = tomllib.loads((firmware_folder() / "boards" / firmware.board.name / "board.toml").read_text())["uart"]
    assert len(vectors) > SYSTEM_VECTORS + uart["uart_irq"]
    assert all(inside(firmware.board.flash, handler) and handler & 1 for handler in vectors[1:])
    assert set(vectors[2:15]) == {symbols["fault_handler"]}
    assert vectors[15] == symbols["counter_interrupt"]
    assert set(vectors[SYSTEM_VECTORS:]) == {symbols["uart_interrupt"]}


def test_the_vector_table_lies_where_the_core_looks_for_it(firmware: Firmware) -> None:
    """At the start of flash, behind a boot stage if there is one; aligned as VTOR needs it."""
    vectors = firmware.symbols["vectors"]
    boot = 256 if firmware.board.part == "RP2040" else 0
    assert vectors == firmware.board.flash.origin + boot
    size = 4 * (SYSTEM_VECTORS + 32) if firmware.board.core in ("cortex-m0", "cortex-m0plus") else 1024
    assert vectors % (1 << (size - 1).bit_length()) == 0


def test_everything_that_is_loaded_lies_in_flash_and_everything_that_runs_in_the_boards_memory(
    firmware: Firmware,
) -> None:
    flash, ram = firmware.board.flash, firmware.board.ram
    used: list[tuple[int, int]] = []
    for segment in firmware.segments:
        if segment["p_filesz"]:
            assert inside(flash, segment["p_paddr"], segment["p_filesz"])
            used.append((segment["p_paddr"], segment["p_paddr"] + segment["p_filesz"]))
        memory = ram if segment["p_flags"] & 2 else flash
        assert inside(memory, segment["p_vaddr"], segment["p_memsz"])
    assert all(end <= begin for (_, end), (begin, _) in zip(sorted(used), sorted(used)[1:], strict=False))


def test_the_code_is_for_the_boards_core(firmware: Firmware) -> None:
    section = firmware.elf.get_section_by_name(".ARM.attributes")
    tags = {a.tag: a.value for part in section.subsections for sub in part.subsubsections for a in sub.attributes}
    assert tags["TAG_CPU_ARCH"] == ARCHITECTURES[firmware.board.core]
    assert tags["TAG_CPU_ARCH_PROFILE"] == ord("M")


def crc32_of_the_boot_rom(data: bytes) -> int:
    """RP2040's: polynomial 0x04C11DB7, most significant bit first, initial value 0xFFFFFFFF, no final inversion."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 ^ (0x04C11DB7 if crc & 1 << 31 else 0)
            crc &= 0xFFFFFFFF
    return crc


def test_the_boot_roms_checksum_is_the_published_one() -> None:
    """CRC-32/MPEG-2 in the catalogue of parametrised CRC algorithms."""
    assert crc32_of_the_boot_rom(b"123456789") == 0x0376E6E7


def test_the_boot_rom_of_rp2040_accepts_the_second_stage(model: Model) -> None:
    firmware = Firmware("pico", model)
    stage = firmware.flash(firmware.board.flash.origin, 256)
    assert struct.unpack("<I", stage[252:])[0] == crc32_of_the_boot_rom(stage[:252])
