"""The firmware's frame code, compiled for this machine."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass

import pytest

from zobnn_edge.boards import firmware_folder
from zobnn_edge.link.messages import CRC_BYTES, FRAME_HEADER, MAX_PAYLOAD

MAX_FRAME = FRAME_HEADER.size + MAX_PAYLOAD + CRC_BYTES
MAX_COBS = MAX_FRAME + MAX_FRAME // 254 + 1
LEAD = 8


class Receiver(ctypes.Structure):
    """struct frame_receiver"""

    _fields_ = [
        ("bytes", ctypes.c_uint8 * MAX_COBS),
        ("length", ctypes.c_uint32),
        ("good", ctypes.c_uint32),
        ("bad", ctypes.c_uint32),
        ("canary", ctypes.c_uint32),
    ]


class CFrame(ctypes.Structure):
    """struct frame"""

    _fields_ = [
        ("version", ctypes.c_uint8),
        ("type", ctypes.c_uint8),
        ("sequence", ctypes.c_uint16),
        ("length", ctypes.c_uint16),
        ("reserved", ctypes.c_uint16),
        ("payload", ctypes.POINTER(ctypes.c_uint8)),
    ]


@dataclass
class FrameCode:
    """The C functions; `good` and `bad` are the counters after the last `receive`."""

    code: ctypes.CDLL
    good: int = 0
    bad: int = 0

    def finish(self, kind: int, sequence: int, payload: bytes) -> bytes:
        """The bytes on the wire that the firmware makes of a payload; fails when it writes outside its buffer."""
        size = LEAD + FRAME_HEADER.size + len(payload) + CRC_BYTES
        buffer = (ctypes.c_uint8 * (size + 4))(*([0xAA] * (size + 4)))
        ctypes.memmove(ctypes.addressof(buffer) + LEAD + FRAME_HEADER.size, payload, len(payload))
        wire = self.code.frame_finish(buffer, kind, sequence, len(payload))
        assert bytes(buffer[size:]) == b"\xaa" * 4
        assert wire <= size
        return bytes(buffer[:wire])

    def receive(self, stream: bytes) -> list[tuple[int, int, int, bytes]]:
        """(version, type, sequence, payload) of the frames the firmware finds; fails when it writes outside."""
        receiver, frame, found = Receiver(canary=0x5AFE5AFE), CFrame(), []
        for byte in stream:
            if self.code.frame_receive(ctypes.byref(receiver), byte, ctypes.byref(frame)):
                payload = bytes(frame.payload[: frame.length])
                found.append((frame.version, frame.type, frame.sequence, payload))
            assert receiver.canary == 0x5AFE5AFE
        self.good, self.bad = receiver.good, receiver.bad
        return found


@pytest.fixture(scope="session")
def frame_code(tmp_path_factory: pytest.TempPathFactory) -> FrameCode:
    firmware = firmware_folder()
    built = tmp_path_factory.mktemp("frame") / "frame.so"
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover"]
    sources = [firmware / "agent" / "frame.c", firmware / "engine" / "zob_fault.c"]
    command = ["gcc", *flags, *checks, "-shared", "-fPIC", f"-I{firmware / 'engine'}", *map(str, sources)]
    subprocess.run([*command, "-o", str(built)], check=True)
    code = ctypes.CDLL(str(built))
    code.frame_receive.restype = ctypes.c_bool
    code.frame_receive.argtypes = [ctypes.POINTER(Receiver), ctypes.c_uint8, ctypes.POINTER(CFrame)]
    code.frame_finish.restype = ctypes.c_uint32
    code.frame_finish.argtypes = [ctypes.c_void_p, ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32]
    return FrameCode(code)
