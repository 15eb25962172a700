"""The firmware as a process of this machine, with a network built into it."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from zobnn_edge.boards import board
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Options
from zobnn_edge.targets.process import ProcessTarget


class NativeTarget(ProcessTarget):
    """The firmware of the board `native`: all of it but the hardware, at the speed of this machine. Counts nothing."""

    def __init__(self, model: Model, options: Options = Options()) -> None:  # noqa: B008 - it is frozen
        """Raises as ProcessTarget does."""
        super().__init__("native", "the process", board("native"), model, options)

    def _launch(self, elf: Path, line: socket.socket) -> subprocess.Popen[bytes]:
        return self._spawn([str(elf)], line.fileno())
