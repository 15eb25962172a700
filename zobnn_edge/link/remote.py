"""A client of gdb's remote serial protocol: what debug probes' servers (OpenOCD, pyOCD) and QEMU's stub speak.

Written to the protocol's description in gdb's manual, appendix "Remote Protocol"; of the packets it takes those that
all these servers know: g G m M c Z z ? qSupported qRcmd.
"""

from __future__ import annotations

import socket
import time
from types import TracebackType

from zobnn_edge.errors import TargetError
from zobnn_edge.link.transport import Gone

SP, LR, PC, XPSR = 13, 14, 15, 16
_ESCAPE, _RUN = ord("}"), ord("*")
_PACKET = 1024
"""Bytes of a packet that every server takes, if it does not say how many."""
_INTERRUPT = b"\x03"


class Remote:
    """A connection to a stub; connecting stops the core."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        """Connect to HOST:PORT, or to a Unix socket by its path; raises TargetError when nobody answers there."""
        self.name = f"gdb:{address}"
        self._timeout = timeout
        self._buffer = b""
        self._hardware = True
        try:
            host, colon, port = address.rpartition(":")
            if colon and port.isdigit():
                self._socket = socket.create_connection((host or "localhost", int(port)), timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout)
                self._socket.connect(address)
        except OSError as error:
            raise TargetError(f"{self.name}: no debug server answers there: {error.strerror or error}") from None
        self._packet_bytes = _PACKET
        for feature in self.ask("qSupported").split(";"):
            if feature.startswith("PacketSize="):
                self._packet_bytes = int(feature.partition("=")[2], 16)
        self.ask("?")
        self.is_qemu = bool(self.ask("qqemu.sstepbits"))

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send a command while the core stands still and return the answer; raises TargetError for none."""
        self._send(command)
        while True:
            answer = self._packet(self._timeout)
            if answer is None:
                raise TargetError(f"{self.name}: the debug server does not answer {command[:1]!r}")
            if command.startswith("?") or answer[:1] not in ("T", "S"):  # an earlier stop is no answer
                return answer

    def read(self, address: int, count: int) -> bytes:
        """Bytes of memory; raises TargetError where there is none."""
        step, data = (self._packet_bytes - 16) // 2, b""
        for at in range(0, count, step):
            answer = self.ask(f"m{address + at:x},{min(step, count - at):x}")
            if answer.startswith("E") and len(answer) == 3:
                raise TargetError(f"{self.name}: memory at 0x{address + at:08X} cannot be read ({answer})")
            data += bytes.fromhex(answer)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Change memory; raises TargetError where that fails."""
        step = (self._packet_bytes - 32) // 2
        for at in range(0, len(data), step):
            part = data[at : at + step]
            self._demand(f"M{address + at:x},{len(part):x}:{part.hex()}", f"write memory at 0x{address + at:08X}")

    def registers(self) -> list[int]:
        """The core's registers: r0 to r12, sp, lr, pc, and xpsr where the server gives it."""
        return [int.from_bytes(self._all()[i : i + 4], "little") for i in range(0, 4 * 17, 4)]

    def set_registers(self, values: dict[int, int]) -> None:
        """Change some of the core's registers, by number."""
        data = self._all()
        for number, value in values.items():
            data[4 * number : 4 * number + 4] = value.to_bytes(4, "little")
        self._demand(f"G{data.hex()}", "write registers")

    def _all(self) -> bytearray:
        data = bytearray.fromhex(self.ask("g").replace("x", "0"))  # x: of no known value
        return data + bytes(max(0, 4 * 17 - len(data)))

    def set_breakpoint(self, address: int) -> None:
        """Stop before the instruction at an address; in hardware where the server can."""
        if self._hardware and self.ask(f"Z1,{address & ~1:x},2") == "OK":
            return
        self._hardware = False
        self._demand(f"Z0,{address & ~1:x},2", "set a breakpoint")

    def clear_breakpoint(self, address: int) -> None:
        """The reverse."""
        self.ask(f"z{int(self._hardware)},{address & ~1:x},2")

    def resume(self) -> None:
        """Let the core run."""
        self._send("c")

    def wait_stop(self, timeout: float) -> bool:
        """Wait until a running core stops by itself; False when it has not after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            answer = self._packet(left)
            if answer is None:
                return False
            if answer[:1] in ("T", "S"):
                return True
            if answer[:1] in ("W", "X"):
                raise Gone(f"{self.name}: the debug server says that the target has ended")
        return False

    def stop(self) -> None:
        """Stop a running core."""
        self._socket.sendall(_INTERRUPT)
        if not self.wait_stop(self._timeout):
            raise TargetError(f"{self.name}: the core does not stop")

    def reset(self) -> None:
        """Reset the core, which stands still before, and after, before its first instruction."""
        self.monitor("system_reset" if self.is_qemu else "reset halt")

    def monitor(self, command: str) -> str:
        """A command of the server's own; returns its output."""
        self._send(f"qRcmd,{command.encode().hex()}")
        output = ""
        while True:
            answer = self._packet(self._timeout)
            if answer is None or (answer[:1] == "E" and len(answer) == 3):
                raise TargetError(f"{self.name}: the debug server refuses `monitor {command}`")
            if answer[:1] == "O" and answer != "OK":
                output += bytes.fromhex(answer[1:]).decode(errors="replace")
            elif answer[:1] not in ("T", "S"):
                return output

    def _demand(self, command: str, what: str) -> None:
        answer = self.ask(command)
        if answer != "OK":
            raise TargetError(f"{self.name}: the debug server does not {what} ({answer or 'not supported'})")

    def _send(self, command: str) -> None:
        raw = command.encode()
        try:
            self._socket.sendall(b"$" + raw + b"#%02x" % (sum(raw) & 255))
        except OSError:
            raise Gone(f"{self.name}: the debug server is gone") from None

    def _packet(self, timeout: float) -> str | None:
        """The next packet, its checksum right; None when none came in time."""
        end = time.monotonic() + timeout
        while True:
            if self._until(b"$", end) is None:
                return None
            body, check = self._until(b"#", end), self._take(2, end)
            if body is None or check is None:
                return None
            good = check.lower() == b"%02x" % (sum(body) & 255)
            self._socket.sendall(b"+" if good else b"-")
            if good:
                return _expanded(body).decode("latin-1")

    def _until(self, mark: bytes, end: float) -> bytes | None:
        while mark not in self._buffer:
            if not self._fill(end):
                return None
        body, _, self._buffer = self._buffer.partition(mark)
        return body

    def _take(self, count: int, end: float) -> bytes | None:
        while len(self._buffer) < count:
            if not self._fill(end):
                return None
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _fill(self, end: float) -> bool:
        left = end - time.monotonic()
        if left <= 0:
            return False
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        finally:
            self._socket.settimeout(self._timeout)
        if not data:
            raise Gone(f"{self.name}: the debug server is gone")
        self._buffer += data
        return True


def _expanded(body: bytes) -> bytes:
    """A packet's body without escapes and runs."""
    out, at = bytearray(), 0
    while at < len(body):
        if body[at] == _ESCAPE and at + 1 < len(body):
            out.append(body[at + 1] ^ 0x20)
            at += 2
        elif body[at] == _RUN and at + 1 < len(body) and out:
            out += out[-1:] * (body[at + 1] - 29)
            at += 2
        else:
            out.append(body[at])
            at += 1
    return bytes(out)
