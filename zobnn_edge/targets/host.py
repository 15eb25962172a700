"""The C engine in this process."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from zobnn_edge import _engine, engine
from zobnn_edge.encoding import InputArray
from zobnn_edge.faults.space import Addresses
from zobnn_edge.incremental import Incremental
from zobnn_edge.model_file import Model
from zobnn_edge.protection import Health
from zobnn_edge.targets.base import Flip, RunResult, Target, TargetInfo, checked_inputs, checked_ranges

MANY = 5
"""Runs on the same inputs before it pays to prepare for more."""


@dataclass(frozen=True)
class _Armed:
    """Bits of a memory that are inverted when an operation begins."""

    memory: str
    addresses: Addresses
    op: int


class HostTarget(Target):
    """The same engine as on a board, with the image in a buffer of this process. Counts no instructions."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError when the engine refuses the model."""
        self.load(model)

    @property
    def info(self) -> TargetInfo:
        return TargetInfo("host", "host", "nothing", firmware=_engine_hash())

    def load(self, model: Model) -> None:
        self.model = model
        self._engine = engine.Engine(model.plan)
        self._image = bytearray(model.image.data)
        self._armed: _Armed | None = None
        self._threads: int | None = None
        self._incremental: Incremental | None = None
        self._runs = 0
        self._inputs: InputArray = np.empty((0, int(np.prod(model.network.input_shape))), np.float32)

    def put_inputs(self, inputs: InputArray) -> None:
        self._inputs = checked_inputs(self.model.network, inputs).copy()
        self._incremental, self._runs = None, 0

    def expect_many_runs(self) -> None:
        self._threads = 1  # others run beside it

    def memory_bytes(self, memory: str) -> int:
        sizes = {"parameters": len(self._image), "arena": self.model.arena_bytes}
        if memory not in sizes:
            raise self._no_faults_in(memory)
        return sizes[memory]

    def arm(self, memory: str, addresses: Addresses, op: int) -> int:
        self.memory_bytes(memory)
        self._armed = _Armed(memory, addresses, op)
        return len(addresses)

    def _run_armed(self, armed: _Armed) -> RunResult:
        before, arena_bits = bytes(self._image), armed.addresses
        if armed.memory == "parameters":
            arena_bits = arena_bits[:0]
            self.invert(armed.addresses)
            self._armed = None
        scores = self._engine.run_stopped(before, self._image, self._inputs, armed.op, arena_bits)
        return RunResult(scores, None)

    def run(self) -> RunResult:
        if self._armed:
            return self._run_armed(self._armed)
        self._runs += 1
        if self._threads and self._runs == MANY:
            self._incremental = Incremental(self.model, self._inputs)
        if self._incremental is None:
            return self.run_plainly()
        scores, work = self._incremental.run(self._image)
        return RunResult(scores, None, work, self._health())

    def run_plainly(self) -> RunResult:
        scores = self._engine.run(self._image, self._inputs, self._threads)
        return RunResult(scores, None, health=self._health())

    def _health(self) -> Health:
        return self._engine.check(self._image) if self.model.image.has_redundancy else Health()

    def flip(self, addresses: Iterable[int]) -> list[Flip]:
        wanted = list(addresses)
        for address in wanted:
            self.model.image.locate(address)
        flips = []
        for address in wanted:
            old = self._image[address // 8]
            self._image[address // 8] ^= 1 << (address % 8)
            flips.append(Flip(address, old, self._image[address // 8]))
        return flips

    def invert(self, addresses: Addresses) -> int:
        masks = (1 << (addresses % 8)).astype(np.uint8)
        np.bitwise_xor.at(np.frombuffer(self._image, np.uint8), addresses // 8, masks)
        return len(addresses)

    def inject(self, rate: float, seed: int, regions: Sequence[str] | None = None) -> int:
        return engine.inject(self._image, checked_ranges(self.model, regions), rate, seed)

    def restore(self) -> int:
        self._armed = None
        self._image[:] = self.model.image.data
        return zlib.crc32(self._image)

    def read(self) -> bytes:
        return bytes(self._image)

    def reset(self) -> None:
        self.restore()

    def close(self) -> None:
        pass


@cache
def _engine_hash() -> str:
    return hashlib.sha256(Path(str(_engine.__file__)).read_bytes()).hexdigest()
