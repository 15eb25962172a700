"""Every byte of a firmware belongs to one part, and the parts are those that the linker's own tools list."""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from tests.audit.checks import parts_are_the_segments, segments
from tests.audit.conftest import Compile
from zobnn_edge.audit.audit import Audit, Firmware, audit_firmware
from zobnn_edge.audit.elf import PADDING, UNNAMED
from zobnn_edge.audit.linkmap import parse
from zobnn_edge.boards import Memory, boards
from zobnn_edge.errors import InputError
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model

FOREIGN = """
#include <stdint.h>
static const char text[] = "constant, and long enough to be told from padding";
int table[7] = {1, 2, 3};
static uint8_t zeroed[100];
__attribute__((noinline)) static int twice(int x) { volatile int y[10]; y[0] = x; return 2 * y[0]; }
int _start(void) { zeroed[table[1]] = text[table[0]]; return twice(zeroed[3]); }
"""


def test_parts_are_the_loaded_segments_to_the_byte(firmware: Firmware, audited: Audit) -> None:
    assert parts_are_the_segments(firmware, audited) == audited.totals["flash"] + audited.totals["ram"]


def test_sections_agree_with_size(firmware: Firmware, audited: Audit) -> None:
    out = subprocess.run(["arm-none-eabi-size", "-A", firmware.path], capture_output=True, text=True, check=True).stdout
    listed = {m[1]: int(m[2]) for m in re.finditer(r"^(\.\S+)\s+(\d+)\s+\d+$", out, re.M)}
    sums = Counter[str]()
    for part in audited.parts:
        sums[part.section] += part.bytes
    assert {name: size for name, size in listed.items() if name in sums} == {n: s for n, s in sums.items() if n}
    left_out = {name for name, size in listed.items() if size and name not in sums}
    assert all(name.startswith((".debug", ".ARM.attributes", ".zobnn")) for name in left_out)


def test_symbols_agree_with_nm(firmware: Firmware) -> None:
    """All that nm gives a size, but for other names of the same bytes and names inside others."""
    out = subprocess.run(["arm-none-eabi-nm", "-S", firmware.path], capture_output=True, text=True, check=True).stdout
    listed = {(m[3], int(m[1], 16) & ~1): int(m[2], 16) for m in re.finditer(r"^(\w+) (\w+) \w (\S+)$", out, re.M)}
    ours = {(p.symbol, p.address): p.bytes for p in firmware.elf.parts(firmware.map.regions)}
    shared = listed.keys() & ours.keys()
    assert {key: listed[key] for key in shared} == {key: ours[key] for key in shared}
    inside = [(address, address + size) for (_, address), size in ours.items()]
    for (name, address), size in listed.items():
        if size and (name, address) not in ours:
            assert any(a <= address and address + size <= b for a, b in inside), f"{name} is in no part"
    assert len(shared) > 150


def test_symbols_agree_with_puncover(firmware: Firmware) -> None:
    """Where it is installed. It puts symbols of one address together, and its sizes are nm's."""
    collector = pytest.importorskip("puncover.collector").Collector(_puncover_tools())
    collector.parse_elf(firmware.path)
    theirs = {(s["name"], int(s["address"], 16) & ~1): s["size"] for s in collector.all_symbols() if s.get("size")}
    ours = {(p.symbol, p.address): p.bytes for p in firmware.elf.parts(firmware.map.regions)}
    shared = theirs.keys() & ours.keys()
    assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}
    assert len(shared) > 0.9 * len(theirs)
    named = sum(size for (name, _), size in ours.items() if name not in (PADDING, UNNAMED))
    assert sum(theirs[key] for key in shared) > 0.9 * named


def _puncover_tools() -> Any:
    nm = shutil.which("arm-none-eabi-nm")
    assert nm is not None
    return pytest.importorskip("puncover.gcc_tools").GCCTools(nm.removesuffix("nm"))


def test_every_part_of_code_has_an_object_and_nearly_every_one_a_source(an386: Audit) -> None:
    code = [p for p in an386.parts if p.section == ".text" and p.symbol not in (PADDING, UNNAMED)]
    assert all(p.object for p in code)
    without = sum(p.bytes for p in code if not p.source)
    assert without < 0.05 * sum(p.bytes for p in code)
    assert {"engine/zob_run.c", "agent/commands.c", "boards/common/startup.c"} <= {p.source for p in code}
    assert not any(p.source.startswith("/") for p in an386.parts)


def test_padding_is_little(audited: Audit) -> None:
    assert sum(p.bytes for p in audited.parts if p.role == "padding") < 300
    assert not [p for p in audited.parts if p.symbol == UNNAMED and p.role in ("static", "code")]


def test_a_firmware_names_its_board(firmware: Firmware, tmp_path: Path) -> None:
    """Alone, without its map: sizes of memory are the board's. Of another board it is refused."""
    audit = audit_firmware(firmware)
    alone = tmp_path / "alone.elf"
    alone.write_bytes(firmware.path.read_bytes())
    bare = audit_firmware(Firmware.read(alone))
    assert bare.board == audit.board == firmware.elf.board
    assert {r.name: (r.capacity, r.used) for r in bare.regions} == {r.name: (r.capacity, r.used) for r in audit.regions}
    assert bare.fits
    assert not any("sizes of regions" in note for note in bare.notes)
    other = boards()["pico" if audit.board != "pico" else "microbit"]
    with pytest.raises(InputError, match=f"firmware for {audit.board}, not for {other.name}"):
        audit_firmware(firmware, other)


