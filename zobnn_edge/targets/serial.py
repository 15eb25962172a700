"""A real board on a serial port."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from zobnn_edge import ports
from zobnn_edge.boards import Board, boards
from zobnn_edge.errors import InputError, TargetError, ToolError
from zobnn_edge.link.client import Client, NoAnswer
from zobnn_edge.link.transport import SerialTransport
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Options
from zobnn_edge.targets.board import BoardTarget

BAUD = 115200
_BOOT_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_POWER_SECONDS = 120.0
"""How long the command that takes the power away and gives it back may take."""


class SerialTarget(BoardTarget):
    """A board with the project's firmware on a serial port: COM4, /dev/ttyACM0, or a URL of pyserial."""

    def __init__(self, port: str, model: Model, options: Options = Options(), baud: int = BAUD) -> None:  # noqa: B008
        """Open the port; raises TargetError when that fails, nobody answers, or the board holds another network."""
        super().__init__(f"serial:{port}", options)
        self._port, self._baud = port, baud
        self._client = Client(SerialTransport(port, baud), self._name)
        try:
            self.load(model)
        except BaseException:
            self.close()
            raise

    def _begin(self, model: Model) -> None:
        try:
            self._connect(self._client, model)
        except NoAnswer:
            raise TargetError(f"{self._name}: nobody answers; is this the port, is the firmware flashed?") from None

    def _ladder(self) -> list[tuple[str, Callable[[], None]]]:
        steps = [*super()._ladder(), ("reset line", self._pull_reset)]
        known = boards().get(self.info.board)
        if known and known.probe:
            steps.append(("probe reset", lambda: self._reset_by_probe(known)))
        if self._options.power_cycle:
            steps.append(("power cycle", self._cycle_power))
        return steps

    def _pull_reset(self) -> None:
        self._client.pulse_reset()
        self._client.wait_ready(_BOOT_SECONDS)  # whether the line is wired is shown by the HELLO that follows

    def _reset_by_probe(self, known: Board) -> None:
        """By the probe whose serial port this is; by the only one where the port is not a USB device's."""
        from zobnn_edge import flash

        mine = [port.serial_number for port in ports.usb_ports() if port.device == self._port]
        try:
            flash.flash([flash.reset(known, mine[0] if mine else None)], lambda text: None)
        except (InputError, ToolError) as error:
            raise TargetError(str(error)) from None
        self._client.wait_ready(_BOOT_SECONDS)

    def _cycle_power(self) -> None:
        """Run the user's command; the port may go away and come back meanwhile."""
        command = self._options.power_cycle
        assert command is not None
        self._client.close()
        try:
            subprocess.run(command, shell=True, check=True, capture_output=True, timeout=_POWER_SECONDS)
        except subprocess.SubprocessError as error:
            raise TargetError(f"{self._name}: the power-cycle command failed: {error}") from None
        self._open_again(time.monotonic() + _BOOT_SECONDS)

    def _open_again(self, deadline: float) -> None:
        """Open the port and wait for the board's first frame; once more whenever the port goes away, until then."""
        counters = self._client.counters
        while True:
            try:
                self._client = Client(SerialTransport(self._port, self._baud), self._name, counters=counters)
                self._client.wait_ready(max(0.0, deadline - time.monotonic()))
                return
            except TargetError:
                self._client.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
