"""Streams of bytes to a board: a socket (the emulator's serial line) or a serial port."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from zobnn_edge.errors import TargetError

_PULSE_SECONDS, _WRITE_SECONDS = 0.1, 10.0


class Gone(TargetError):
    """The other end of the line went away."""


class Lockup(Gone):
    """The emulator ended because the emulated core locked up: a fault that it could not even handle."""


class Transport(Protocol):
    """A stream of bytes in both directions."""

    def write(self, data: bytes) -> None:
        """Send all of `data`; raises Gone when the other end is gone."""

    def read(self, timeout: float) -> bytes:
        """What has arrived, waiting at most `timeout` seconds for a first byte; b"" if none came. Raises Gone."""

    def pulse_reset(self) -> None:
        """Pull the board's reset line; raises TargetError when there is none."""

    def close(self) -> None:
        """Give the line back; it is not used afterwards."""


class SocketTransport:
    """One end of a connected socket; `why_gone` is asked for what became of the other end."""

    def __init__(self, connection: socket.socket, why_gone: Callable[[], Gone]) -> None:
        self._socket = connection
        self._why_gone = why_gone

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise self._why_gone() from None

    def read(self, timeout: float) -> bytes:
        try:
            ready, _, _ = select.select([self._socket], [], [], timeout)
            if not ready:
                return b""
            data = self._socket.recv(65536)
        except OSError:
            raise self._why_gone() from None
        if not data:
            raise self._why_gone()
        return data

    def pulse_reset(self) -> None:
        raise TargetError("a socket has no reset line")

    def close(self) -> None:
        self._socket.close()


class SerialTransport:
    """A serial port by name: COM4, /dev/ttyACM0, or a URL of pyserial (socket://host:port, rfc2217://host:port)."""

    def __init__(self, port: str, baud: int) -> None:
        """Open the port; raises TargetError when that fails."""
        import serial  # only who talks to a board waits for it

        self._name = port
        self._errors = (serial.SerialException, OSError)
        patience = None if port.lower().startswith("rfc2217:") else _WRITE_SECONDS  # which has no such thing
        try:
            self._serial = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=patience)
        except (serial.SerialException, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise TargetError(f"{port}: the serial port cannot be opened: {reason}") from None

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except self._errors as error:
            raise Gone(f"{self._name}: the serial port is gone ({error})") from None

    def read(self, timeout: float) -> bytes:
        try:
            self._serial.timeout = timeout
            first: bytes = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except self._errors as error:
            raise Gone(f"{self._name}: the serial port is gone ({error})") from None

    def pulse_reset(self) -> None:
        """RTS and DTR low and high again: which of them resets, if any does, is a matter of the board's wiring."""
        try:
            for level in (True, False):
                self._serial.rts = self._serial.dtr = level
                time.sleep(_PULSE_SECONDS)
        except (*self._errors, NotImplementedError) as error:
            raise TargetError(f"{self._name}: has no reset line ({error})") from None

    def close(self) -> None:
        self._serial.close()
