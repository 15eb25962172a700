"""The audit of a network for a board before there is firmware: no compiler, stored sizes of the engine instead.

`sizes.json` (made by tools/engine_sizes.py) holds for every board, and for speed and size preferred, what firmware
takes beside the network's own bytes, in groups: one that is always linked, and those that are linked where a network
has one of some features (and, where a group says so, another one). What the network adds follows from its plan, as the
linker script lays it out.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from zobnn_edge.audit.audit import Audit, PartRow, RegionRow, StackRow
from zobnn_edge.audit.elf import PADDING
from zobnn_edge.audit.network import contents
from zobnn_edge.boards import Board
from zobnn_edge.errors import InputError
from zobnn_edge.features import features
from zobnn_edge.model_file import Model

SIZES = Path(__file__).with_name("sizes.json")
SECTIONS = {"parameters": ".parameters", "arena": ".arena", "inputs": ".inputs", "stack": ".stack"}
_SECTION_ALIGN = 8
_SCORE_BYTES = 4


def predict(model: Model, board: Board) -> Audit:
    """What the firmware of a model would take on a board.

    Raises InputError for a board, or a feature of the network, of which no sizes are stored.
    """
    stored = sizes().get("boards", {}).get(board.name, {}).get(model.prefer)
    if stored is None:
        raise InputError(f"{board.name}: no sizes are stored for it; run tools/engine_sizes.py, or audit its firmware")
    wanted = features(model)
    if unknown := wanted - set(stored["stack"]["main"]):
        names = ", ".join(sorted(unknown))
        raise InputError(f"{model.network.name}: no sizes are stored for {names}; run tools/engine_sizes.py")
    taken = contents(model, board.ram.origin, board.flash.origin)
    rows = [_row(region, role, size) for (region, role), size in sorted(_engine(stored, wanted).items())]
    rows += _network(model, board, rows)
    worst = max(stored["stack"]["main"][feature] for feature in wanted) + stored["stack"]["interrupt"]
    interrupt = stored["stack"]["interrupt"]
    stack = StackRow(board.stack_bytes, worst, board.stack_bytes - worst, worst - interrupt, interrupt)
    regions = tuple(_region(name, kind, board, rows) for name, kind in (("FLASH", "flash"), ("RAM", "ram")))
    note = "predicted from stored sizes of the engine; `zobnn build` and `zobnn audit FW.elf` measure"
    return Audit(model.network.name, board.name, True, regions, tuple(rows), taken, stack, notes=(note,))


@cache
def sizes() -> dict[str, Any]:
    """The stored sizes."""
    found: dict[str, Any] = json.loads(SIZES.read_text())
    return found


def own_bytes(model: Model) -> dict[tuple[str, str], int]:
    """Bytes of the parts of a firmware whose size the network decides: by region and role.

    `static` are the scores, which lie among other variables.
    """
    net = model.network
    image, inputs = len(model.image.data), net.tensors[net.input].size
    return {
        ("FLASH", "plan"): len(model.plan),
        ("FLASH", "parameters"): image,
        ("RAM", "parameters"): image,
        ("RAM", "arena"): model.arena_bytes,
        ("RAM", "inputs"): inputs,
        ("RAM", "static"): _SCORE_BYTES * net.outputs,
    }


def _engine(stored: dict[str, Any], wanted: frozenset[str]) -> Counter[tuple[str, str]]:
    """Bytes by region and role that do not depend on the network's size."""
    found = Counter[tuple[str, str]]()
    for group in stored["groups"]:
        if (not group["when"] or wanted & set(group["when"])) and group.get("and") in (None, *wanted):
            for place, size in group["bytes"].items():
                region, _, role = place.partition(" ")
                found[region, role] += size
    return found


def _network(model: Model, board: Board, engine: list[PartRow]) -> list[PartRow]:
    rows, filled = [], 0
    for (region, role), size in own_bytes(model).items():
        rows.append(_row(region, role, size, "scores" if role == "static" else ""))
        if role in SECTIONS:
            filled += -size % _SECTION_ALIGN
    rows.append(_row("RAM", "stack", board.stack_bytes))
    # The sections that mix the network's bytes with others end aligned, too.
    mixed = {"plan", "parameters", "constants"}
    tail = sum(r.bytes for r in (*engine, *rows) if r.region == "FLASH" and r.role in mixed)
    rows.append(_row("FLASH", "padding", -tail % _SECTION_ALIGN, PADDING))
    static = sum(
        r.bytes for r in (*engine, *rows) if r.region == "RAM" and r.role in ("static", "link buffers", "padding")
    )
    rows.append(_row("RAM", "padding", filled + -static % _SECTION_ALIGN, PADDING))
    return [row for row in rows if row.bytes]


def _row(region: str, role: str, size: int, symbol: str = "") -> PartRow:
    section = SECTIONS.get(role, "") if region == "RAM" else ""
    return PartRow(region, section, role, "", "", symbol, 0, size)


def _region(name: str, kind: str, board: Board, rows: list[PartRow]) -> RegionRow:
    memory = board.flash if kind == "flash" else board.ram
    used = sum(row.bytes for row in rows if row.region == name)
    return RegionRow(name, kind, memory.origin, used, memory.bytes, memory.bytes - used)
