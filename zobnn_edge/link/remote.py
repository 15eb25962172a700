"""A client of gdb's remote serial protocol: what debug probes' servers (OpenOCD, pyOCD) and QEMU's stub speak.

Written to the protocol's description in gdb's manual, appendix "Remote Protocol"; of the packets it takes those that
all these servers know: g G m M c D Z z ? qSupported qXfer qRcmd. Packets are acknowledged, as every server can.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from types import TracebackType

from zobnn_edge.errors import TargetError
from zobnn_edge.link.transport import Gone

SP, LR, PC, XPSR = 13, 14, 15, 16
_ESCAPE, _RUN = ord("}"), ord("*")
_FRAME = re.compile(rb"\$([^#]*)#([0-9A-Fa-f]{2})")
_PACKET = 1024
"""Bytes of a packet that every server takes, if it does not say how many."""
_INTERRUPT = b"\x03"
_REFUSALS = ("Error:", "unknown command")
"""What pyOCD and QEMU begin with to say that a command has failed, which they report as done."""
_PARTING = 1.0
"""Seconds that each step of an orderly end may take."""


class Remote:
    """A connection to a stub; connecting stops the core."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        """Connect to HOST:PORT, or to a Unix socket by its path.

        Raises TargetError when nobody answers there, or when what is read would be pyOCD's cache, not the memory.
        """
        self.name = f"gdb:{address}"
        self._timeout = timeout
        self._buffer = b""
        self._breakpoints: dict[int, int] = {}
        self._running = False
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
        for feature in self.ask("qSupported:xmlRegisters=arm").split(";"):
            if feature.startswith("PacketSize="):
                self._packet_bytes = int(feature.partition("=")[2], 16)
            elif feature == "qXfer:features:read+":  # QEMU leaves out registers that the core has not, once asked
                self.ask("qXfer:features:read:target.xml:0,100")
        self.ask("?")
        self.is_qemu = bool(self.ask("qqemu.sstepbits"))
        if not self.is_qemu and "True" in self._output("show option cache.enable_memory"):
            self.close()
            raise TargetError(f"{self.name}: pyOCD reads its own cache; start it with -O cache.enable_memory=false")

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the core to run on from where it is, without breakpoints, and close the connection."""
        self._timeout = _PARTING
        with suppress(TargetError):
            if self._running:
                self.stop()
            self.clear_breakpoints()
            self._send("D")
            self._packet(self._timeout)
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send a command while the core stands still and return the answer; raises TargetError for none."""
        self._send(command)
        while True:
            answer = self._packet(self._timeout)
            if answer is None:
                raise TargetError(f"{self.name}: the debug server does not answer {command[:1]!r}")
            earlier_stop = answer[:1] in ("T", "S") and command != "?"
            if not earlier_stop and not _is_talk(answer):
                return answer

    def read(self, address: int, count: int) -> bytes:
        """Bytes of memory; raises TargetError where there is none, if the server says so (OpenOCD where told to)."""
        most, data = (self._packet_bytes - 16) // 2, b""
        while len(data) < count:  # a server may give less than is asked for
            at = address + len(data)
            answer = self.ask(f"m{at:x},{min(most, count - len(data)):x}")
            if not answer or _is_error(answer):
                raise TargetError(f"{self.name}: memory at 0x{at:08X} cannot be read ({answer or 'no answer'})")
            data += self._bytes(answer)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Change memory; raises TargetError where that fails."""
        step = (self._packet_bytes - 32) // 2
        for at in range(0, len(data), step):
            part = data[at : at + step]
            self._demand(f"M{address + at:x},{len(part):x}:{part.hex()}", f"write memory at 0x{address + at:08X}")

    def registers(self) -> list[int]:
        """The core's registers: r0 to r12, sp, lr, pc, and xpsr where the server gives it."""
        data = self._all()
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, 4 * 17, 4)]

    def set_registers(self, values: dict[int, int]) -> None:
        """Change some of the core's registers, by number."""
        data = self._all()
        for number, value in values.items():
            data[4 * number : 4 * number + 4] = value.to_bytes(4, "little")
        self._demand(f"G{data.hex()}", "write registers")

    def _all(self) -> bytearray:
        data = bytearray(self._bytes(self.ask("g").replace("x", "0")))  # x: of no known value
        return data + bytes(max(0, 4 * 17 - len(data)))

    def set_breakpoint(self, address: int) -> None:
        """Stop before the instruction at an address; in hardware where the server can."""
        at = address & ~1
        if at in self._breakpoints:
            return
        in_hardware = self.ask(f"Z1,{at:x},2") == "OK"
        if not in_hardware:
            self._demand(f"Z0,{at:x},2", "set a breakpoint")
        self._breakpoints[at] = int(in_hardware)

    def clear_breakpoint(self, address: int) -> None:
        """The reverse."""
        at = address & ~1
        self._demand(f"z{self._breakpoints.pop(at)},{at:x},2", "clear a breakpoint")

    def clear_breakpoints(self) -> None:
        """All that were set."""
        for address in list(self._breakpoints):
            self.clear_breakpoint(address)

    def resume(self) -> None:
        """Let the core run."""
        self._send("c")
        self._running = True

    def wait_stop(self, timeout: float) -> bool:
        """Wait until a running core stops by itself; False when it has not after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            answer = self._packet(left)
            if answer is None:
                return False
            if answer[:1] in ("T", "S"):
                self._running = False
                return True
            if answer[:1] in ("W", "X"):
                raise Gone(f"{self.name}: the debug server says that the target has ended")
        return False

    def stop(self) -> None:
        """Stop a running core."""
        self._put(_INTERRUPT)
        if not self.wait_stop(self._timeout):
            raise TargetError(f"{self.name}: the core does not stop")

    def reset(self) -> None:
        """Reset the core, which stands still before, and after, before its first instruction."""
        self.monitor("system_reset" if self.is_qemu else "reset halt")

    def monitor(self, command: str) -> str:
        """A command of the server's own; returns its output. Raises TargetError where it is refused."""
        self._send(f"qRcmd,{command.encode().hex()}")
        output = ""
        while True:
            answer = self._packet(self._timeout)
            if not answer or _is_error(answer):
                break
            if _is_talk(answer):
                output += self._bytes(answer[1:]).decode(errors="replace")
            elif answer[:1] not in ("T", "S"):
                if answer != "OK":  # but the output itself, as pyOCD has it
                    output += self._bytes(answer).decode(errors="replace")
                if output.startswith(_REFUSALS):
                    break
                return output
        reason = " ".join(output.split()) or answer or "no answer"
        raise TargetError(f"{self.name}: the debug server refuses `monitor {command}`: {reason}")

    def _output(self, command: str) -> str:
        """The output of a command that the server may not know."""
        try:
            return self.monitor(command)
        except TargetError:
            return ""

    def _bytes(self, answer: str) -> bytes:
        try:
            return bytes.fromhex(answer)
        except ValueError:
            raise TargetError(f"{self.name}: the debug server answers {answer[:20]!r} where bytes should be") from None

    def _demand(self, command: str, what: str) -> None:
        answer = self.ask(command)
        if answer != "OK":
            raise TargetError(f"{self.name}: the debug server does not {what} ({answer or 'not supported'})")

    def _send(self, command: str) -> None:
        raw = command.encode()
        self._put(b"$" + raw + b"#%02x" % (sum(raw) & 255))

    def _put(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise Gone(f"{self.name}: the debug server is gone") from None

    def _packet(self, timeout: float) -> str | None:
        """The next packet, its checksum right; None when none came in time."""
        end = time.monotonic() + timeout
        while True:
            found = _FRAME.search(self._buffer)
            if not found:
                if not self._fill(end):
                    return None
                continue
            self._buffer = self._buffer[found.end() :]
            good = int(found[2], 16) == sum(found[1]) & 255
            self._put(b"+" if good else b"-")
            if good:
                return _expanded(found[1]).decode("latin-1")

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


def _is_error(answer: str) -> bool:
    return (answer[:1] == "E" and len(answer) == 3) or answer.startswith("E.")


def _is_talk(answer: str) -> bool:
    """What the server has to say to a user, in the middle of anything."""
    return answer[:1] == "O" and answer != "OK"


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
