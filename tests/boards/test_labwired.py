"""Boards of real parts in the simulator LabWired, whose models know clocks that QEMU does not: `pip install labwired`.

Its cores (0.25) lack some instructions of the FPU, and give other results for position-independent code (a wrong
CRC-32, where the same firmware is right in QEMU). So the firmware is built without either, and READY is looked at: that
the board gets there with a right CRC shows that it starts the clocks, which the firmware waits for, and that its serial
line sends. Requests are not answered there.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs

from zobnn_edge import boards as boards_module
from zobnn_edge import firmware
from zobnn_edge.boards import firmware_folder
from zobnn_edge.link.messages import CRC_BYTES, FRAME_HEADER, READY, READY_TYPE
from zobnn_edge.model_file import Model

labwired = pytest.importorskip("labwired")

CHIPS = {
    "pico": ("rp2040", "uart0"),
    "stm32f407-discovery": ("stm32f407", "uart2"),
    "nucleo-l476rg": ("stm32l476", "uart2"),
}
FPU = "-mfloat-abi=hard -mfpu=fpv4-sp-d16"


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The firmware's sources with boards that do not use their FPU, and code for one place."""
    folder = shutil.copytree(firmware_folder(), tmp_path / "firmware")
    for name in CHIPS:
        file = folder / "boards" / name / "board.toml"
        file.write_text(file.read_text().replace(FPU, "-mfloat-abi=soft"))
    engine = folder / "engine" / "CMakeLists.txt"
    engine.write_text(engine.read_text().replace("POSITION_INDEPENDENT_CODE ON", "POSITION_INDEPENDENT_CODE OFF"))
    for module in (boards_module, firmware):
        monkeypatch.setattr(module, "firmware_folder", lambda: folder)


@pytest.mark.parametrize("name", CHIPS)
def test_a_part_starts_its_clocks_and_says_that_it_is_ready(name: str, model: Model, plain: None) -> None:
    chip, uart = CHIPS[name]
    with labwired.Sim(str(firmware.built(model, name)), chip=chip, uart=uart) as sim:
        sent = b""
        for _ in range(50):
            sim.run_for("2ms")
            sent += bytes(sim.read_uart_bytes())
            if sent.count(b"\0") == 2:
                break
    begin, frame, end = sent.split(b"\0")
    raw = bytes(cobs.decode(frame))
    assert (begin, end) == (b"", b"")
    assert zlib.crc32(raw[:-CRC_BYTES]) == int.from_bytes(raw[-CRC_BYTES:], "little")
    assert FRAME_HEADER.unpack(raw)["type"] == READY_TYPE
    ready = READY.unpack(raw, FRAME_HEADER.size)
    assert ready.pop("boots") == 1
    assert not any(np.ravel(value).any() for value in ready.values()), "no fault"
