"""The stack's high-water mark in emulation: paint it before the first instruction, look what was overwritten."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zobnn_edge.audit.audit import Firmware
from zobnn_edge.errors import TargetError
from zobnn_edge.firmware import built
from zobnn_edge.link.messages import READ
from zobnn_edge.link.remote import Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets import emulated, open_target
from zobnn_edge.targets.board import BoardTarget

PAINT = 0xA5
_PIECE = 1024


def _connected(path: Path) -> Remote:
    """A connection, as soon as the emulator listens."""
    end = time.monotonic() + 10
    while True:
        try:
            return Remote(str(path))
        except TargetError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@dataclass(frozen=True)
class Use:
    """What a board did: bytes of stack from its first instruction on, and what it said of itself (HELLO)."""

    stack: int
    hello: dict[str, Any]


def use(model: Model, board: str, inputs: np.ndarray) -> Use:
    """Start a board on a painted stack, have it run the inputs, inject, flip, restore and read parameters."""
    labels = Firmware.read(built(model, board)).elf.labels
    bottom, top = labels["stack_bottom"], labels["stack_top"]
    pieces = [(at, min(_PIECE, top - at)) for at in range(bottom, top, _PIECE)]
    done = threading.Event()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "gdb"
        debugger = ["-S", "-chardev", f"socket,id=gdb0,path={path},server=on,wait=off", "-gdb", "chardev:gdb0"]
        plain = emulated.emulator_command
        patch.setattr(emulated, "emulator_command", lambda *a: plain(*a) + debugger)

        def paint_and_start() -> None:
            with _connected(path) as gdb:
                for at, size in pieces:
                    gdb.write(at, bytes([PAINT]) * size)
                gdb.resume()
                done.wait()

        thread = threading.Thread(target=paint_and_start, daemon=True)
        thread.start()
        try:
            with open_target(f"qemu:{board}", model) as target:
                assert isinstance(target, BoardTarget)
                target.put_inputs(inputs)
                target.run()
                target.inject(1e-3, 1)
                target.restore()
                target.flip([0])
                target.restore()
                target._read(READ, "offset", 0, min(_PIECE, len(model.image.data)))
                hello = target._hello
                done.set()
                thread.join()
                with Remote(str(path)) as gdb:
                    stack = b"".join(gdb.read(at, size) for at, size in pieces)
        finally:
            done.set()
    return Use(len(stack.lstrip(bytes([PAINT]))), hello)
