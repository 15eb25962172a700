"""A real board on a serial port."""

from __future__ import annotations

from zobnn_edge.errors import TargetError
from zobnn_edge.link.client import Client, NoAnswer
from zobnn_edge.link.transport import SerialTransport
from zobnn_edge.model_file import Model
from zobnn_edge.targets.board import BoardTarget

BAUD = 115200


class SerialTarget(BoardTarget):
    """A board with the project's firmware on a serial port: COM4, /dev/ttyACM0, or a URL of pyserial."""

    def __init__(self, port: str, model: Model, baud: int = BAUD) -> None:
        """Open the port; raises TargetError when that fails, nobody answers, or the board holds another network."""
        super().__init__(f"serial:{port}")
        self._client = Client(SerialTransport(port, baud), self._name)
        try:
            self.load(model)
        except BaseException:
            self.close()
            raise

    def load(self, model: Model) -> None:
        try:
            self._connect(self._client, model)
        except NoAnswer:
            raise TargetError(f"{self._name}: nobody answers; is this the port, is the firmware flashed?") from None
