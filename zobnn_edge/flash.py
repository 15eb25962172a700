"""Flashing: a firmware onto a board by pyOCD, OpenOCD or st-flash, verified after the write.

What would be done and what is done are one list of steps. A board that is a process of this machine is "flashed" by a
start with the firmware, so that the same path is walked without hardware.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zobnn_edge import ports
from zobnn_edge.boards import Board, Probe
from zobnn_edge.elf import FirmwareFile
from zobnn_edge.errors import InputError, TargetError, ToolError
from zobnn_edge.link.client import Client
from zobnn_edge.link.transport import Gone, SerialTransport, SocketTransport, Transport

PYOCD, OPENOCD, ST_FLASH, RESTART = "pyocd", "openocd", "st-flash", "restart"
TOOLS = (PYOCD, OPENOCD, ST_FLASH, RESTART)

_BOOT_TIMEOUT = 20.0
_TOOL_SECONDS = 300.0
_INSTALL = {
    PYOCD: "pip install 'zobnn-edge[flash]'",
    OPENOCD: "install openocd",
    ST_FLASH: "install stlink-tools",
}


@dataclass(frozen=True)
class Step:
    """Something done to a board: in words, for people, and as a function of a folder for files that it needs."""

    text: str
    run: Callable[[Path], None]


def flash(steps: list[Step], say: Callable[[str], None]) -> None:
    """Carry out steps in order, telling each one before; raises ToolError or TargetError at the first that fails."""
    with tempfile.TemporaryDirectory(prefix="zobnn-") as folder:
        for step in steps:
            say(step.text)
            step.run(Path(folder))


def steps(
    firmware: FirmwareFile, board: Board, tool: str | None = None, probe: str | None = None, port: str | None = None
) -> list[Step]:
    """What flashes a firmware.

    `tool` is one of TOOLS; None takes the first that is installed, `restart` where the board is only emulated. `probe`
    is the name of a debug probe or its serial number, or part of one; None takes the only one. With `port` (a serial
    port, or "auto") the firmware is asked afterwards whether it is there.

    Raises InputError when the firmware is another board's, or tool or probe do not fit the board, and ToolError when no
    tool is installed.
    """
    firmware.check(board)
    tool = tool or _default_tool(board)
    if tool not in TOOLS:
        raise InputError(f"there is no tool {tool}; the tools are {', '.join(TOOLS)}")
    if tool == RESTART:
        return [_restart(firmware, board)]
    if board.probe is None:
        raise InputError(f"{board.name} has no debug probe; use --tool {RESTART}")
    if tool == PYOCD:
        made = _pyocd(firmware, board.probe, probe)
    elif tool == OPENOCD:
        made = _openocd(firmware, board, board.probe, probe)
    else:
        made = _st_flash(firmware, board, probe)
    if port:
        made.append(_hello(firmware, board, port, probe))
    return made


def reset(board: Board, probe: str | None = None) -> Step:
    """A reset through the board's debug probe, by the first tool that is installed; `probe` as for `steps`.

    Raises InputError when the board has none or `probe` does not fit, and ToolError when no tool is installed.
    """
    facts, tool = board.probe, _default_tool(board)
    if facts is None:
        raise InputError(f"{board.name} has no debug probe")
    if tool == OPENOCD:
        return _command([*_openocd_words(board, facts, probe), "-c", "init", "-c", "reset run", "-c", "exit"])
    if tool == ST_FLASH:
        return _command([*_st_flash_words(board, probe), "reset"])
    return Step(f"pyOCD: reset, target {facts.pyocd}", lambda folder: _reset_by_pyocd(facts.pyocd, probe))


def _default_tool(board: Board) -> str:
    if board.probe is None:
        return RESTART
    if find_spec("pyocd"):
        return PYOCD
    for tool in (OPENOCD, ST_FLASH) if _is_st(board) else (OPENOCD,):
        if shutil.which(tool):
            return tool
    raise ToolError(f"the debug probe of {board.name} needs a tool: {'; or '.join(_INSTALL.values())}")


def _is_st(board: Board) -> bool:
    return board.part.startswith("STM32")


# OpenOCD and st-flash: commands.


def _command(words: list[str]) -> Step:
    return Step(shlex.join(words), lambda folder: _run(words, folder))


def _run(words: list[str], folder: Path) -> None:
    tool = words[0]
    path = shutil.which(tool)
    if not path:
        raise ToolError(f"{tool} is not on PATH; {_INSTALL[tool]}, or take another --tool")
    try:
        done = subprocess.run(
            [path, *words[1:]], cwd=folder, capture_output=True, text=True, check=False, timeout=_TOOL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"{tool} has not come to an end in {_TOOL_SECONDS:g} s and was stopped") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        why = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it says nothing")
        raise ToolError(f"{tool} failed with exit code {done.returncode}: {why}")


def _serial_number(board: Board, probe: str | None) -> str | None:
    """The serial number of the probe meant; None when it does not have to be told. A text that no connected probe of
    the board is called is taken for a serial number."""
    connected = ports.candidates(board.name)
    if (probe is None and len(connected) > 1) or any(port.is_called(probe or "") for port in connected):
        return ports.find(board.name, probe).serial_number
    return probe


def _openocd(firmware: FirmwareFile, board: Board, facts: Probe, probe: str | None) -> list[Step]:
    program = f"program {{{firmware.path.resolve()}}} verify reset exit"
    return [_command([*_openocd_words(board, facts, probe), "-c", program])]


def _openocd_words(board: Board, facts: Probe, probe: str | None) -> list[str]:
    words = [OPENOCD]
    for file in facts.openocd:
        words += ["-f", file]
    serial_number = _serial_number(board, probe)
    if serial_number:
        words += ["-c", f"adapter serial {serial_number}"]
    return words


def _st_flash(firmware: FirmwareFile, board: Board, probe: str | None) -> list[Step]:
    if not _is_st(board):
        raise InputError(f"{ST_FLASH} is for STM32, {board.name} has an {board.part}; use --tool {PYOCD} or {OPENOCD}")
    st_flash = _st_flash_words(board, probe)
    start, image = firmware.binary()
    written, read = "written.bin", "read.bin"

    def put(folder: Path) -> None:
        (folder / written).write_bytes(image)

    def compare(folder: Path) -> None:
        _same(image, (folder / read).read_bytes() if (folder / read).exists() else b"", start)

    return [
        Step(f"put what is loaded of {firmware.path} into {written}: {len(image):,} bytes", put),
        _command([*st_flash, "write", written, f"0x{start:08x}"]),
        _command([*st_flash, "read", read, f"0x{start:08x}", str(len(image))]),
        Step(f"compare {read} with {written}", compare),
        _command([*st_flash, "reset"]),
    ]


def _st_flash_words(board: Board, probe: str | None) -> list[str]:
    serial_number = _serial_number(board, probe)
    return [ST_FLASH, *(["--serial", serial_number] if serial_number else [])]


def _same(expected: bytes, found: bytes, address: int) -> None:
    if found == expected:
        return
    at = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), len(found))
    raise ToolError(f"verifying failed: flash differs from 0x{address + at:08X} on; flash again, or check the board")


# pyOCD: a library.


def _pyocd(firmware: FirmwareFile, facts: Probe, probe: str | None) -> list[Step]:
    size = sum(len(segment.data) for segment in firmware.segments)
    which = f"the debug probe {probe}" if probe else "the only debug probe"
    text = (
        f"pyOCD: by {which}, target {facts.pyocd}: write {size:,} bytes of {firmware.path}, "
        "read them back and compare, reset"
    )
    return [Step(text, lambda folder: _program_by_pyocd(firmware, facts.pyocd, probe))]


def _program_by_pyocd(firmware: FirmwareFile, target: str, probe: str | None) -> None:
    with _pyocd_session(target, probe) as session:
        from pyocd.flash.file_programmer import FileProgrammer

        FileProgrammer(session).program(str(firmware.path), file_format="elf")
        for segment in firmware.segments:
            if segment.data:
                found = session.target.read_memory_block8(segment.flash_address, len(segment.data))
                _same(segment.data, bytes(found), segment.flash_address)
        session.target.reset()


def _reset_by_pyocd(target: str, probe: str | None) -> None:
    with _pyocd_session(target, probe) as session:
        session.target.reset()


@contextmanager
def _pyocd_session(target: str, probe: str | None) -> Iterator[Any]:
    """A connection to a part; what pyOCD raises becomes a ToolError."""
    try:
        from pyocd.core.exceptions import Error, TargetSupportError
        from pyocd.core.session import Session
    except ModuleNotFoundError:
        raise ToolError(f"pyOCD is not installed; {_INSTALL[PYOCD]}, or take another --tool") from None
    try:
        with Session(_pyocd_probe(probe), options={"target_override": target, "hide_programming_progress": True}) as s:
            yield s
    except TargetSupportError:
        raise ToolError(f"pyOCD does not know {target} yet; run: pyocd pack install {target}") from None
    except Error as error:
        raise ToolError(f"pyOCD failed: {' '.join(str(error).split())}") from None


def _pyocd_probe(probe: str | None) -> Any:
    """The one probe that is connected, or the one whose name or serial number contains `probe`."""
    from pyocd.core.helpers import ConnectHelper

    connected = ConnectHelper.get_all_connected_probes(blocking=False)
    named = {f"{p.description} (serial number {p.unique_id})": p for p in connected}
    fitting = [p for name, p in named.items() if probe is None or probe.lower() in name.lower()]
    if len(fitting) == 1:
        return fitting[0]
    those = ", ".join(named)
    if fitting:
        raise InputError(f"{len(fitting)} debug probes fit; name one by --probe: {those}")
    there_are = f" There are: {those}" if named else ""
    raise InputError(f"no debug probe{f' called {probe}' if probe else ''} found; is it plugged in?{there_are}")


# Asking the firmware itself.


def _hello(firmware: FirmwareFile, board: Board, port: str, probe: str | None) -> Step:
    def ask(folder: Path) -> None:
        device = ports.find(board.name, probe).device if port == ports.AUTO else port
        _ask(SerialTransport(device, board.baud), f"serial:{device}", firmware, board)

    place = "the board's own serial port" if port == ports.AUTO else f"serial port {port}"
    return Step(f"ask the firmware on {place} what it is", ask)


def _restart(firmware: FirmwareFile, board: Board) -> Step:
    from zobnn_edge.targets.emulated import emulator_command

    path = firmware.path.resolve()
    if board.toolchain == "native":
        words = [str(path)]
    else:
        stdio = ["-chardev", "stdio,id=serial0,signal=off", "-serial", "chardev:serial0"]
        words = emulator_command(board, path) + stdio

    def start(folder: Path) -> None:
        with _process(words, board.name) as line:
            _ask(line, board.name, firmware, board, boot=True)

    return Step(f"start {shlex.join(words)} and ask the firmware what it is", start)


@contextmanager
def _process(words: list[str], name: str) -> Iterator[Transport]:
    """A process whose stdin and stdout are the other end of the line."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL)
        except OSError as error:
            ours.close()
            raise ToolError(f"{words[0]}: cannot be started: {error.strerror}") from None
    line = SocketTransport(ours, lambda: Gone(f"{name}: the firmware ended at once"))
    try:
        yield line
    finally:
        line.close()
        process.kill()
        process.wait()


def _ask(line: Transport, name: str, firmware: FirmwareFile, board: Board, boot: bool = False) -> None:
    """Raise TargetError unless this firmware answers on the line; `boot`: it has just been started."""
    client = Client(line, name)
    try:
        if boot and client.wait_ready(_BOOT_TIMEOUT) is None:
            raise TargetError(f"{name}: the firmware does not boot")
        hello = client.hello()
    finally:
        client.close()
    says = bytes(hello["board"]).rstrip(b"\0").decode("ascii", "replace")
    if says != board.name or hello["image_crc"] != firmware.image_crc:
        raise TargetError(f"{name}: another firmware answers, of {says}; is this the port of the board just flashed?")
