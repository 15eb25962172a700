"""The debug port of a Cortex-M4, made of QEMU's stub: real debug servers take it for a part on the end of a cable.

`DebugPort` is what lies behind a JTAG or SWD plug: a debug port with one MEM-AP (Arm's Debug Interface architecture,
version 5), behind it `Core`, the debug registers and the breakpoint unit of the ARMv7-M architecture (its manual,
chapter C1). Both servers reach it over TCP: OpenOCD by `bitbang`, the pins of a JTAG plug in its remote_bitbang
protocol; pyOCD by `remote_probe`, the protocol by which it shares probes between machines.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from zobnn_edge.errors import TargetError
from zobnn_edge.link.remote import PC, SP, Remote

_FPB, _SYSTEM, _ROM_TABLE = 0xE0002000, 0xE000E000, 0xE00FF000
_AIRCR, _DFSR, _DHCSR, _DCRSR, _DCRDR, _DEMCR = 0xE000ED0C, 0xE000ED30, 0xE000EDF0, 0xE000EDF4, 0xE000EDF8, 0xE000EDFC
_COMPARATORS = 6
_MSP = 17
_HALTED, _BREAKPOINT, _VECTOR_CATCH = 1, 2, 8

_ENTRIES = [0xFFF0F003, 0xFFF03003, 0]  # of the ROM table: system control space and breakpoint unit, by offset
_IDENTITIES = {  # the last 12 words of a component's 4 KB: what it is, and by whom
    _FPB: (4, 0, 0, 0, 0x03, 0xB0, 0x2B, 0x00, 0x0D, 0xE0, 0x05, 0xB1),
    _SYSTEM: (4, 0, 0, 0, 0x0C, 0xB0, 0x0B, 0x00, 0x0D, 0xE0, 0x05, 0xB1),
    _ROM_TABLE: (4, 0, 0, 0, 0xC4, 0xB4, 0x0B, 0x00, 0x0D, 0x10, 0x05, 0xB1),
}


class _Stub(Remote):
    def step(self) -> None:
        self._send("s")
        self.wait_stop(5)


class Core:
    """The memory of an emulated board, with the debug registers that QEMU does not have."""

    def __init__(self, stub: str) -> None:
        """`stub`: HOST:PORT of QEMU's stub."""
        self._stub = _Stub(stub)
        self._running = False
        self._registers: list[int] | None = None
        self._control = self._catches = self._reasons = self._data = 0
        self._was_reset = False
        self.resets = 0
        self._comparators = [0] * _COMPARATORS
        self._breakpoints: set[int] = set()

    def close(self) -> None:
        self._stub.close()

    def read(self, address: int, size: int) -> int:
        word = self._read_register(address & ~3)
        if word is not None:
            return word >> 8 * (address & 3) & (1 << 8 * size) - 1
        with self._standing():
            return int.from_bytes(self._stub.read(address, size), "little")

    def write(self, address: int, size: int, value: int) -> None:
        if not self._write_register(address, value):
            with self._standing():
                self._stub.write(address, value.to_bytes(size, "little"))

    def _read_register(self, address: int) -> int | None:
        """A word of what is not QEMU's."""
        self._look()
        page, offset = address & ~0xFFF, address & 0xFFF
        if page in _IDENTITIES and offset >= 0xFD0:
            return _IDENTITIES[page][offset - 0xFD0 >> 2]
        if page in (_FPB, _ROM_TABLE):
            words = _ENTRIES if page == _ROM_TABLE else [_COMPARATORS << 4 | 1, 0, *self._comparators]
            return words[offset >> 2] if offset >> 2 < len(words) else 0
        if address == _DHCSR:
            status = self._control & 0xF | 1 << 16 | (not self._running) << 17 | self._was_reset << 25
            self._was_reset = False
            return status
        return {_DFSR: self._reasons, _DCRSR: 0, _DCRDR: self._data, _DEMCR: self._catches}.get(address)

    def _write_register(self, address: int, value: int) -> bool:
        """False where it is QEMU's."""
        if address & ~0xFFF == _FPB:
            index = (address - _FPB >> 2) - 2
            if 0 <= index < _COMPARATORS:
                self._comparators[index] = value
                self._set_breakpoints()
        elif address == _DHCSR:
            self._set_control(value)
        elif address == _DCRSR:
            self._transfer(value & 0x7F, write=bool(value & 1 << 16))
        elif address == _DCRDR:
            self._data = value
        elif address == _DEMCR:
            self._catches = value
        elif address == _DFSR:
            self._reasons &= ~value
        elif address == _AIRCR and value & 5:
            self._reset()
        else:
            return False
        return True

    def _look(self) -> None:
        """Has it come to a breakpoint?"""
        if self._running and self._stub.wait_stop(0.0005):
            self._running, self._reasons = False, self._reasons | _BREAKPOINT

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """QEMU's stub serves memory only while the core stands still."""
        self._look()
        if not self._running:
            yield
            return
        self._stub.stop()
        try:
            yield
        finally:
            self._go_on()

    def _go_on(self) -> None:
        """As before, unless it stood at a breakpoint when it was stopped."""
        if self._stub.registers()[PC] in self._breakpoints:
            self._running, self._reasons = False, self._reasons | _BREAKPOINT
        else:
            self._stub.resume()

    def _set_breakpoints(self) -> None:
        """Version 1 of the unit: bits 28:2 of an address, and which halfword of the two."""
        wanted = {c & 0x1FFFFFFC | (c >> 31) << 1 for c in self._comparators if c & 1}
        with self._standing():
            for address in self._breakpoints - wanted:
                self._stub.clear_breakpoint(address)
            for address in wanted - self._breakpoints:
                self._stub.set_breakpoint(address)
            self._breakpoints = wanted

    def _set_control(self, value: int) -> None:
        if value >> 16 != 0xA05F:
            return
        self._look()
        self._control = value
        halt, step = value & 2, value & 4
        if halt and self._running:
            self._stub.stop()
            self._running, self._reasons = False, self._reasons | _HALTED
        elif not halt and not self._running:
            self._put_registers()
            if step:
                self._stub.step()
                self._reasons |= _HALTED
            else:
                self._resume()

    def _resume(self) -> None:
        self._registers = None
        self._stub.resume()
        self._running = True

    def _transfer(self, number: int, *, write: bool) -> None:
        """One of the core's registers from or to DCRDR; those of no consequence here are zero."""
        if self._registers is None:
            self._registers = self._stub.registers()
        number = SP if number == _MSP else number
        if number >= len(self._registers):
            self._data = 0
        elif write:
            self._registers[number] = self._data
        else:
            self._data = self._registers[number]

    def _put_registers(self) -> None:
        if self._registers is not None:
            self._stub.set_registers(dict(enumerate(self._registers)))
        self._registers = None

    def _reset(self) -> None:
        if self._running:
            self._stub.stop()
        self._running, self._registers, self._was_reset = False, None, True
        self.resets += 1
        self._stub.reset()
        if self._catches & 1:
            self._reasons |= _VECTOR_CATCH
        else:
            self._resume()


