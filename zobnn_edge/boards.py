"""The boards that the firmware can be built for: the folders of `firmware/boards`, each with a `board.toml`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zobnn_edge.errors import InputError, ToolError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Memory:
    """A stretch of memory: where it begins and how many bytes it has."""

    origin: int
    bytes: int


@dataclass(frozen=True)
class Emulator:
    """How QEMU emulates a board: its machine, and nanoseconds an instruction takes, as a power of two."""

    machine: str
    icount_shift: int


@dataclass(frozen=True)
class Board:
    """A board: what is on it and how to talk to it. `emulator` is None when nothing emulates it.

    `toolchain` is "arm-none-eabi", or "native" for the firmware as a process of this machine.
    """

    name: str
    description: str
    part: str
    core: str
    toolchain: str
    clock_hz: int
    baud: int
    flash: Memory
    ram: Memory
    stack_bytes: int
    emulator: Emulator | None


def firmware_folder() -> Path:
    """The firmware's sources: inside the installed package, or beside it in a checkout. Raises ToolError if missing."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_firmware", package.parent / "firmware"):
        if (folder / "boards" / "board.h").exists():
            return folder
    raise ToolError(f"the firmware's sources are missing beside {package}; install zobnn-edge again")


@cache
def boards() -> dict[str, Board]:
    """All boards by name, in alphabetical order."""
    files = sorted((firmware_folder() / "boards").glob("*/board.toml"))
    return {file.parent.name: _read(file) for file in files}


def board(name: str) -> Board:
    """The board of that name; raises InputError that lists those there are."""
    known = boards()
    if name not in known:
        raise InputError(f"there is no board {name}; the boards are {', '.join(known)}")
    return known[name]


def _read(file: Path) -> Board:
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text())
        memory, emulator = table["memory"], table.get("emulator")
        return Board(
            name=file.parent.name,
            description=table["description"],
            part=table["part"],
            core=table["core"],
            toolchain=table["toolchain"],
            clock_hz=table["clock_hz"],
            baud=table["baud"],
            flash=Memory(memory["flash_origin"], memory["flash_bytes"]),
            ram=Memory(memory["ram_origin"], memory["ram_bytes"]),
            stack_bytes=memory["stack_bytes"],
            emulator=Emulator(emulator["machine"], emulator["icount_shift"]) if emulator else None,
        )
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f"{file}: not a usable board file: {error}") from None
