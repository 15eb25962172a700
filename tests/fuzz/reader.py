"""Fuzzing the reader of .zob files: mutated files with right CRCs are refused in one line or mean what they say."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable

from tests.fuzz.libfuzzer import Outcome
from tests.networks import NETWORKS
from zobnn_edge import format as fmt
from zobnn_edge.engine import Engine
from zobnn_edge.errors import ModelError
from zobnn_edge.model_file import Model

SECTIONS = ("plan", "image", "names")
INTERESTING = [0, 1, 2, 3, 8, 31, 33, 255, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def change_word(rng: random.Random, data: bytearray) -> None:
    """Another word, near the old one or far from it."""
    at = 4 * rng.randrange(len(data) // 4)
    old = int.from_bytes(data[at : at + 4], "little")
    choices = [old ^ 1 << rng.randrange(32), old + rng.choice([-1, 1]), rng.choice(INTERESTING), rng.getrandbits(32)]
    data[at : at + 4] = (rng.choice(choices) & 0xFFFFFFFF).to_bytes(4, "little")


def change_byte(rng: random.Random, data: bytearray) -> None:
    """Another byte."""
    data[rng.randrange(len(data))] = rng.randrange(256)


def change_length(rng: random.Random, data: bytearray) -> None:
    """Some bytes less, or some twice."""
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randrange(1, 64))
    data[begin:end] = rng.choice([b"", data[begin:end] * 2])


CHANGES: list[Callable[[random.Random, bytearray], None]] = [change_word, change_word, change_byte, change_length]


def mutant(rng: random.Random, model: Model) -> bytes:
    """A file like the model's with one to three changes in its sections, all lengths and CRCs right again."""
    data = model.to_bytes()
    header = fmt.FILE_HEADER.unpack(data)
    sections = {name: bytearray(data[header[f"{name}_offset"] :][: header[f"{name}_bytes"]]) for name in SECTIONS}
    for _ in range(rng.randrange(1, 4)):
        section = sections[rng.choices(SECTIONS, [6, 1, 3])[0]]
        if len(section) >= 4:
            rng.choice(CHANGES)(rng, section)
    body = bytearray(fmt.FILE_HEADER.size)
    for name, section in sections.items():
        body += bytes(-len(body) % fmt.ALIGN)
        header |= {f"{name}_offset": len(body), f"{name}_bytes": len(section), f"{name}_crc": zlib.crc32(section)}
        body += section
    packed = fmt.FILE_HEADER.pack(**{**header, "file_bytes": len(body)})
    body[: len(packed)] = packed[:-4] + zlib.crc32(packed[:-4]).to_bytes(4, "little")
    return bytes(body)


def check(data: bytes) -> bool:
    """Read a file; True when it is taken. Fails unless it is refused in one line, or is a network that the engine takes
    and that is written as it was read."""
    try:
        model = Model.from_bytes(data, "x.zob")
    except ModelError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith("x.zob: not a usable model file: ")
        assert "\n" not in refusal
        return False
    assert Model.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()
    Engine(model.plan)
    return True


def fuzz(seconds: float, seed: int) -> Outcome:
    """Read mutants for so long."""
    rng, models = random.Random(seed), [Model.of(make()) for make in NETWORKS.values()]
    end, tried, taken = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        data = mutant(rng, rng.choice(models))
        try:
            taken += check(data)
        except BaseException as error:
            return Outcome(True, f"{type(error).__name__}: {error} (seed {seed}, file {tried})", tried)
        tried += 1
    return Outcome(False, f"{tried:,} files, {taken:,} of them taken, no finding", tried)
