"""A board behind pyserial's URLs, a desk's length away: socket:// and rfc2217://, noise, and the ladder of recovery."""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import serial
from serial.rfc2217 import PortManager

from zobnn_edge import flash
from zobnn_edge.boards import board
from zobnn_edge.errors import TargetError
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Options, open_target
from zobnn_edge.targets import board as board_module
from zobnn_edge.targets import serial as serial_module
from zobnn_edge.targets.board import BoardTarget

TEXT = b"[boot] supply ok\r\n"


class Wires(serial.serial_for_url("loop://", do_not_open=True).__class__):  # type: ignore[misc]
    """The port that an RFC 2217 server has: only its RTS line leads somewhere."""

    desk: Desk

    @property
    def rts(self) -> bool:
        return bool(self._rts_state)

    @rts.setter
    def rts(self, value: bool) -> None:
        falls = getattr(self, "_rts_state", False) and not value
        self._rts_state = value
        if falls and hasattr(self, "desk") and self.desk.wired:
            self.desk.power()


class Desk:
    """The firmware as a process, and a server on a TCP port that is its serial line."""

    def __init__(self, elf: Path, rfc2217: bool, wired: bool) -> None:
        self.elf, self.wired, self.noise = elf, wired, b""
        self._rfc2217 = rfc2217
        self._process: subprocess.Popen[bytes] | None = None
        self.power()
        self._listener = socket.create_server(("127.0.0.1", 0))
        number = self._listener.getsockname()[1]
        self.url = f"{'rfc2217' if rfc2217 else 'socket'}://127.0.0.1:{number}"
        threading.Thread(target=self._serve, daemon=True).start()

    def power(self) -> None:
        """Off and on; the line breaks."""
        self.end()
        self._start()

    def reset(self) -> None:
        """The line stays."""
        before = self._process
        self._start()
        assert before
        before.kill()
        before.wait()

    def _start(self) -> None:
        self._line, theirs = socket.socketpair()
        self._process = subprocess.Popen([str(self.elf)], stdin=theirs, stdout=theirs)
        theirs.close()

    def button(self, path: Path, act: Callable[[], None]) -> str:
        """A file, quoted for a shell: what is written to it is `pressed`, and makes it act once."""
        os.mkfifo(path)

        def wait() -> None:
            self.pressed = path.read_text()
            act()

        threading.Thread(target=wait, daemon=True).start()
        return shlex.quote(str(path))

    def hang(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, suppress(OSError):  # the board lost its power: so does the line
                self._carry(peer)

    def _carry(self, peer: socket.socket) -> None:
        manager = None
        if self._rfc2217:
            wires = Wires("loop://", timeout=0)
            wires.desk = self
            manager = PortManager(wires, Peer(peer))
        while True:
            line = self._line
            ready, _, _ = select.select([peer, line], [], [], 0.1)
            if peer in ready:
                data = peer.recv(4096)
                if not data:
                    return
                data = b"".join(manager.filter(data)) if manager else data
                if line is self._line:  # the request may have been to reset
                    line.sendall(data)
            if line in ready and line is self._line:
                data = self.noise + line.recv(4096)
                peer.sendall(b"".join(manager.escape(data)) if manager else data)


class Peer:
    """A socket as a PortManager wants it."""

    def __init__(self, peer: socket.socket) -> None:
        self.write = peer.sendall


@pytest.fixture
def desk(request: pytest.FixtureRequest, model: Model) -> Iterator[Desk]:
    made = Desk(built(model, "native"), *request.param)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(serial_module, "_BOOT_SECONDS", 1.0)


either = pytest.mark.parametrize("desk", [(False, False), (True, False)], indirect=True, ids=["socket", "rfc2217"])


@either
def test_a_session_over_a_url_with_text_on_the_line(desk: Desk, model: Model, inputs: np.ndarray) -> None:
    desk.noise = TEXT
    with open_target(f"serial:{desk.url}", model) as target, open_target("host", model) as host:
        for t in (target, host):
            t.put_inputs(inputs)
            t.inject(0.01, 1)
        assert target.run().scores.tobytes() == host.run().scores.tobytes()
        assert target.read() == host.read()
        target.reset()
        assert target.read() == model.image.data
        assert isinstance(target, BoardTarget)
        assert target.counters.bad_frames > 0
        assert target.counters.resets == 1


@pytest.mark.parametrize("desk", [(True, True)], indirect=True)
def test_a_hung_board_is_brought_back_by_its_reset_line(desk: Desk, model: Model, inputs: np.ndarray) -> None:
    with open_target(f"serial:{desk.url}", model) as target:
        target.put_inputs(inputs)
        golden = target.run().scores
        desk.hang()
        assert target.recover() == "reset line"
        assert target.run().scores.tobytes() == golden.tobytes()


@pytest.mark.parametrize("desk", [(False, False)], indirect=True)
@pytest.mark.parametrize("tool", ["openocd", "st-flash", "none"])
def test_without_a_reset_line_the_debug_probe_resets(
    desk: Desk, tool: str, model: Model, inputs: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board as if a Nucleo, whose probe's tool is a script that presses a button; without a tool that is said."""
    (tmp_path / tool).write_text(f'#!/bin/sh\necho "$@" > {desk.button(tmp_path / "button", desk.reset)}\n')
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(flash, "find_spec", lambda name: None)
    monkeypatch.setattr(serial_module, "boards", lambda: {"native": board("nucleo-f446re")})
    with open_target(f"serial:{desk.url}", model) as target:
        target.put_inputs(inputs)
        golden = target.run().scores
        desk.hang()
        if tool == "none":
            with pytest.raises(TargetError, match=r"probe reset: the debug probe of nucleo-f446re needs a tool: pip"):
                target.recover()
            return
        assert target.recover() == "probe reset"
        assert "reset" in desk.pressed
        assert target.run().scores.tobytes() == golden.tobytes()


@pytest.mark.parametrize("desk", [(False, False)], indirect=True)
def test_without_a_reset_line_power_is_the_last_means(
    desk: Desk, model: Model, inputs: np.ndarray, tmp_path: Path
) -> None:
    options = Options(power_cycle=f"echo off and on > {desk.button(tmp_path / 'switch', desk.power)}")
    with open_target(f"serial:{desk.url}", model, options) as target:
        target.put_inputs(inputs)
        golden = target.run().scores
        desk.hang()
        assert target.recover() == "power cycle"
        assert target.run().scores.tobytes() == golden.tobytes()


@pytest.mark.parametrize("desk", [(False, False)], indirect=True)
def test_what_nothing_brings_back_is_one_line_with_all_that_was_tried(desk: Desk, model: Model) -> None:
    with open_target(f"serial:{desk.url}", model, Options(power_cycle="false")) as target:
        desk.hang()
        tried = r"nothing brings it back \(reset command: .*reset line: .*power cycle: .*command failed.*\)$"
        with pytest.raises(TargetError, match=tried):
            target.recover()
