"""As much of a debugger's remote protocol as the tests need to break things from outside."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType


class Gdb:
    """A connection to a gdbstub on a Unix socket; connecting stops the machine."""

    SP, PC = 13, 15

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._buffer = b""
        self.ask("qSupported")

    def __enter__(self) -> Gdb:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send a command and return the answer; that the machine stopped is none."""
        self._send(command)
        while (answer := self._packet()).startswith("T"):
            pass
        return answer

    def read(self, address: int, count: int) -> bytes:
        """Bytes of memory."""
        return bytes.fromhex(self.ask(f"m{address:x},{count:x}"))

    def write(self, address: int, data: bytes) -> None:
        """Change memory."""
        assert self.ask(f"M{address:x},{len(data):x}:{data.hex()}") == "OK"

    def set_register(self, number: int, value: int) -> None:
        """Change a core register."""
        registers = bytearray(bytes.fromhex(self.ask("g")))
        registers[4 * number : 4 * number + 4] = value.to_bytes(4, "little")
        assert self.ask(f"G{registers.hex()}") == "OK"

    def resume(self) -> None:
        """Let the machine go on."""
        self._send("c")

    def _send(self, command: str) -> None:
        raw = command.encode()
        self._socket.sendall(b"$" + raw + b"#%02x" % (sum(raw) & 255))

    def _packet(self) -> str:
        while self._byte() != b"$":
            pass
        packet = b""
        while (byte := self._byte()) != b"#":
            packet += byte
        for _ in range(2):
            self._byte()  # a checksum; a Unix socket damages nothing
        self._socket.sendall(b"+")
        return packet.decode()

    def _byte(self) -> bytes:
        if not self._buffer:
            self._buffer = self._socket.recv(65536)
            assert self._buffer, "the debugger's connection closed"
        byte, self._buffer = self._buffer[:1], self._buffer[1:]
        return byte
