"""A board behind a link, emulated or real: the part that does not care which."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from zobnn_edge import engine
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.format import INPUT_FORMATS
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Client
from zobnn_edge.model_file import Model
from zobnn_edge.records import Record
from zobnn_edge.targets.base import Counter, Flip, RunResult, Target, TargetInfo, checked_inputs, checked_ranges

RUN_TIMEOUT = 60.0
"""Seconds that a board may take for the inferences of one RUN before the request is sent again."""

_COUNTERS: dict[int, Counter] = {0: "nothing", 1: "instructions", 2: "cycles"}
_MIN_PAYLOAD = 128
"""Bytes that every board's frames hold; less would be damaged."""


class BoardTarget(Target):
    """A board with the project's firmware; `_connect` must have been called before anything else."""

    _client: Client
    _hello: dict[str, Any]

    def __init__(self, name: str) -> None:
        self._name = name
        self._firmware = ""
        self._inputs: InputArray = np.empty((0, 0), np.float32)
        self._on_board = slice(0, 0)

    def _connect(self, client: Client, model: Model) -> None:
        """Begin a session and make sure that the board holds the model, as built."""
        self._client = client
        self._hello = client.hello()
        self._check(model)
        self.model = model
        self._inputs = np.empty((0, self._hello["input_count"]), np.float32)
        self._on_board = slice(0, 0)
        self.restore()

    def _check(self, model: Model) -> None:
        built = (self._hello["plan_crc"], self._hello["image_crc"])
        if built != (zlib.crc32(model.plan), model.image.crc):
            raise TargetError(
                f"{self._name}: its firmware holds another network than {model.network.name}; build and flash it again"
            )
        if not _MIN_PAYLOAD <= self._hello["max_payload"] <= msg.MAX_PAYLOAD:
            raise TargetError(
                f"{self._name}: claims frames of {self._hello['max_payload']} bytes, not {_MIN_PAYLOAD} to "
                f"{msg.MAX_PAYLOAD}; build and flash it again"
            )

    @property
    def info(self) -> TargetInfo:
        h = self._hello
        return TargetInfo(
            name=self._name,
            board=bytes(h["board"]).rstrip(b"\0").decode("ascii", "replace"),
            counter=_COUNTERS.get(h["counter"], "nothing"),
            clock_hz=h["clock_hz"],
            memory_address=h["memory_address"],
            input_bytes=h["input_bytes"],
            boots=h["boots"],
            firmware=self._firmware or f"plan {h['plan_crc']:08x}, image {h['image_crc']:08x}",
        )

    def put_inputs(self, inputs: InputArray) -> None:
        x = checked_inputs(self.model.network, inputs)
        if len(x) and x[0].nbytes > self._hello["input_bytes"]:
            advice = "; give 8-bit inputs" if x.dtype == np.float32 else ""
            raise InputError(
                f"{self._name}: one input takes {x[0].nbytes} bytes, the board has {self._hello['input_bytes']}{advice}"
            )
        self._inputs = x.copy()
        self._on_board = slice(0, 0)

    def run(self) -> RunResult:
        scores = np.empty((len(self._inputs), self._hello["output_count"]), np.float32)
        count = 0
        for part in self._parts():
            self._bring(part)
            for first in range(part.start, part.stop, self._batch):
                batch = slice(first, min(first + self._batch, part.stop))
                scores[batch], count = self._run(batch.start - part.start, batch.stop - batch.start)
        return RunResult(scores, None if self.info.counter == "nothing" else count)

    def _parts(self) -> Iterator[slice]:
        """The inputs in parts that the board has room for; one part, which then stays there, if possible."""
        total = len(self._inputs)
        room = self._hello["input_bytes"] // max(1, self._inputs[:1].nbytes)
        for first in range(0, total, max(1, room)):
            yield slice(first, min(first + room, total))

    @property
    def _batch(self) -> int:
        """How many inputs one RUN may run."""
        return max(1, self._room(msg.RUN.reply, 4) // int(self._hello["output_count"]))

    def _room(self, record: Record, element: int) -> int:
        """How many elements of so many bytes a frame of this board holds behind a record."""
        return (int(self._hello["max_payload"]) - record.size) // element

    def _bring(self, part: slice) -> None:
        """Make sure that a part of the inputs lies at the start of the board's input buffer."""
        if part == self._on_board:
            return
        self._on_board = slice(0, 0)
        data = self._inputs[part].tobytes()
        room = self._room(msg.PUT_INPUTS.request, 1)
        for offset in range(0, len(data), room):
            self._client.request(msg.PUT_INPUTS, data[offset : offset + room], offset=offset)
        self._on_board = part

    def _run(self, first: int, count: int) -> tuple[FloatArray, int]:
        kind = INPUT_FORMATS["float32" if self._inputs.dtype == np.float32 else "uint8"]
        reply = self._client.request(msg.RUN, first=first, count=count, format=kind, timeout=RUN_TIMEOUT)
        outputs = int(self._hello["output_count"])
        tail = reply.tail if count * outputs <= self._room(msg.RUN.reply, 4) else self._read_scores(outputs)
        return np.frombuffer(tail, "<f4").reshape(count, outputs).astype(np.float32), reply["instructions"]

    def _read_scores(self, outputs: int) -> bytes:
        parts, room = [], self._room(msg.SCORES.reply, 4)
        for first in range(0, outputs, room):
            parts.append(self._client.request(msg.SCORES, first=first, count=min(room, outputs - first)).tail)
        return b"".join(parts)

    def flip(self, addresses: Iterable[int]) -> list[Flip]:
        wanted = list(addresses)
        for address in wanted:
            self.model.image.locate(address)
        flips, room = [], self._room(msg.FLIP.reply, msg.FLIP_DONE.size)
        for first in range(0, len(wanted), room):
            part = wanted[first : first + room]
            reply = self._client.request(msg.FLIP, struct.pack(f"<{len(part)}I", *part), count=len(part))
            for at in range(0, len(reply.tail), msg.FLIP_DONE.size):
                done = msg.FLIP_DONE.unpack(reply.tail, at)
                flips.append(Flip(done["address"], done["old"], done["new"]))
        return flips

    def inject(self, rate: float, seed: int, regions: Sequence[str] | None = None) -> int:
        threshold = engine.rate_q64(rate)
        if not 0 <= seed < 1 << 64:
            raise InputError(f"a seed of {seed}; it must be a 64-bit unsigned number")
        if regions is None:
            return self._inject([], threshold, seed)
        ranges = checked_ranges(self.model, regions)
        room = min(msg.MAX_RANGES, self._room(msg.INJECT.request, 8))
        parts = range(0, len(ranges), room)
        return sum(self._inject(ranges[at : at + room], threshold, seed) for at in parts)

    def _inject(self, ranges: list[tuple[int, int]], threshold: int, seed: int) -> int:
        """Inject into as many ranges as one frame holds; none stands for all."""
        tail = b"".join(struct.pack("<2I", first, bits) for first, bits in ranges)
        reply = self._client.request(
            msg.INJECT, tail, rate_q64=threshold, seed=seed, ranges=len(ranges), reserved=0, timeout=RUN_TIMEOUT
        )
        return int(reply["flips"])

    def restore(self) -> int:
        crc = int(self._client.request(msg.RESTORE)["memory_crc"])
        if crc != self.model.image.crc:
            raise TargetError(f"{self._name}: after a restore its memory has CRC-32 {crc:08X}; the flash is damaged")
        return crc

    def read(self) -> bytes:
        size = len(self.model.image.data)
        parts, room = [], self._room(msg.READ.reply, 1)
        for offset in range(0, size, room):
            parts.append(self._client.request(msg.READ, offset=offset, bytes=min(room, size - offset)).tail)
        return b"".join(parts)

    def status(self) -> dict[str, Any]:
        """State of memory and link: the fields of the STATUS reply."""
        return self._client.request(msg.STATUS).fields

    def reset(self) -> None:
        self._on_board = slice(0, 0)
        self._client.reset()
        self._hello = self._client.hello()
        self._check(self.model)

    def close(self) -> None:
        if hasattr(self, "_client"):
            self._client.close()
