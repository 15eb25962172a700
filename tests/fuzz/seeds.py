"""Write the seeds of the corpora: `python -m tests.fuzz.seeds`. Fuzzing finds the rest."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from tests.fuzz.libfuzzer import corpus
from tests.networks import NETWORKS
from zobnn_edge.link import messages as msg
from zobnn_edge.link.frames import Frame
from zobnn_edge.model_file import Model

NOISE, NEXT, AGAIN, STRAY = range(4)


def step(what: int, data: bytes) -> bytes:
    """One step of a script (fuzz.h)."""
    return bytes([what]) + struct.pack("<H", len(data)) + data


def ask(message: msg.Message, tail: bytes = b"", what: int = NEXT, **fields: int) -> bytes:
    """A step that sends a request to the agent."""
    return step(what, bytes([message.type]) + message.request.pack(**fields) + tail)


def scripts() -> list[bytes]:
    """Sessions with the agent: each request once as it is meant to be."""
    hello = ask(msg.HELLO, nonce=7, minor=0, reserved=0)
    requests = [
        ask(msg.PUT_INPUTS, bytes(range(48)), offset=0),
        ask(msg.RUN, first=0, count=1, format=0, limit=0),
        ask(msg.RUN, first=1, count=3, format=1, limit=1000),
        ask(msg.FLIP, struct.pack("<3I", 0, 1, 9), AGAIN, count=3),
        ask(msg.INJECT, rate_q64=1 << 62, seed=5, ranges=0, reserved=0),
        ask(msg.INJECT, struct.pack("<2I", 0, 8), AGAIN, rate_q64=1 << 63, seed=5, ranges=1, reserved=0),
        ask(msg.READ, offset=0, bytes=16),
        ask(msg.SCORES, first=0, count=3),
        ask(msg.ARM, op=0, every=0, count=0),
        ask(msg.FLIP_MEMORY, msg.MEMORY_BIT.pack(address=0x20000000, bit=0), AGAIN, count=1),
        ask(msg.READ_MEMORY, address=0x20000000, bytes=8),
        ask(msg.STATUS, what=STRAY),
        ask(msg.STATUS),
        ask(msg.FLIP_MEMORY, struct.pack("<4I", 0, 0, 3, 7), AGAIN, count=2),
        ask(msg.READ_MEMORY, address=1, bytes=7),
        ask(msg.ARM, struct.pack("<2I", 2, 5), op=1, every=0, count=1)
        + ask(msg.RUN, first=0, count=1, format=1, limit=0),
        ask(msg.RESTORE),
        ask(msg.RESET),
    ]
    noise = step(NOISE, b"boot text\r\n" + Frame(msg.STATUS.type, 1).encode())
    return [hello + noise + b"".join(requests), *(hello + one for one in requests), *requests]


def frames() -> list[bytes]:
    """Lines with noise, good frames and damaged ones."""
    payloads = [b"", b"\0", bytes(300), bytes(range(1, 255)) * 2, b"\1" * 1024]
    good = [step(1, p) for p in payloads]
    damaged = [step(2, struct.pack("<HB", at, 255) + payloads[2]) for at in (0, 1, 7, 200)]
    return [b"".join(good + damaged), step(0, Frame(1, 2, b"abc").encode()) + good[1], step(0, b"\1" * 3000) + good[0]]


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Put inputs into a corpus, named as libFuzzer names them."""
    corpus(name).mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (corpus(name) / hashlib.sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    write("frame", frames())
    write("agent", scripts())
    write("plan", (Model.of(make()).plan for make in NETWORKS.values()))
