"""The boards that the firmware can be built for: the folders of `firmware/boards`, each with a `board.toml`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.files import write_atomic

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORES = {
    "cortex-m0": "-mfloat-abi=soft",
    "cortex-m0plus": "-mfloat-abi=soft",
    "cortex-m3": "-mfloat-abi=soft",
    "cortex-m4": "-mfloat-abi=hard -mfpu=fpv4-sp-d16",
    "cortex-m7": "-mfloat-abi=hard -mfpu=fpv5-sp-d16",
    "cortex-m33": "-mfloat-abi=hard -mfpu=fpv5-sp-d16",
    "cortex-m55": "-mfloat-abi=hard",
}
"""Cores that a new board may have, with the compiler's options for the floating-point unit most parts have."""

_NAME_BYTES = 23  # what HELLO has room for


@dataclass(frozen=True)
class Memory:
    """A stretch of memory: where it begins and how many bytes it has."""

    origin: int
    bytes: int


@dataclass(frozen=True)
class Emulator:
    """How QEMU emulates a board: its machine, nanoseconds an instruction takes, as a power of two, and options by which
    the board differs from the machine."""

    machine: str
    icount_shift: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """How to flash a board: its part as pyOCD names it, OpenOCD's configuration files, and the USB ids (vendor,
    product) under which the probe on the board has a serial port; none where an adapter is needed."""

    pyocd: str
    openocd: tuple[str, ...]
    usb: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Board:
    """A board: what is on it and how to talk to it. `emulator` is None when nothing emulates it, `probe` when it cannot
    be flashed.

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
    probe: Probe | None


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


def uarts() -> list[str]:
    """The kinds of UART that the firmware has a driver for."""
    common = firmware_folder() / "boards" / "common"
    return sorted(file.stem.removeprefix("uart_") for file in common.glob("uart_*.c"))


def new_board(name: str, core: str, uart: str) -> Path:
    """Make the folder of a new board from the template and return it.

    The board builds at once, with example addresses. Raises InputError for a name that is taken or no good, for an
    unknown core or UART, and for a folder that cannot be written.
    """
    folder = firmware_folder() / "boards" / name
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or len(name) > _NAME_BYTES:
        raise InputError(f"{name!r} cannot name a board; take up to {_NAME_BYTES} of a to z, 0 to 9 and -")
    if core not in CORES:
        raise InputError(f"there is no core {core}; the cores are {', '.join(CORES)}")
    if uart not in uarts():
        raise InputError(f"there is no driver for a UART {uart}; there are {', '.join(uarts())}")
    try:
        folder.mkdir()
    except FileExistsError:
        raise InputError(f"there is a board {name} already; edit {folder}") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    values = {"name": name, "core": core, "uart": uart, "flags": f"-mcpu={core} -mthumb {CORES[core]}"}
    for file in sorted((folder.parent / "template").glob("*.in")):
        write_atomic(folder / file.stem, Template(file.read_text()).substitute(values))
    boards.cache_clear()
    return folder


def _read(file: Path) -> Board:
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text())
        memory, emulator, probe = table["memory"], table.get("emulator"), table.get("probe")
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
            emulator=_emulator(emulator) if emulator else None,
            probe=_probe(probe) if probe else None,
        )
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise InputError(f"{file}: not a usable board file: {error}") from None


def _emulator(table: dict[str, Any]) -> Emulator:
    return Emulator(table["machine"], table["icount_shift"], tuple(table.get("options", "").split()))


def _probe(table: dict[str, str]) -> Probe:
    """The table [probe]: words separated by blanks, USB ids as VVVV:PPPP in hexadecimal."""
    ids = [usb_id.split(":") for usb_id in table.get("usb", "").split()]
    usb = tuple((int(vendor, 16), int(product, 16)) for vendor, product in ids)
    return Probe(table["pyocd"], tuple(table["openocd"].split()), usb)
