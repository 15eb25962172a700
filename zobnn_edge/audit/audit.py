"""An audit: what takes how much of which memory, of a firmware, a network or both, as plain data.

Roles say what bytes are for. In flash: engine, agent, board, library (code), constants, plan, parameters; in RAM:
parameters, arena, stack, link buffers, inputs, static; in both: padding.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zobnn_edge.audit import linkmap, network
from zobnn_edge.audit.elf import PADDING, Elf, Part
from zobnn_edge.audit.network import Contents, contents
from zobnn_edge.audit.stack import Stack, frames, worst_case
from zobnn_edge.boards import Board, Memory, boards
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes
from zobnn_edge.model_file import Model

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RegionRow:
    """A region of memory: its bytes in use and, where its size is known, those that are left."""

    name: str
    kind: str
    origin: int
    used: int
    capacity: int | None
    free: int | None


@dataclass(frozen=True)
class PartRow:
    """A part with its role and, of a parameter, its layer."""

    region: str
    section: str
    role: str
    object: str
    source: str
    symbol: str
    address: int
    bytes: int
    layer: str = ""


@dataclass(frozen=True)
class StackRow:
    """The stack: bytes reserved, worst case (None: not known) and its account, what is left."""

    reserved: int | None
    worst: int | None
    margin: int | None
    main: int
    interrupt: int
    path: tuple[dict[str, Any], ...] = ()
    recursion: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """All that was found. `predicted`: of a network for a board, from stored sizes, without firmware."""

    name: str
    board: str | None
    predicted: bool
    regions: tuple[RegionRow, ...]
    parts: tuple[PartRow, ...]
    contents: Contents | None
    stack: StackRow | None
    policies: tuple[dict[str, Any], ...] = ()
    vulnerability: dict[str, Any] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def totals(self) -> dict[str, int]:
        """Bytes of flash and RAM, and of what is most asked for."""
        kinds = {r.name: r.kind for r in self.regions}
        by_role = Counter[str]()
        for part in self.parts:
            by_role[f"{kinds[part.region]} {part.role}"] += part.bytes
        found = {kind: sum(r.used for r in self.regions if r.kind == kind) for kind in ("flash", "ram")}
        if self.stack and self.stack.worst is not None:
            found["stack"] = self.stack.worst
        if self.contents:
            found |= {"arena": self.contents.arena.bytes, "parameters": self.contents.image_bytes}
        return found | dict(sorted(by_role.items()))

    @property
    def fits(self) -> bool | None:
        """Whether every region and the stack have room; None where no capacity is known."""
        known = [r.free >= 0 for r in self.regions if r.free is not None]
        if self.stack and self.stack.margin is not None:
            known.append(self.stack.margin >= 0)
        return all(known) if known else None

    def by(self, column: str) -> dict[tuple[str, str], int]:
        """Bytes by region and one of section, role, object, source, symbol, layer; the largest first."""
        sums = Counter[tuple[str, str]]()
        for part in self.parts:
            sums[part.region, getattr(part, column)] += part.bytes
        return dict(sums.most_common())


@dataclass(frozen=True)
class Firmware:
    """An ELF file with what lies beside it: the linker's map, the compiler's account of the stack."""

    path: Path
    elf: Elf
    map: linkmap.LinkMap
    frames: dict[str, Any]

    @staticmethod
    def read(path: Path, map_file: Path | None = None, call_graphs: tuple[Path, ...] = ()) -> Firmware:
        """Read an ELF file, and its map and call graphs: those given, else `.map` and `.ci` beside it, if any."""
        data = read_bytes(path)
        beside = path.with_suffix(".map")
        chosen = map_file or (beside if beside.exists() else None)
        found = linkmap.parse(read_bytes(chosen).decode(errors="replace")) if chosen else linkmap.EMPTY
        graphs = call_graphs or tuple(p for p in (path.with_suffix(".ci"), path.with_suffix(".su")) if p.exists())
        text = "\n".join(read_bytes(p).decode(errors="replace") for p in graphs)
        return Firmware(path, Elf(data, str(path), found), found, frames(text))


def audit_firmware(firmware: Firmware, board: Board | None = None, model: Model | None = None) -> Audit:
    """Audit an ELF file; the board and the network are those that this project's firmware names and holds, else those
    given.

    Raises InputError when the file is for another board than `board`, or holds another network than `model`.
    """
    elf = firmware.elf
    if board is not None and elf.board not in (None, board.name):
        raise InputError(f"{firmware.path}: firmware for {elf.board}, not for {board.name}; leave out --board")
    board = board or boards().get(elf.board or "")
    if model is not None:
        network.check_same(model, elf, str(firmware.path))
    held = model or network.read_model(elf, firmware.path.stem)
    regions = dict(firmware.map.regions)
    if board is not None and not regions:
        regions = {"FLASH": board.flash, "RAM": board.ram}
    taken = None
    if held is not None:
        image, copy = elf.symbol("image"), elf.symbol("model_image")
        taken = contents(held, image.address if image else None, copy.address if copy else None)
    parts = tuple(row for part in elf.parts(regions) for row in _rows(part, taken, elf))
    worst = worst_case(elf, firmware.frames)
    return Audit(
        name=held.network.name if held is not None else firmware.path.name,
        board=board.name if board else elf.board,
        predicted=False,
        regions=_regions(elf, regions),
        parts=parts,
        contents=taken,
        stack=_stack(elf, parts, worst),
        notes=tuple(_notes(firmware, worst, bool(regions))),
    )


def _regions(elf: Elf, regions: dict[str, Memory]) -> tuple[RegionRow, ...]:
    used = Counter[str]()
    least: dict[str, int] = {}
    ram = {elf.region_of(s.address, regions, True) for s in elf.segments if s.writable}
    for span in elf.spans(regions):
        used[span.region] += span.bytes
        least[span.region] = min(span.address, least.get(span.region, span.address))
    rows = []
    for name in (*regions, *sorted(used.keys() - regions.keys())):
        size = regions[name].bytes if name in regions else None
        origin = regions[name].origin if name in regions else least[name]
        kind = "ram" if name in ram or (name not in used and "RAM" in name.upper()) else "flash"
        rows.append(RegionRow(name, kind, origin, used[name], size, None if size is None else size - used[name]))
    return tuple(rows)


def _rows(part: Part, taken: Contents | None, elf: Elf) -> list[PartRow]:
    """The row of a part; of parameters one a layer."""
    row = PartRow(
        part.region, part.section, role(part), part.object, part.source, part.symbol, part.address, part.bytes
    )
    if row.role != "parameters" or taken is None:
        return [row]
    rows, at = [], 0
    for p in taken.parameters:
        start, name = part.address + p.offset, f"{part.symbol}: {p.name}"
        rows.append(replace(row, symbol=name, address=start, bytes=p.bytes, layer=p.layer))
        at += p.bytes
    if at < part.bytes:
        rows.append(replace(row, symbol=PADDING, role="padding", address=part.address + at, bytes=part.bytes - at))
    return rows


_ROLES = (
    (r"^\.arena$", "section", "arena"),
    (r"^\.inputs$", "section", "inputs"),
    (r"stack", "section", "stack"),
    (r"^(image|model_image)$", "symbol", "parameters"),
    (r"^model_plan$", "symbol", "plan"),
    (r"heap", "section", "heap"),
)
_CODE = (
    (r"(^|/)engine/", "engine"),
    (r"(^|/)agent/", "agent"),
    (r"(^|/)boards/|vectors\.S", "board"),
    (r"\.a\(|^lib|libgcc|newlib", "library"),
)
_LINK = r"(^|/)(agent|frame|uart(_\w+)?)\.c\b"


def role(part: Part) -> str:
    """What a part is for."""
    if part.symbol == PADDING:
        return "padding"
    for pattern, column, name in _ROLES:
        if re.search(pattern, getattr(part, column)):
            return name
    executable = part.section.startswith((".text", ".init", ".fini", ".vectors", ".isr_vector"))
    place = part.source if re.search("|".join(p for p, _ in _CODE), part.source) else part.object or part.source
    if executable:
        return next((name for pattern, name in _CODE if re.search(pattern, _member(place))), "code")
    if part.section.startswith((".rodata", ".ARM", ".eh_frame")):
        return "constants"
    if re.search(_LINK, part.source or part.object):
        return "link buffers"
    return "static"


def _member(place: str) -> str:
    """A place, with members of the engine's own archive told from those of libraries."""
    return re.sub(r"^libzob_engine\.a\(", "engine/(", place)


