"""A place that goes away in mid-run: exit code 2, one clear line, no output file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.networks import binary_chain
from zobnn_edge import model_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_file.save(binary_chain(1), tmp_path / "net.zob")
    np.save(tmp_path / "many.npy", np.zeros((5000, 8, 8, 1), np.uint8))
    return tmp_path


def predict(folder: Path, target: str) -> subprocess.Popen[str]:
    arguments = ["predict", "net.zob", "--inputs", "many.npy", "-o", "y.npy", "--target", target]
    command = [sys.executable, "-m", "zobnn_edge.cli.main", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def assert_clear_end(process: subprocess.Popen[str], folder: Path, message: str) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert message in err
    assert sorted(p.name for p in folder.iterdir()) == ["many.npy", "net.zob"]


def emulator_of(process: subprocess.Popen[str]) -> int:
    """The process id of the emulator that a command has started, once it runs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(3000):
        for child in children.read_text().split():
            try:
                if "qemu-system-arm" in Path(f"/proc/{child}/cmdline").read_text():
                    return int(child)
            except FileNotFoundError:
                continue
        time.sleep(0.02)
    raise AssertionError("the emulator was not started")


def test_emulator_killed(folder: Path) -> None:
    process = predict(folder, "qemu:mps2-an386")
    pid = emulator_of(process)
    time.sleep(1)  # into the upload or the run
    os.kill(pid, signal.SIGKILL)
    assert_clear_end(process, folder, "qemu:mps2-an386: the emulator was ended by SIGKILL")


def test_port_gone(folder: Path) -> None:
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    process = predict(folder, f"serial:{name}")
    os.read(ours, 1)  # the first request has arrived
    os.close(theirs)
    os.close(ours)
    assert_clear_end(process, folder, name)


def test_interrupted(folder: Path) -> None:
    process = predict(folder, "qemu:mps2-an386")
    emulator_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "zobnn: interrupted\n")
    assert not (folder / "y.npy").exists()
