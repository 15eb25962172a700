"""What must hold of the firmware of every network on every board, and how far it was from not holding."""

from __future__ import annotations

import io
import re
from itertools import pairwise

from elftools.elf.elffile import ELFFile

from tools.engine_sizes import EVERYTHING, UNPROTECTED, header, input_sections
from tools.entered import without
from zobnn_edge.audit.audit import Audit, Firmware
from zobnn_edge.boards import Board
from zobnn_edge.errors import ToolError
from zobnn_edge.features import features
from zobnn_edge.firmware import built_with
from zobnn_edge.model_file import Model

AGAIN = "the stored sizes are stale; run tools/engine_sizes.py"
MOST = 1.5
"""The worst case of the stack is at most so many times what was used of it."""


def segments(firmware: Firmware) -> list[tuple[int, int, int, int]]:
    """(address, load address, bytes in the file, in memory) of what is loaded, as readelf would list it."""
    elf = ELFFile(io.BytesIO(firmware.path.read_bytes()))
    loaded = (s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"])
    return [(s["p_vaddr"], s["p_paddr"], s["p_filesz"], s["p_memsz"]) for s in loaded]


def parts_are_the_segments(firmware: Firmware, audit: Audit) -> int:
    """Each address of what is loaded is in exactly one part; returns the bytes."""
    expected = set()
    for address, load, in_file, in_memory in segments(firmware):
        expected.add((address, in_memory))
        if load != address and in_file:
            expected.add((load, in_file))
    covered = sorted((p.address, p.address + p.bytes) for p in audit.parts)
    assert all(end <= start for (_, end), (start, _) in pairwise(covered)), "parts overlap"
    for begin, size in expected:
        assert sum(p.bytes for p in audit.parts if begin <= p.address < begin + size) == size
    total = sum(size for _, size in expected)
    assert sum(p.bytes for p in audit.parts) == total
    return total


def is_predicted(predicted: Audit, measured: Audit) -> tuple[int, int]:
    """Flash and RAM are within 1 % or 256 bytes, the stack within 64 bytes below and a fifth above; returns bytes of
    flash and RAM too many."""
    off = [predicted.totals[kind] - measured.totals[kind] for kind in ("flash", "ram")]
    for kind, error in zip(("flash", "ram"), off, strict=True):
        assert abs(error) <= _tolerance(measured.totals[kind]), f"{measured.board}: {kind} {error:+}; {AGAIN}"
    assert measured.stack is not None
    assert predicted.stack is not None
    built, stored = measured.stack.worst, predicted.stack.worst
    assert built is not None
    assert stored is not None
    assert built <= stored + 64 <= 1.2 * built + 64, f"{measured.board}: stack {stored}, built {built}; {AGAIN}"
    return off[0], off[1]


def shortage_is_predicted(predicted: Audit, error: ToolError) -> dict[str, int]:
    """The linker is short of what the prediction is short of; returns bytes too many by region."""
    found = {m[1]: int(m[2]) for m in re.finditer(r"(FLASH|RAM) of \d+ bytes by (\d+) bytes", str(error))}
    assert found, error
    off = {}
    for region in predicted.regions:
        assert region.free is not None
        if region.name in found:
            off[region.name] = -region.free - found[region.name]
            assert abs(off[region.name]) <= _tolerance(region.used), f"{predicted.board}: {off}; {AGAIN}"
        else:
            assert region.free >= -_tolerance(region.used), f"{predicted.board}: {region.name} has room; {AGAIN}"
    return off


def _tolerance(size: int) -> int:
    return max(256, size // 100)


def engine_is_what_features_need(firmware: Firmware, model: Model, target: Board) -> int:
    """The functions of the engine that the linker kept are those that ENTERED_BY says are reached in an engine of all
    features; returns how many."""
    wanted = features(model)
    linked = _engine(firmware, frozenset(s.address for s in firmware.map.sections))
    most = EVERYTHING if "protected" in wanted else UNPROTECTED
    if "codes_any" not in wanted:
        most -= {"codes_any"}  # limits of bytes are found in another way
    whole = Firmware.read(built_with(header(most, model.prefer), target))
    expected = _engine(whole, input_sections(whole, without(wanted)))
    assert linked == expected, f"{target.name}: ENTERED_BY of tools/entered.py is not true: {linked ^ expected}"
    return len(linked)


def _engine(firmware: Firmware, sections: frozenset[int]) -> set[str]:
    """The engine's functions in some input sections."""
    functions = (f for f in firmware.elf.functions if f.is_global and f.name.startswith("zob_"))
    places = {f.name: firmware.map.at(f.address) for f in functions}
    return {name for name, place in places.items() if place is not None and place.address in sections}


def ram_is_what_hello_says(audit: Audit, hello: dict[str, int]) -> None:
    """Where the parameters lie, their bytes, the arena's, and what is left for inputs."""
    assert audit.contents is not None
    ram = next(r for r in audit.regions if r.kind == "ram")
    assert ram.free is not None
    assert hello["memory_address"] == audit.contents.parameters[0].ram_address
    assert hello["image_bytes"] == audit.contents.image_bytes == audit.totals["parameters"]
    assert hello["arena_bytes"] == audit.contents.arena.bytes == audit.totals["arena"]
    assert hello["input_bytes"] == ram.free + sum(p.bytes for p in audit.parts if p.section == ".inputs")


def stack_is_bounded(audit: Audit, used: int) -> float:
    """What was used of the stack is within the worst case, and that is not far above; returns their ratio."""
    assert audit.stack is not None
    assert audit.stack.worst is not None
    assert used <= audit.stack.worst <= MOST * used, f"{audit.board}: {used} used, worst case {audit.stack.worst}"
    return audit.stack.worst / used
