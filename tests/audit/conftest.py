"""Firmware that the audit tests share; builds are those of the boards' tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boards.conftest import inputs, model
from zobnn_edge.audit.audit import Audit, Firmware, audit_firmware
from zobnn_edge.boards import boards
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model

__all__ = ["inputs", "model"]

CORTEX_M = [name for name, board in boards().items() if board.toolchain == "arm-none-eabi"]
M4 = ["-mcpu=cortex-m4", "-mthumb"]

Compile = Callable[..., Path]


@pytest.fixture(scope="session", params=CORTEX_M)
def firmware(request: pytest.FixtureRequest, model: Model) -> Firmware:
    """The firmware of every board."""
    return Firmware.read(built(model, request.param))


@pytest.fixture(scope="session")
def audited(firmware: Firmware) -> Audit:
    """The audit of every board's firmware."""
    return audit_firmware(firmware)


@pytest.fixture(scope="session")
def an386(model: Model) -> Audit:
    """The audit of one firmware, with its network."""
    return audit_firmware(Firmware.read(built(model, "mps2-an386")), model=model)


@pytest.fixture
def compile_c(tmp_path: Path) -> Compile:
    """Makes an ELF file of a C program that is not this project's."""

    def make(source: str, *options: str, compiler: str = "arm-none-eabi-gcc", name: str = "foreign.elf") -> Path:
        (tmp_path / "program.c").write_text(source)
        out = tmp_path / name
        flags = [*M4, "-nostartfiles", "--specs=nosys.specs"] if compiler.startswith("arm") else []
        command = [compiler, *flags, "-O1", *options, "program.c", "-o", str(out)]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return out

    return make
