"""Boards of real parts in the simulator LabWired, whose models know clocks that QEMU does not: `pip install labwired`.

Its cores (0.25) lack some instructions of the FPU and of the M4's DSP extension (USADA8), and give other results for
position-independent code (a wrong CRC-32, where the same firmware is right in QEMU). Its UARTs raise no interrupt for
what they are sent: with a byte in the port (RXNE), RXNEIE set and the line on in the NVIC, nothing becomes pending on
an STM32, and the RP2040's has no interrupt at all. So the firmware is built for an M3 where the part has an M4, and for
one place, and looks at the port where it would wait for the interrupt; all else is as on the part.
"""

from __future__ import annotations

import shutil
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cobs import cobs

from zobnn_edge import boards as boards_module
from zobnn_edge import firmware
from zobnn_edge.boards import firmware_folder
from zobnn_edge.errors import TargetError
from zobnn_edge.link.client import Client
from zobnn_edge.link.messages import CRC_BYTES, FRAME_HEADER, READY, READY_TYPE
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Target
from zobnn_edge.targets.board import BoardTarget

labwired = pytest.importorskip("labwired")

CHIPS = {
    "pico": ("rp2040", "uart0"),
    "stm32f407-discovery": ("stm32f407", "uart2"),
    "nucleo-l476rg": ("stm32l476", "uart2"),
}
M4, M3 = "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16", "-mcpu=cortex-m3 -mthumb -mfloat-abi=soft"


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The firmware's sources with an M3 for an M4, code for one place, and a polled port."""
    folder = shutil.copytree(firmware_folder(), tmp_path / "firmware")
    for name in CHIPS:
        file = folder / "boards" / name / "board.toml"
        file.write_text(file.read_text().replace(M4, M3))
    engine = folder / "engine" / "CMakeLists.txt"
    engine.write_text(engine.read_text().replace("POSITION_INDEPENDENT_CODE ON", "POSITION_INDEPENDENT_CODE OFF"))
    uart = folder / "boards" / "common" / "uart.c"
    asleep = "if (ring.head == ring.tail) wait_for_interrupt();"
    assert uart.read_text().count(asleep) == 1
    uart.write_text(uart.read_text().replace(asleep, "uart_interrupt();"))
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


class Line:
    """The serial line of a simulated board, whose time goes on while somebody waits for bytes."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim

    def write(self, data: bytes) -> None:
        self.sim.send_bytes(data)

    def read(self, timeout: float) -> bytes:
        end, data = time.monotonic() + timeout, b""
        while not data and time.monotonic() < end:
            self.sim.run_for("1ms")
            data = bytes(self.sim.read_uart_bytes())
        return data

    def pulse_reset(self) -> None:
        raise TargetError("a simulated board has no reset line")

    def close(self) -> None:
        self.sim.close()


class SimulatedTarget(BoardTarget):
    """A board in the simulator."""

    def __init__(self, name: str, model: Model) -> None:
        super().__init__(name)
        self.load(model)

    def _begin(self, model: Model) -> None:
        chip, uart = CHIPS[self._name]
        line = Line(labwired.Sim(str(firmware.built(model, self._name)), chip=chip, uart=uart))
        client = Client(line, self._name, timeout=20.0)
        assert client.wait_ready(20.0)
        self._connect(client, model)


@pytest.mark.parametrize("name", CHIPS)
def test_a_part_runs_the_network_and_flips_bits(
    name: str, model: Model, inputs: np.ndarray, host: Target, plain: None
) -> None:
    with SimulatedTarget(name, model) as part:
        assert part.info.board == name
        for target in (part, host):
            target.put_inputs(inputs[:1])
        assert part.run().scores.tobytes() == host.run().scores.tobytes()
        assert part.inject(0.05, 3) == host.inject(0.05, 3)
        assert part.flip([5]) == host.flip([5])
        assert part.read() == host.read()
        assert part.run().scores.tobytes() == host.run().scores.tobytes()
        assert part.restore() == model.image.crc
