"""Boards that are processes: their end, and what faults of the firmware itself look like from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.boards.conftest import EVERY_CORE, FEW
from tests.networks import Author, dyadic_inputs, thresholds
from zobnn_edge.boards import board
from zobnn_edge.errors import TargetError, ToolError
from zobnn_edge.firmware import built
from zobnn_edge.link.client import Restarted
from zobnn_edge.link.remote import PC, SP, Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Target, emulated, open_target, process
from zobnn_edge.targets.emulated import EmulatedTarget, emulator_command
from zobnn_edge.targets.process import ProcessTarget

specs = pytest.mark.parametrize("spec", FEW)


def run_for_ever(target: Target) -> NoReturn:
    while True:
        target.run()


def gone(pid: int) -> bool:
    """True when the process ends within five seconds."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


@specs
def test_closing_ends_the_process(spec: str, model: Model) -> None:
    target = open_target(spec, model)
    assert isinstance(target, ProcessTarget)
    pid = target.pid
    target.close()
    target.close()
    assert gone(pid)


@specs
def test_a_process_killed_during_a_run_is_one_clear_line(spec: str, model: Model) -> None:
    with open_target(spec, model) as target:
        assert isinstance(target, ProcessTarget)
        pixels = np.zeros((200, *model.network.input_shape), np.uint8)
        target.put_inputs(pixels)
        target.run()
        threading.Timer(0.2, os.kill, (target.pid, signal.SIGKILL)).start()
        with pytest.raises(TargetError, match=f"^{spec}: the (emulator|process) was ended by SIGKILL$"):
            run_for_ever(target)