def _stack(elf: Elf, parts: tuple[PartRow, ...], worst: Stack | None) -> StackRow | None:
    labels = elf.labels
    if "stack_top" in labels and "stack_bottom" in labels:
        reserved: int | None = labels["stack_top"] - labels["stack_bottom"]
    else:
        reserved = sum(p.bytes for p in parts if p.role == "stack") or None
    if worst is None:
        return StackRow(reserved, None, None, 0, 0) if reserved else None
    path = tuple({"function": s.function, "bytes": s.bytes, "below": s.below} for s in worst.path)
    margin = None if worst.bytes is None or reserved is None else reserved - worst.bytes
    return StackRow(
        reserved,
        worst.bytes,
        margin,
        worst.main,
        worst.interrupt,
        path,
        worst.recursion,
        worst.unbounded,
        worst.unresolved,
    )


def _notes(firmware: Firmware, worst: Stack | None, sizes_known: bool) -> list[str]:
    """What could not be said, and why."""
    notes = []
    if not firmware.map.regions:
        missing = "objects" if sizes_known else "objects and sizes of regions"
        notes.append(f"no map file: {missing} are not known (give --map{'' if sizes_known else ', or --board'})")
    if not firmware.elf.symbols:
        notes.append("no symbols: the file is stripped; parts are whole sections")
    if worst is None:
        notes.append("no functions: nothing can be said of the stack")
        return notes
    if not firmware.frames:
        notes.append(
            "no call graphs of the compiler: the stack is read from the instructions alone (give --call-graph)"
        )
    if worst.recursion:
        notes.append(f"stack without bound: recursion of {', '.join(worst.recursion)}")
    if worst.unbounded:
        notes.append(f"stack without bound: frames of {', '.join(worst.unbounded)}")
    if worst.unresolved:
        notes.append(f"stack a lower bound: calls through pointers not resolved in {', '.join(worst.unresolved)}")
    return notes
