"""A board in QEMU, running the project's firmware with a network built into it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from zobnn_edge.boards import Board, board
from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Options
from zobnn_edge.targets.process import ProcessTarget

_QEMU = "qemu-system-arm"
_NO_ESCAPE = ["-echr", "256"]
"""No byte on the line of a multiplexer (`mux=on`) is a command to it. There is only one board to multiplex; what it is
for is its buffer: the next byte is there when the board has read one. Without it each byte costs the emulator a turn of
its main loop and two switches of threads."""


class EmulatedTarget(ProcessTarget):
    """A board in a process of QEMU.

    With -icount every instruction takes the same emulated time, so that counts are exact and repeat.
    """

    def __init__(self, board_name: str, model: Model, options: Options = Options()) -> None:  # noqa: B008
        """Raises InputError for an unknown board, else as ProcessTarget does."""
        super().__init__(f"qemu:{board_name}", "the emulator", board(board_name), model, options)

    def _launch(self, elf: Path, line: socket.socket) -> subprocess.Popen[bytes]:
        serial = ["-chardev", f"socket,id=serial0,fd={line.fileno()},mux=on", "-serial", "chardev:serial0"]
        command = [*emulator_command(self._board, elf), *serial, *_NO_ESCAPE]
        return self._spawn(command, subprocess.DEVNULL, [line.fileno()])


def emulator_command(target: Board, elf: Path) -> list[str]:
    """The command that starts an emulated board, without its serial line. Raises InputError when nothing emulates the
    board and ToolError when QEMU is missing."""
    if target.emulator is None:
        raise InputError(f"nothing emulates {target.name}; use serial:PORT with a real one")
    qemu = shutil.which(_QEMU)
    if not qemu:
        raise ToolError(f"qemu:{target.name} needs {_QEMU}, which is not on PATH; install qemu-system-arm")
    bare = ["-nodefaults", "-display", "none", "-monitor", "none"]
    machine = ["-machine", target.emulator.machine, *target.emulator.options]
    return [qemu, *machine, *bare, "-icount", f"shift={target.emulator.icount_shift}", "-kernel", str(elf)]