def test_an_emulator_that_refuses_to_start_says_why(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    command = emulator_command(board("mps2-an386"), Path("x.elf"))
    monkeypatch.setattr(emulated, "emulator_command", lambda *_: [*command, "-no-such-option"])
    with pytest.raises(TargetError, match=r"^qemu:mps2-an386: the emulator ended with exit code 1: .*no-such-option"):
        open_target("qemu:mps2-an386", model)


@specs
def test_a_reset_brings_a_killed_process_back(spec: str, model: Model) -> None:
    with open_target(spec, model) as target, open_target("host", model) as host:
        assert isinstance(target, ProcessTarget)
        for t in (target, host):
            t.put_inputs(dyadic_inputs(model.network, 2))
        os.kill(target.pid, signal.SIGKILL)
        target.reset()
        assert target.run().scores.tobytes() == host.run().scores.tobytes()


def test_firmware_that_does_not_boot_is_one_clear_line(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_BOOT_TIMEOUT", 0.5)
    elf = built(model, "netduinoplus2")
    monkeypatch.setattr(process, "built", lambda *_: elf)
    with pytest.raises(TargetError, match=r"qemu:mps2-an386: (the firmware does not boot|the emulator .*)"):
        open_target("qemu:mps2-an386", model)


def test_without_an_emulator_the_way_out_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = built(model, "mps2-an386")
    monkeypatch.setattr(process, "built", lambda *_: elf)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"needs qemu-system-arm, which is not on PATH; install qemu-system-arm"):
        open_target("qemu:mps2-an386", model)


def test_the_emulator_dies_with_its_parent() -> None:
    program = (
        "import os, signal\n"
        "from tests.networks import thresholds\n"
        "from zobnn_edge.model_file import Model\n"
        "from zobnn_edge.targets import open_target\n"
        "target = open_target('qemu:mps2-an386', Model.of(thresholds()))\n"
        "print(target.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert gone(int(done.stdout))


def test_instruction_counts_are_the_same_in_a_new_process_and_on_another_board_of_the_core() -> None:
    """Their timers run at different rates and wrap around at different times."""
    a = Author((20, 20, 8)).sign().conv(96, 1)
    for _ in range(2):
        a.affine().sign().conv(96, 5, padding="same")
    long = Model.of(a.affine().sign().dense(4).network())
    counts = []
    for name in ("mps2-an386", "mps2-an386", "netduinoplus2"):
        with open_target(f"qemu:{name}", long) as target:
            target.put_inputs(np.zeros((1, *long.network.input_shape), np.uint8))
            counts.append(target.run().instructions)
    assert len(set(counts)) == 1, "same core, same code, same count"
    assert counts[0] is not None
    assert counts[0] > 3 * (1 << 24) / 2.688, "too short: both timers wrap around equally often"


@pytest.fixture(params=EVERY_CORE)
def probed(
    request: pytest.FixtureRequest, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[EmulatedTarget, Remote]]:
    """A board with a debugger on it."""
    path = tmp_path / "gdb"
    debugger = ["-chardev", f"socket,id=gdb0,path={path},server=on,wait=off", "-gdb", "chardev:gdb0"]
    plain = emulator_command
    monkeypatch.setattr(emulated, "emulator_command", lambda *a: plain(*a) + debugger)
    with open_target(request.param, model) as target:
        assert isinstance(target, EmulatedTarget)
        with Remote(str(path)) as gdb:
            yield target, gdb


SYSTEM_REGION = 0xE000E010  # the registers of SysTick: no code can be executed there


def test_a_fault_is_recorded_and_reported_after_the_restart(
    probed: tuple[EmulatedTarget, Remote], model: Model
) -> None:
    target, gdb = probed
    gdb.set_registers({PC: SYSTEM_REGION})
    gdb.resume()
    with pytest.raises(Restarted, match="exception 3 at 0xE000E010") as caught:
        target.status()
    assert caught.value.exception == 3
    target.reset()
    assert target.info.boots == 3
    assert target.read() == model.image.data


def test_a_fault_with_the_stack_pointer_gone_is_no_lockup(probed: tuple[EmulatedTarget, Remote]) -> None:
    target, gdb = probed
    gdb.set_registers({SP: 0x70000000})
    gdb.set_registers({PC: SYSTEM_REGION})
    gdb.resume()
    with pytest.raises(Restarted, match="exception 3 at 0x00000000"):
        target.status()


def test_a_stack_overflow_is_a_fault_and_reaches_no_parameter(
    probed: tuple[EmulatedTarget, Remote], model: Model
) -> None:
    target, gdb = probed
    gdb.set_registers({SP: target._board.ram.origin + 8})
    gdb.resume()
    with pytest.raises(Restarted, match="exception 3 at"):
        target.status()
    target.reset()
    assert target.read() == model.image.data


def test_the_reported_address_is_where_the_image_lies(probed: tuple[EmulatedTarget, Remote], model: Model) -> None:
    target, gdb = probed
    address = target.info.memory_address
    assert gdb.read(address, 64) == model.image.data[:64]
    gdb.write(address + 3, bytes([model.image.data[3] ^ 0x10]))
    gdb.resume()
    assert target.read() == model.image.flipped([8 * 3 + 4]).data


@pytest.fixture
def port(model: Model) -> Iterator[str]:
    """An emulated board whose serial line is a TCP port, as a stand-in for a real board on a serial port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    command = emulator_command(board("mps2-an386"), built(model, "mps2-an386"))
    line = f"socket,id=s0,host=127.0.0.1,port={number},server=on,wait=off,nodelay=on"
    emulator = subprocess.Popen([*command, "-chardev", line, "-serial", "chardev:s0"], stderr=subprocess.DEVNULL)
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                break
        time.sleep(0.01)
    yield f"serial:socket://127.0.0.1:{number}"
    emulator.kill()
    emulator.wait()


def test_a_serial_board_runs_as_the_host_does(port: str, model: Model) -> None:
    x = dyadic_inputs(model.network, 3)
    with open_target(port, model) as target, open_target("host", model) as host:
        for t in (target, host):
            t.put_inputs(x)
            t.inject(0.01, 1)
        assert target.run().scores.tobytes() == host.run().scores.tobytes()
        target.reset()
        assert target.read() == model.image.data


def test_a_serial_board_with_another_network_is_refused(port: str) -> None:
    other = Model.of(thresholds(bits=None))
    with pytest.raises(TargetError, match="its firmware holds another network than test; build and flash it again"):
        open_target(port, other)


def test_nobody_on_a_serial_port_is_one_clear_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zobnn_edge.link.client.Client.__init__.__defaults__", (0.02, 2, None))
    board_end, host_end = os.openpty()
    try:
        with pytest.raises(TargetError, match="nobody answers; is this the port, is the firmware flashed"):
            open_target(f"serial:{os.ttyname(host_end)}", model)
    finally:
        os.close(board_end)
        os.close(host_end)