def test_a_firmware_of_an_unknown_board_is_audited_without_sizes(an386: Audit, model: Model, tmp_path: Path) -> None:
    """A board folder that is not at hand; its name is said all the same."""
    path = tmp_path / "fw.elf"
    path.write_bytes(built(model, "mps2-an386").read_bytes().replace(b"mps2-an386\0", b"their-own1\0"))
    audit = audit_firmware(Firmware.read(path))
    assert audit.board == "their-own1"
    assert {r.used for r in audit.regions} == {r.used for r in an386.regions}
    assert audit.fits is not False


def test_a_program_without_a_map_has_regions_by_what_its_segments_are(compile_c: Compile) -> None:
    firmware = Firmware.read(compile_c(FOREIGN, "-g"))
    audit = audit_firmware(firmware)
    assert sum(p.bytes for p in audit.parts) == sum(size for _, _, _, size in segments(firmware))
    parts = {p.symbol: p for p in audit.parts}
    assert (parts["table"].region, parts["table"].bytes) == ("RAM", 28)
    assert (parts["zeroed"].region, parts["zeroed"].bytes) == ("RAM", 100)
    assert (parts["text"].region, parts["text"].role) == ("FLASH", "constants")
    assert all(parts[name].source.endswith("program.c") for name in ("table", "zeroed", "twice", "_start"))
    assert {r.name: r.capacity for r in audit.regions} == {"FLASH": None, "RAM": None}
    assert audit.fits is None
    assert audit.contents is None
    assert any("no map" in note for note in audit.notes)


def test_with_a_map_objects_and_regions_are_known(compile_c: Compile) -> None:
    path = compile_c(FOREIGN, "-Wl,-Map=foreign.map")
    audit = audit_firmware(Firmware.read(path))
    assert {p.object for p in audit.parts if p.symbol == "twice"} != {""}
    assert all(not p.source for p in audit.parts), "no debug information, no sources"


def test_a_stripped_program_has_whole_sections(compile_c: Compile) -> None:
    whole, stripped = compile_c(FOREIGN, name="whole.elf"), compile_c(FOREIGN, "-s")
    a, b = (audit_firmware(Firmware.read(path)) for path in (whole, stripped))
    assert {r.name: r.used for r in a.regions} == {r.name: r.used for r in b.regions}
    assert {p.symbol for p in b.parts} <= {UNNAMED, PADDING}
    assert any("stripped" in note for note in b.notes)
    assert b.stack is None


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_truncated_program_is_refused(compile_c: Compile, share: float) -> None:
    path = compile_c(FOREIGN, "-g")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"foreign\.elf: (not an ELF|damaged|truncated|an ELF file without)"):
        Firmware.read(path)


def test_inverted_bytes_are_audited_or_refused(compile_c: Compile) -> None:
    path = compile_c(FOREIGN, "-g")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        at = int(rng.integers(0, 2 if rng.random() < 0.1 else len(data)))
        for i in range(at, min(at + int(rng.integers(1, 16)), len(data))):
            damaged[i] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with suppress(InputError):
            audit_firmware(Firmware.read(path))


def test_a_function_of_more_bytes_than_its_section_is_read_no_further(compile_c: Compile) -> None:
    """Half of the address space would take hours. What it takes of the stack is not known."""
    path = compile_c(FOREIGN, "-g")
    data = bytearray(path.read_bytes())
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    [entry] = [i for i, s in enumerate(table.iter_symbols()) if s.name == "_start"]
    struct.pack_into("<I", data, table["sh_offset"] + entry * table["sh_entsize"] + 8, 1 << 31)
    path.write_bytes(data)
    found = audit_firmware(Firmware.read(path)).stack
    assert found is not None
    assert found.unbounded == ("_start",)


def test_what_is_no_program_for_arm_is_refused(compile_c: Compile, tmp_path: Path) -> None:
    host = compile_c("int main(void) { return 0; }", compiler="cc", name="host.elf")
    with pytest.raises(InputError, match=r"host\.elf: for X86_64, not for a 32-bit little-endian Arm"):
        Firmware.read(host)
    with pytest.raises(InputError, match=r"object\.elf: an ELF file without loaded segments"):
        Firmware.read(compile_c(FOREIGN, "-c", name="object.elf"))
    (tmp_path / "text.elf").write_text("no ELF file at all, but long enough for a header of one, to be sure")
    with pytest.raises(InputError, match=r"text\.elf: not an ELF file"):
        Firmware.read(tmp_path / "text.elf")
    with pytest.raises(InputError, match="there is no such file"):
        Firmware.read(tmp_path / "missing.elf")


def test_a_map_is_read_with_long_names_on_lines_of_their_own() -> None:
    text = """
Memory Configuration

Name             Origin             Length             Attributes
FLASH            0x08000000         0x00010000         xr
RAM              0x20000000         0x00002000         rw
*default*        0x00000000         0xffffffff

Linker script and memory map

.text           0x08000000       0x40
 .text.a        0x08000000       0x10 CMakeFiles/x.dir/a.c.obj
 .text.of_a_very_long_name
                0x08000010       0x20 ../lib/libz.a(b.c.obj)
 *fill*         0x08000030       0x10
 .text.gone     0x00000000        0x0 CMakeFiles/x.dir/a.c.obj
"""
    found = parse(text)
    assert found.regions == {"FLASH": Memory(0x08000000, 0x10000), "RAM": Memory(0x20000000, 0x2000)}
    assert [(s.address, s.bytes, s.object) for s in found.sections] == [
        (0x08000000, 0x10, "a.c.obj"),
        (0x08000010, 0x20, "libz.a(b.c.obj)"),
    ]
    assert found.at(0x0800002F) is found.sections[1]
    assert found.at(0x08000030) is None