class DebugPort:
    """The registers that a debug adapter reads and writes: those of the port, and of its access port 0."""

    JTAG_ID = 0x4BA00477
    _SWD_ID, _ACCESS_ID = 0x2BA01477, 0x24770011

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._select = self._control = self._result = 0
        self._csw, self._tar = 2, 0
        self.failed = False
        """An access has failed since this was last cleared (STICKYERR)."""

    def read_port(self, address: int) -> int:
        if address == 0:
            return self._SWD_ID
        if address == 4:
            powered = (self._control & 0x50000000) << 1  # as soon as it is asked for
            return self._control | powered | self.failed << 5
        return self._result if address == 12 else 0

    def write_port(self, address: int, value: int) -> None:
        if address == 0:
            self.failed &= not value & 4
        elif address == 4:
            self._control = value & 0x54000000
            self.failed &= not value & 0x20
        elif address == 8:
            self._select = value

    def read_access(self, address: int) -> int:
        """A register of the selected access port, in the selected bank."""
        with self._access():
            self._result = 0
            self._result = self._read_access(self._select & 0xF0 | address & 0xC)
        return self._result

    @contextmanager
    def _access(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except TargetError:
                self.failed = True

    def _read_access(self, register: int) -> int:
        if self._select >> 24:
            return 0
        match register:
            case 0x00:
                return self._csw
            case 0x04:
                return self._tar
            case 0x0C:
                at = self._next()
                return self._core.read(at, self._size) << 8 * (at & 3)
            case 0x10 | 0x14 | 0x18 | 0x1C:
                return self._core.read(self._tar & ~0xF | register & 0xC, 4)
            case 0xF8:
                return _ROM_TABLE | 3
            case 0xFC:
                return self._ACCESS_ID
        return 0

    def write_access(self, address: int, value: int) -> None:
        """The same, written."""
        register = self._select & 0xF0 | address & 0xC
        with self._access():
            if register == 0x00:
                packed = value & 0x30 == 0x20
                self._csw = value & 0x23000017 & ~(0x30 if packed else 0) | 0x40
            elif register == 0x04:
                self._tar = value
            elif register == 0x0C:
                at = self._next()
                self._core.write(at, self._size, value >> 8 * (at & 3) & (1 << 8 * self._size) - 1)
            elif register & 0xF0 == 0x10:
                self._core.write(self._tar & ~0xF | register & 0xC, 4, value)

    @property
    def _size(self) -> int:
        return 1 << (self._csw & 3)

    def _next(self) -> int:
        """The address of this access; the next one's may be that behind it, of which a Cortex-M4 counts up 12 bits."""
        at = self._tar
        if self._csw & 0x30:
            self._tar = at & ~0xFFF | at + self._size & 0xFFF
        return at


_STATES = {  # of a JTAG tap: what follows, by TMS
    "reset": ("idle", "reset"),
    "idle": ("idle", "select dr"),
    "select dr": ("capture dr", "select ir"),
    "capture dr": ("shift dr", "exit1 dr"),
    "shift dr": ("shift dr", "exit1 dr"),
    "exit1 dr": ("pause dr", "update dr"),
    "pause dr": ("pause dr", "exit2 dr"),
    "exit2 dr": ("shift dr", "update dr"),
    "update dr": ("idle", "select dr"),
    "select ir": ("capture ir", "reset"),
    "capture ir": ("shift ir", "exit1 ir"),
    "shift ir": ("shift ir", "exit1 ir"),
    "exit1 ir": ("pause ir", "update ir"),
    "pause ir": ("pause ir", "exit2 ir"),
    "exit2 ir": ("shift ir", "update ir"),
    "update ir": ("idle", "select dr"),
}


class Tap:
    """A debug port behind JTAG: a register of instructions of 4 bits, those of data of 1, 32 or 35."""

    _DPACC, _APACC, _IDCODE = 0b1010, 0b1011, 0b1110
    _OK = 0b010

    def __init__(self, port: DebugPort) -> None:
        self._port = port
        self._state = "reset"
        self._instruction = self._IDCODE
        self._shifted, self._length, self._result = 0, 1, 0

    @property
    def tdo(self) -> int:
        return self._shifted & 1

    def clock(self, tms: int, tdi: int) -> None:
        """A rising edge."""
        if self._state in ("shift dr", "shift ir"):
            self._shifted = self._shifted >> 1 | tdi << self._length - 1
        self._state = _STATES[self._state][tms]
        match self._state:
            case "reset":
                self._instruction = self._IDCODE
            case "capture ir":
                self._shifted, self._length = 1, 4
            case "update ir":
                self._instruction = self._shifted
            case "capture dr":
                self._capture()
            case "update dr" if self._instruction in (self._DPACC, self._APACC):
                self._access()

    def _capture(self) -> None:
        if self._instruction == self._IDCODE:
            self._shifted, self._length = self._port.JTAG_ID, 32
        elif self._instruction in (self._DPACC, self._APACC):
            self._shifted, self._length = self._result << 3 | self._OK, 35
        else:
            self._shifted, self._length = 0, 1

    def _access(self) -> None:
        """What is read comes with the next capture."""
        is_read, address, data = self._shifted & 1, (self._shifted >> 1 & 3) << 2, self._shifted >> 3
        to_port = self._instruction == self._DPACC
        if is_read:
            self._result = self._port.read_port(address) if to_port else self._port.read_access(address)
        elif to_port:
            self._port.write_port(address, data)
        else:
            self._port.write_access(address, data)


def bitbang(port: DebugPort) -> int:
    """Serve the pins of a debug port's JTAG plug to one client of OpenOCD's remote_bitbang; returns the TCP port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener, Tap(port)), daemon=True).start()
    return int(listener.getsockname()[1])


def _serve(listener: socket.socket, tap: Tap) -> None:
    with listener, listener.accept()[0] as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clock = 0
        while data := peer.recv(65536):
            answer = bytearray()
            for letter in data:
                if ord("0") <= letter <= ord("7"):
                    pins = letter - ord("0")
                    if pins & 4 and not clock:
                        tap.clock(pins >> 1 & 1, pins & 1)
                    clock = pins & 4
                elif letter == ord("R"):
                    answer.append(ord("0") + tap.tdo)
            peer.sendall(answer)


def remote_probe(port: DebugPort) -> int:
    """Serve a debug port as pyOCD's own remote probes are served, to one client; returns the TCP port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve_probe, args=(listener, port), daemon=True).start()
    return int(listener.getsockname()[1])


_TRANSFER_FAULT = 12
_PROPERTIES = {
    "vendor_name": "zobnn-edge",
    "product_name": "emulated debug port",
    "capabilities": [],
    "supported_wire_protocols": ["DEFAULT", "SWD"],
    "wire_protocol": "SWD",
}


def _until_reset(lines: Iterable[str]) -> Iterator[str]:
    """A server that is killed does not say goodbye."""
    with suppress(ConnectionResetError):
        yield from lines


def _serve_probe(listener: socket.socket, port: DebugPort) -> None:
    """Requests and replies are lines of JSON. What has no meaning here is answered with nothing."""
    requests: dict[str, Callable[..., object]] = {
        "readprop": _PROPERTIES.get,
        "read_dp": port.read_port,
        "write_dp": port.write_port,
        "read_ap": port.read_access,
        "write_ap": port.write_access,
        "read_ap_multiple": lambda address, count=1: [port.read_access(address) for _ in range(count)],
        "write_ap_multiple": lambda address, values: [port.write_access(address, v) for v in values] and None,
        "is_reset_asserted": lambda: False,
    }
    with listener, listener.accept()[0] as peer, peer.makefile("r") as lines:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for line in _until_reset(lines):
            asked = json.loads(line)
            do = requests.get(asked["request"], lambda *_: None)
            failed, port.failed = port.failed, False
            reply = {"id": asked["id"], "status": 0, "result": do(*asked.get("arguments", ()))}
            if port.failed:
                reply |= {"status": _TRANSFER_FAULT, "error": "no memory there"}
            port.failed |= failed
            peer.sendall(json.dumps(reply).encode() + b"\n")
