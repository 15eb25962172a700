"""The stack's high-water mark in emulation: paint it before the first instruction, look what was overwritten."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from zobnn_edge.audit.audit import Firmware
from zobnn_edge.errors import TargetError
from zobnn_edge.firmware import built
from zobnn_edge.link.remote import Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets import emulated, open_target

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


def high_water_mark(model: Model, board: str, inputs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of stack that a board used: to start, to run the inputs, to inject, flip, restore and read."""
    labels = Firmware.read(built(model, board)).elf.labels
    bottom, top = labels["stack_bottom"], labels["stack_top"]
    pieces = range(bottom, top, _PIECE)
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
        path = Path(folder) / "gdb"
        debugger = ["-S", "-chardev", f"socket,id=gdb0,path={path},server=on,wait=off", "-gdb", "chardev:gdb0"]
        plain = emulated.emulator_command
        patch.setattr(emulated, "emulator_command", lambda *a: plain(*a) + debugger)
        done = threading.Event()

        def paint_and_start() -> None:
            with _connected(path) as gdb:
                for at in pieces:
                    gdb.write(at, bytes([PAINT]) * min(_PIECE, top - at))
                gdb.resume()
                done.wait()

        thread = threading.Thread(target=paint_and_start, daemon=True)
        thread.start()
        try:
            with open_target(f"qemu:{board}", model) as target:
                target.put_inputs(inputs)
                target.run()
                target.inject(1e-3, 1)
                target.flip([0])
                target.run()
                target.restore()
                target.read()
                done.set()
                thread.join()
                with Remote(str(path)) as gdb:
                    data = b"".join(gdb.read(at, min(_PIECE, top - at)) for at in pieces)
        finally:
            done.set()
    return len(data.lstrip(bytes([PAINT])))
