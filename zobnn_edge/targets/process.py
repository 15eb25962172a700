"""A board that is a process of this machine: starting it, its serial line, its end."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from zobnn_edge.boards import Board
from zobnn_edge.errors import TargetError
from zobnn_edge.firmware import built
from zobnn_edge.link.client import Client
from zobnn_edge.link.transport import Gone, Lockup, SocketTransport
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Options
from zobnn_edge.targets.board import BoardTarget

_BOOT_TIMEOUT = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ProcessTarget(BoardTarget):
    """A process that runs the firmware and ends when this object is closed, or when the thread that opened it ends."""

    def __init__(self, name: str, what: str, target: Board, model: Model, options: Options) -> None:
        """Build the firmware of `target` and start it; errors call the target `name` and the process `what`.

        Raises ToolError when a tool is missing or the network does not fit, TargetError when it does not come up."""
        super().__init__(name, options)
        self._what = what
        self._board = target
        self._process: subprocess.Popen[bytes] | None = None
        self.load(model)

    @abstractmethod
    def _launch(self, elf: Path, line: socket.socket) -> subprocess.Popen[bytes]:
        """Start the process by `_spawn`, with `line` as the board's serial line."""

    def _begin(self, model: Model) -> None:
        elf = built(model, self._board.name, self._options.plan_in_ram)
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

    def _ladder(self) -> list[tuple[str, Callable[[], None]]]:
        return [*super()._ladder(), ("new process", lambda: self._begin(self.model))]

    @property
    def pid(self) -> int:
        """The process id; 0 after close."""
        return self._process.pid if self._process else 0

    def close(self) -> None:
        super().close()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._stderr.close()

    def _start(self, elf: Path) -> None:
        ours, theirs = socket.socketpair()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        with theirs:
            self._process = self._launch(elf, theirs)
        counters = self._client.counters if hasattr(self, "_client") else None
        self._client = Client(SocketTransport(ours, self._why_gone), self._name, counters=counters)

    def _spawn(self, command: Sequence[str], stdio: int, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start a command with stdin and stdout at a descriptor."""
        return subprocess.Popen(
            command, stdin=stdio, stdout=stdio, stderr=self._stderr, pass_fds=inherited, preexec_fn=die_with_parent
        )

    def _why_gone(self) -> Gone:
        """How the process ended, in a line. QEMU aborts when the core locks up."""
        if self._process is None:
            return Gone(f"{self._name}: it is closed")
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return Gone(f"{self._name}: {self._what} closed its serial line")
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lockup = next((line for line in said if "Lockup" in line), None)
        if code == -signal.SIGABRT and lockup:
            return Lockup(f"{self._name}: {self._what} {how}: {lockup}")
        return Gone(f"{self._name}: {self._what} {how}" + (f": {said[-1]}" if code > 0 and said else ""))


def die_with_parent() -> None:
    """In the child: be killed when the parent dies, however it dies."""
    if _libc is not None:
        parent = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
