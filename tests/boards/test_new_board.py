"""Making a new board: it builds at once, and runs when its board.toml is true."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from zobnn_edge import boards as boards_module
from zobnn_edge import firmware
from zobnn_edge.boards import board, boards, firmware_folder, new_board
from zobnn_edge.cli.main import app
from zobnn_edge.errors import InputError
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Target, open_target

STELLARIS = """
uart_base = 0x4000C000
uart_irq = 5
uart_hz = 12_500_000
flash_origin = 0x00000000
flash_bytes = 0x40000
ram_bytes = 0x10000
"""
EMULATOR = """
[emulator]
machine = "lm3s6965evb"
icount_shift = 8
timer_hz = 12_500_000
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The boards of a copy of the firmware."""
    copy = shutil.copytree(firmware_folder(), tmp_path / "firmware")
    for module in (boards_module, firmware):
        monkeypatch.setattr(module, "firmware_folder", lambda: copy)
    boards.cache_clear()
    yield copy / "boards"
    monkeypatch.undo()
    boards.cache_clear()


@pytest.mark.parametrize(("core", "uart"), [("cortex-m0", "nrf"), ("cortex-m7", "stm32v2"), ("cortex-m33", "cmsdk")])
def test_a_new_board_builds_at_once(core: str, uart: str, model: Model, folder: Path) -> None:
    result = CliRunner().invoke(app, ["boards", "--new", "my-board", "--core", core, "--uart", uart])
    assert result.exit_code == 0, result.output
    assert f"{folder / 'my-board'}: put in" in result.output.replace("\n", "")
    assert board("my-board").core == core
    assert firmware.built(model, "my-board").exists()


def test_a_new_board_runs_when_its_description_is_true(model: Model, inputs: np.ndarray, host: Target) -> None:
    """Also a test of the driver of the PL011, which no board has that QEMU emulates."""
    file = new_board("stellaris", "cortex-m3", "pl011") / "board.toml"
    text = file.read_text()
    for line in STELLARIS.strip().splitlines():
        key = line.split(" = ")[0]
        text, count = re.subn(rf"^{key} = .*$", line, text, flags=re.M)
        assert count == 1
    file.write_text(text + EMULATOR)
    boards.cache_clear()
    with open_target("qemu:stellaris", model) as target:
        target.put_inputs(inputs)
        assert target.info.counter == "instructions"
        for _ in range(2):
            assert target.run().scores.tobytes() == host.run().scores.tobytes()
            assert target.inject(0.1, 5) == host.inject(0.1, 5)
            assert target.read() == host.read()
        target.reset()
        assert target.read() == model.image.data


@pytest.mark.parametrize(
    ("name", "core", "uart", "line"),
    [
        ("../evil", "cortex-m4", "stm32", "cannot name a board"),
        ("Board", "cortex-m4", "stm32", "cannot name a board"),
        ("b" * 24, "cortex-m4", "stm32", "cannot name a board; take up to 23"),
        ("pico", "cortex-m4", "stm32", "there is a board pico already"),
        ("new", "cortex-a9", "stm32", "there is no core cortex-a9; the cores are cortex-m0, "),
        ("new", "cortex-m4", "i2c", "no driver for a UART i2c; there are cmsdk, nrf, pl011, stm32, stm32v2"),
    ],
)
def test_a_new_board_that_makes_no_sense_is_refused(name: str, core: str, uart: str, line: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=line):
        new_board(name, core, uart)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    monkeypatch.setattr(boards_module, "uarts", lambda: ["stm32"])
    with pytest.raises(InputError, match="cannot be made: No such file"):
        new_board("new", "cortex-m4", "stm32")


def test_no_board_has_more_than_150_lines(folder: Path) -> None:
    for name in boards():
        lines = sum(len(file.read_text().splitlines()) for file in (folder / name).iterdir())
        assert lines <= 150, name
