"""A board in QEMU, running the project's firmware with a network built into it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from zobnn_edge.boards import Board, board
from zobnn_edge.errors import InputError, TargetError, ToolError
from zobnn_edge.firmware import built
from zobnn_edge.link.client import Client
from zobnn_edge.link.transport import SocketTransport
from zobnn_edge.model_file import Model
from zobnn_edge.targets.board import BoardTarget

_QEMU = "qemu-system-arm"
_BOOT_TIMEOUT = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmulatedTarget(BoardTarget):
    """A process of QEMU that ends when this object is closed, or when the thread that opened it ends.

    With -icount every instruction takes the same emulated time, so that counts are exact and repeat.
    """

    def __init__(self, board_name: str, model: Model) -> None:
        """Build the firmware and start it. Raises InputError for an unknown board, ToolError when a tool is missing or
        the network does not fit, TargetError when the emulator does not come up."""
        super().__init__(f"qemu:{board_name}")
        self._board = board(board_name)
        self._process: subprocess.Popen[bytes] | None = None
        self.load(model)

    def load(self, model: Model) -> None:
        elf = built(model, self._board.name)
        self._firmware = hashlib.sha256(elf.read_bytes()).hexdigest()
        self.close()
        self._start(elf)
        try:
            if self._client.wait_ready(_BOOT_TIMEOUT) is None:
                raise TargetError(f"{self._name}: the firmware does not boot")
            self._connect(self._client, model)
        except BaseException:
            self.close()
            raise

    def reset(self) -> None:
        try:
            super().reset()
        except TargetError:  # it hangs or has ended: begin with a new process
            inputs = self._inputs
            self.load(self.model)
            self._inputs = inputs

    @property
    def pid(self) -> int:
        """The emulator's process id; 0 after close."""
        return self._process.pid if self._process else 0

    def close(self) -> None:
        super().close()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._stderr.close()

    def _start(self, elf: Path) -> None:
        command = emulator_command(self._board, elf)
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the emulator runs
        with theirs:
            serial = ["-chardev", f"socket,id=serial0,fd={theirs.fileno()}", "-serial", "chardev:serial0"]
            self._process = subprocess.Popen(
                command + serial,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
                preexec_fn=_die_with_parent,
            )
        self._client = Client(SocketTransport(ours, self._why_gone), self._name)

    def _why_gone(self) -> str:
        """The line that says how the emulator ended."""
        if self._process is None:
            return f"{self._name}: it is closed"
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return f"{self._name}: the emulator closed its serial line"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self._name}: the emulator {how}" + (f": {said[-1]}" if code > 0 and said else "")


def emulator_command(target: Board, elf: Path) -> list[str]:
    """The command that starts an emulated board, without its serial line. Raises InputError when nothing emulates the
    board and ToolError when QEMU is missing."""
    if target.emulator is None:
        raise InputError(f"nothing emulates {target.name}; use serial:PORT with a real one")
    qemu = shutil.which(_QEMU)
    if not qemu:
        raise ToolError(f"qemu:{target.name} needs {_QEMU}, which is not on PATH; install qemu-system-arm")
    machine, shift = target.emulator.machine, target.emulator.icount_shift
    bare = ["-nodefaults", "-display", "none", "-monitor", "none"]
    return [qemu, "-machine", machine, *bare, "-icount", f"shift={shift}", "-kernel", str(elf)]


def _die_with_parent() -> None:
    """In the child: be killed when the parent dies, however it dies."""
    if _libc is not None:
        parent = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
