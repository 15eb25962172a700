"""A network in firmware that knows nothing of faults, through a debug probe's server.

The firmware need only call the engine's `zob_run`. The probe stops it there: the arguments say where image, input and
scores lie. Every inference begins anew from that point, with the registers as they were, on inputs that the probe
writes, and ends where `zob_run` returns to.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from zobnn_edge import engine
from zobnn_edge.boards import board
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.faults.space import Addresses
from zobnn_edge.files import read_bytes
from zobnn_edge.firmware import built
from zobnn_edge.format import INPUT_FORMATS
from zobnn_edge.link.client import REGISTERS, NoAnswer, Refused, Restarted
from zobnn_edge.link.remote import LR, PC, SP, XPSR, Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets.base import Flip, RunResult, Target, TargetInfo, checked_inputs, checked_ranges
from zobnn_edge.targets.board import HANG_FACTOR, HANG_SECONDS, RUN_TIMEOUT
from zobnn_edge.targets.emulated import emulator_command
from zobnn_edge.targets.process import die_with_parent

_ENTRY, _AGENT = "zob_run", "network_run"
_BOOT_SECONDS = 20.0
_VTOR, _CFSR = 0xE000ED08, 0xE000ED28
_HARD_FAULT = 3
_IPSR = 0x1FF
_KEEPS = "keeps its value; does the image lie in flash?"


@dataclass(frozen=True)
class _Call:
    """The call of zob_run at which the firmware was stopped: registers, and what its arguments point at."""

    registers: list[int]
    image: int
    input: int
    format: int
    scores: int


class ProbeTarget(Target):
    """Firmware with the engine, behind a debug server: QEMU's stub, OpenOCD, pyOCD. Counts nothing."""

    def __init__(self, place: str, model: Model) -> None:
        """`place`: HOST:PORT,FW.elf with the firmware that runs there; or an emulated board's name, which is started
        with the project's firmware, whose agent is not made use of.

        Raises InputError for another place and a file that is no firmware with the engine, and TargetError when nobody
        answers, the firmware does not call the engine, or holds another network.
        """
        self._name = f"gdb:{place}"
        self._place = place
        self._emulator: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._remote: Remote | None = None
        self._inputs: InputArray = np.empty((0, 0), np.float32)
        try:
            self.load(model)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> TargetInfo:
        where = self._place.partition(",")[0]
        return TargetInfo(self._name, where, "nothing", memory_address=self._call.image, firmware=self._firmware)

    def load(self, model: Model) -> None:
        self._inputs = np.empty((0, int(np.prod(model.network.input_shape))), np.float32)
        self._seconds: float | None = None
        self._begin(model)

    def _begin(self, model: Model) -> None:
        """Bring the firmware to its call of the engine; what was put with `put_inputs` stays."""
        self.close()
        address, comma, file = self._place.partition(",")
        if ":" in address and not file:
            raise InputError(f"{self._name}: which firmware runs there? gdb:{address},FW.elf says so")
        elf = Path(file) if comma else built(model, self._place)
        data = read_bytes(elf)
        self._symbols = symbols(elf)
        self._firmware = hashlib.sha256(data).hexdigest()
        self._remote = Remote(address if comma else self._start(elf))
        self.model = model
        self._call = self._reach_call()
        if self.read() != model.image.data:
            raise TargetError(f"{self._name}: its firmware holds another network than {model.network.name}")

    def _start(self, elf: Path) -> str:
        """Start the emulated board, stopped before its first instruction; returns the path of its stub's socket."""
        self._folder = tempfile.TemporaryDirectory(prefix="zobnn-")
        path = str(Path(self._folder.name) / "gdb")
        stub = ["-S", "-chardev", f"socket,id=gdb0,path={path},server=on,wait=off", "-gdb", "chardev:gdb0"]
        command = [*emulator_command(board(self._place), elf), *stub, "-serial", "null"]
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        self._emulator = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=self._stderr, preexec_fn=die_with_parent
        )
        deadline = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < deadline and self._emulator.poll() is None:
            with socket.socket(socket.AF_UNIX) as trial:
                if Path(path).exists() and trial.connect_ex(path) == 0:
                    break
            time.sleep(0.01)
        return path

    @property
    def _gdb(self) -> Remote:
        if self._remote is None:
            raise TargetError(f"{self._name}: it is closed")
        return self._remote

    def _reach_call(self) -> _Call:
        """Reset the firmware and let it run until it calls the engine."""
        gdb, entry = self._gdb, self._symbols[_ENTRY]
        gdb.clear_breakpoints()
        gdb.reset()
        gdb.set_breakpoint(entry)
        reached = False
        if _AGENT in self._symbols:  # this project's own, which waits for requests
            self._call_agent(gdb)
            reached = gdb.wait_stop(_BOOT_SECONDS)
        else:
            gdb.resume()
            reached = gdb.wait_stop(_BOOT_SECONDS)
        if not reached:
            raise TargetError(f"{self._name}: the firmware does not call {_ENTRY} within {_BOOT_SECONDS:g} s")
        gdb.clear_breakpoint(entry)
        registers = gdb.registers()
        format_, _, _, scores = struct.unpack("<4I", gdb.read(registers[SP], 16))
        if registers[2] != len(self.model.image.data):
            raise TargetError(f"{self._name}: its firmware holds another network than {self.model.network.name}")
        gdb.set_breakpoint(registers[LR])
        self._fault_handler = int.from_bytes(gdb.read(self._vectors() + 4 * _HARD_FAULT, 4), "little")
        gdb.set_breakpoint(self._fault_handler)
        return _Call(registers, registers[1], registers[3], format_, scores)

    def _call_agent(self, gdb: Remote) -> None:
        """Let the agent boot until it waits, then go where it would go on a RUN."""
        ready = self._symbols["board_wait"]
        gdb.set_breakpoint(ready)
        gdb.resume()
        if not gdb.wait_stop(_BOOT_SECONDS):
            raise TargetError(f"{self._name}: the firmware does not boot")
        gdb.clear_breakpoint(ready)
        at = self._symbols["inputs_begin"]
        gdb.set_registers({0: at, 1: INPUT_FORMATS["float32"], LR: ready | 1, PC: self._symbols[_AGENT] & ~1})
        gdb.resume()

    def _vectors(self) -> int:
        return int.from_bytes(self._gdb.read(_VTOR, 4), "little")

    def put_inputs(self, inputs: InputArray) -> None:
        x = checked_inputs(self.model.network, inputs).copy()
        if x.dtype == np.uint8 and self._call.format == INPUT_FORMATS["float32"]:
            x = self.model.network.pixels.apply(x)
        if x.dtype == np.float32 and self._call.format != INPUT_FORMATS["float32"]:
            raise InputError(f"{self._name}: its firmware takes 8-bit inputs; give these")
        self._inputs, self._seconds = x, None

    def run_plainly(self) -> RunResult:
        self._seconds = None
        begin = time.monotonic()
        result = self.run()
        if len(self._inputs):
            self._seconds = (time.monotonic() - begin) / len(self._inputs)
        return result

    def run(self) -> RunResult:
        scores = np.empty((len(self._inputs), self.model.network.outputs), np.float32)
        for i, x in enumerate(self._inputs):
            scores[i] = self._infer(x.tobytes())
        return RunResult(scores, None)

    def _infer(self, data: bytes) -> FloatArray:
        gdb, call = self._gdb, self._call
        gdb.write(call.input, data)
        gdb.set_registers(dict(enumerate(call.registers[:16])))
        gdb.resume()
        limit = RUN_TIMEOUT if self._seconds is None else HANG_SECONDS + HANG_FACTOR * self._seconds
        if not gdb.wait_stop(limit):
            gdb.stop()
            self._report_hang()
        registers = gdb.registers()
        if registers[PC] & ~1 == self._fault_handler & ~1:
            self._report_fault(registers)
        if registers[PC] & ~1 != call.registers[LR] & ~1:
            self._report_stop(registers)
        if registers[0]:
            raise Refused(f"{self._name}: the engine refuses to run (status {registers[0]})", "engine", registers[0])
        return np.frombuffer(gdb.read(call.scores, 4 * self.model.network.outputs), "<f4").astype(np.float32)

    def _report_hang(self) -> None:
        """Unless it has come to its end while it was being stopped."""
        pc = self._gdb.registers()[PC]
        if pc & ~1 != self._call.registers[LR] & ~1:
            raise NoAnswer(f"{self._name}: the inference does not end; stopped at 0x{pc:08X}")

    def _report_stop(self, registers: list[int]) -> None:
        """A breakpoint instruction, which would be a fault if nobody debugged."""
        held = dict(zip(REGISTERS, registers, strict=True))
        raise Restarted(f"{self._name}: the core has stopped by itself at 0x{held['pc']:08X}", _HARD_FAULT, held)

    def _report_fault(self, registers: list[int]) -> None:
        """At the first instruction of the fault handler: what the core has stacked lies at sp."""
        held = dict(zip(REGISTERS, registers, strict=True))
        status = int.from_bytes(self._gdb.read(_CFSR, 4), "little")
        try:
            stacked = struct.unpack("<8I", self._gdb.read(registers[SP], 32))
            held.update(zip(("r0", "r1", "r2", "r3", "r12", "lr", "pc", "xpsr"), stacked, strict=True))
        except TargetError:
            held["pc"] = 0
        exception = registers[XPSR] & _IPSR or _HARD_FAULT
        line = f"{self._name}: exception {exception} at 0x{held['pc']:08X}, status {status:08X}"
        raise Restarted(line, exception, held)

    def flip(self, addresses: Iterable[int]) -> list[Flip]:
        wanted = list(addresses)
        for address in wanted:
            self.model.image.locate(address)
        flips = []
        for address in wanted:
            at = self._call.image + address // 8
            old = self._gdb.read(at, 1)[0]
            new = old ^ 1 << address % 8
            self._gdb.write(at, bytes([new]))
            if self._gdb.read(at, 1)[0] != new:
                raise TargetError(f"{self._name}: memory at 0x{at:08X} {_KEEPS}")
            flips.append(Flip(address, old, new))
        return flips

    def invert(self, addresses: Addresses) -> int:
        memory = np.frombuffer(self.read(), np.uint8).copy()
        np.bitwise_xor.at(memory, addresses // 8, (1 << (addresses % 8)).astype(np.uint8))
        self._write_image(memory.tobytes())
        return len(addresses)

    def inject(self, rate: float, seed: int, regions: Sequence[str] | None = None) -> int:
        ranges = checked_ranges(self.model, regions)
        memory = bytearray(self.read())
        flips = engine.inject(memory, ranges, rate, seed)
        self._write_image(bytes(memory))
        return flips

    def _write_image(self, data: bytes) -> None:
        self._gdb.write(self._call.image, data)
        if self.read() != data:
            raise TargetError(f"{self._name}: memory at 0x{self._call.image:08X} {_KEEPS}")

    def restore(self) -> int:
        self._write_image(self.model.image.data)
        return self.model.image.crc

    def read(self) -> bytes:
        return self._gdb.read(self._call.image, len(self.model.image.data))

    def reset(self) -> None:
        try:
            self._call = self._reach_call()
        except TargetError:  # also the debug server may have gone: begin anew
            self._begin(self.model)
        self.restore()

    def close(self) -> None:
        if self._remote:
            with suppress(TargetError):
                self._remote.reset()  # what is left behind has no bit flipped
            self._remote.close()
            self._remote = None
        if self._emulator:
            self._emulator.kill()
            self._emulator.wait()
            self._emulator = None
            self._stderr.close()
        if self._folder:
            self._folder.cleanup()
            self._folder = None


def symbols(elf: Path) -> dict[str, int]:
    """The addresses of an ELF file's symbols; raises InputError where it is none, or the engine is not among them."""
    try:
        with elf.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".symtab")
            listed = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
            found = {symbol.name: int(symbol["st_value"]) for symbol in listed}
    except Exception as error:
        raise InputError(f"{elf}: not an ELF file ({error})") from None
    if _ENTRY not in found:
        raise InputError(f"{elf}: has no symbol {_ENTRY}: firmware without the engine, or stripped of its symbols")
    return found
