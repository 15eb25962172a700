"""A board behind a link, emulated or real: the part that does not care which."""

from __future__ import annotations

import math
import struct
import time
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zobnn_edge import engine
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.faults.space import Addresses
from zobnn_edge.format import INPUT_FORMATS
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Client, Counters, Part
from zobnn_edge.model_file import Model
from zobnn_edge.protection import Health
from zobnn_edge.records import Record
from zobnn_edge.targets.base import (
    Counter,
    Flip,
    Options,
    RunResult,
    Target,
    TargetInfo,
    checked_inputs,
    checked_ranges,
)

RUN_TIMEOUT = 60.0
"""Seconds that a board may take for one request of which it is not known how long it takes."""
HANG_FACTOR, HANG_SECONDS = 4, 1.0
"""An inference hangs that takes so many times as long as it did without faults, and so many seconds more."""
ANSWER_SECONDS, RESET_SECONDS = 1.0, 2.0
"""How long a board that is to be brought back may take to answer, and to restart."""

_COUNTERS: dict[int, Counter] = {0: "nothing", 1: "instructions", 2: "cycles"}
_BOARD_COUNTERS = {"bad_frames": "board_bad_frames", "repeats": "board_repeats", "overruns": "overruns"}
"""Fields of STATUS and the counters that they are added to."""
_MIN_PAYLOAD = 128
"""Bytes that every board's frames hold; less would be damaged."""


@dataclass(frozen=True)
class _Usual:
    """What one inference takes without faults, in seconds of this machine's clock; and where the board's watchdog
    should bite, in what the board counts or in milliseconds."""

    seconds: float
    limit: int


class BoardTarget(Target):
    """A board with the project's firmware; `_connect` must have been called before anything else."""

    _client: Client
    _hello: dict[str, Any]

    def __init__(self, name: str, options: Options = Options()) -> None:  # noqa: B008 - it is frozen
        self._name = name
        self._options = options
        self._usual: _Usual | None = None
        self._firmware = ""
        self._inputs: InputArray = np.empty((0, 0), np.float32)
        self._on_board = slice(0, 0)
        self._status = dict.fromkeys((*_BOARD_COUNTERS, "boots"), 0)

    def load(self, model: Model) -> None:
        self._inputs, self._usual = self._inputs[:0], None
        self._begin(model)

    @abstractmethod
    def _begin(self, model: Model) -> None:
        """Bring a board up that holds the model; what was put with `put_inputs` stays, for the runs after a recovery.

        Raises what `load` raises."""

    def _connect(self, client: Client, model: Model) -> None:
        """Begin a session and make sure that the board holds the model, as built."""
        self._client = client
        self._hello = client.hello()
        self._check(model)
        self.model = model
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

    def run_plainly(self) -> RunResult:
        """As `run`, and learn how long an inference takes."""
        self._usual = None
        begin = time.monotonic()
        result = self.run()
        if len(self._inputs):
            seconds = (time.monotonic() - begin) / len(self._inputs)
            limit = HANG_FACTOR * (result.instructions or 0) or math.ceil(1000 * (HANG_SECONDS + HANG_FACTOR * seconds))
            self._usual = _Usual(seconds, min(limit, (1 << 32) - 1))
        return result

    def run(self) -> RunResult:
        scores = np.empty((len(self._inputs), self._hello["output_count"]), np.float32)
        count = 0
        for part in self._parts():
            self._bring(part)
            for first in range(part.start, part.stop, self._batch):
                batch = slice(first, min(first + self._batch, part.stop))
                scores[batch], count = self._run(batch.start - part.start, batch.stop - batch.start)
        health = Health()
        if self.model.image.has_redundancy:
            status = self.status()
            health = Health(status["corrected"], status["lost"])
        return RunResult(scores, None if self.info.counter == "nothing" else count, health=health)

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
        offsets = range(0, len(data), room)
        parts = [Part({"offset": offset}, data[offset : offset + room]) for offset in offsets]
        self._client.transfer(msg.PUT_INPUTS, parts)
        self._on_board = part

    def _run(self, first: int, count: int) -> tuple[FloatArray, int]:
        kind = INPUT_FORMATS["float32" if self._inputs.dtype == np.float32 else "uint8"]
        limit = self._usual.limit if self._usual and self._can("watchdog") else 0
        patience = 2 * HANG_SECONDS + HANG_FACTOR * count * self._usual.seconds if self._usual else RUN_TIMEOUT
        reply = self._client.request(msg.RUN, first=first, count=count, format=kind, limit=limit, patience=patience)
        outputs = int(self._hello["output_count"])
        tail = reply.tail if count * outputs <= self._room(msg.RUN.reply, 4) else self._read_scores(outputs)
        return np.frombuffer(tail, "<f4").reshape(count, outputs).astype(np.float32), reply["instructions"]

    def _read_scores(self, outputs: int) -> bytes:
        room = self._room(msg.SCORES.reply, 4)
        firsts = range(0, outputs, room)
        parts = [Part({"first": first, "count": min(room, outputs - first)}) for first in firsts]
        return b"".join(reply.tail for reply in self._client.transfer(msg.SCORES, parts))

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
        ranges = checked_ranges(self.model, regions)
        if set(ranges) == set(self.model.image.ranges()):
            return self._inject([], threshold, seed)
        room = min(msg.MAX_RANGES, self._room(msg.INJECT.request, 8))
        parts = range(0, len(ranges), room)
        return sum(self._inject(ranges[at : at + room], threshold, seed) for at in parts)

    def _inject(self, ranges: list[tuple[int, int]], threshold: int, seed: int) -> int:
        """Inject into as many ranges as one frame holds; none stands for all."""
        tail = b"".join(struct.pack("<2I", first, bits) for first, bits in ranges)
        reply = self._client.request(
            msg.INJECT, tail, rate_q64=threshold, seed=seed, ranges=len(ranges), reserved=0, patience=RUN_TIMEOUT
        )
        return int(reply["flips"])

    def restore(self) -> int:
        crc = int(self._client.request(msg.RESTORE)["memory_crc"])
        if crc != self.model.image.crc:
            raise TargetError(f"{self._name}: after a restore its memory has CRC-32 {crc:08X}; the flash is damaged")
        return crc

    def read(self) -> bytes:
        return self._read(msg.READ, "offset", 0, len(self.model.image.data))

    def read_memory(self, address: int, count: int) -> bytes:
        """Bytes of SRAM."""
        return self._read(msg.READ_MEMORY, "address", address, count)

    def _read(self, message: msg.Message, where: str, first: int, count: int) -> bytes:
        room = self._room(message.reply, 1)
        parts = [Part({where: first + at, "bytes": min(room, count - at)}) for at in range(0, count, room)]
        return b"".join(reply.tail for reply in self._client.transfer(message, parts))

    def memory_bytes(self, memory: str) -> int:
        return self._memory(memory)[1]

    def _memory(self, memory: str) -> tuple[int, int]:
        """Address and length of a memory; raises InputError where there can be no faults in it."""
        h = self._hello
        if memory == "plan" and not self._can("plan_in_ram"):
            raise InputError(f"{self._name}: its plan lies in flash; faults in the plan need firmware built for them")
        places = {
            "parameters": (h["memory_address"], h["image_bytes"]),
            "arena": (h["arena_address"], h["arena_bytes"]),
            "plan": (h["plan_address"], len(self.model.plan)),
            "sram": (h["ram_address"], h["ram_bytes"]),
        }
        address, size = places.get(memory, (0, 0))
        if not size or not self._can("memory"):
            raise self._no_faults_in(memory)
        return address, size

    def flip_memory(self, memory: str, addresses: Addresses) -> int:
        room = self._room(msg.FLIP_MEMORY.reply, msg.FLIP_DONE.size)
        flipped = 0
        for first in range(0, len(addresses), room):
            bits = self._bits(memory, addresses[first : first + room])
            reply = self._client.request(msg.FLIP_MEMORY, b"".join(bits), patience=ANSWER_SECONDS, count=len(bits))
            flipped += reply["count"]
        return flipped

    def arm(self, memory: str, addresses: Addresses, op: int) -> int:
        room = self._room(msg.ARM.request, msg.MEMORY_BIT.size)
        if not self._can("arm") or len(addresses) > room:
            raise InputError(
                f"{self._name}: takes up to {room} bits in the middle of an inference, not {len(addresses)}"
            )
        bits = self._bits(memory, addresses)
        every = int(memory == "arena")
        return int(self._client.request(msg.ARM, b"".join(bits), op=op, every=every, count=len(bits))["count"])

    def _bits(self, memory: str, addresses: Addresses) -> list[bytes]:
        begin, _ = self._memory(memory)
        return [msg.MEMORY_BIT.pack(address=begin + a // 8, bit=a % 8) for a in addresses.tolist()]

    def _can(self, capability: str) -> bool:
        return bool(self._hello["capabilities"] & msg.CAPABILITIES[capability][0])

    def status(self) -> dict[str, Any]:
        """State of memory and link: the fields of the STATUS reply."""
        now, before = self._client.request(msg.STATUS).fields, self._status
        for field, counter in _BOARD_COUNTERS.items():  # which the board counts from its boot on
            since = before[field] if now["boots"] == before["boots"] else 0
            setattr(self.counters, counter, getattr(self.counters, counter) + now[field] - since)
        self._status = now
        return now

    @property
    def counters(self) -> Counters:
        """What the link has seen; the board's end as of the last `status`."""
        return self._client.counters

    def reset(self) -> None:
        self.recover()

    def recover(self) -> str:
        failed = []
        for step, take in self._ladder():
            self._on_board = slice(0, 0)
            try:
                take()
                self._hello = self._client.hello(ANSWER_SECONDS)
                self._check(self.model)
                self.counters.resets += 1
                return step
            except TargetError as error:
                failed.append(f"{step}: {error}")
        raise TargetError(f"{self._name}: nothing brings it back ({'; '.join(failed)})")

    def _ladder(self) -> list[tuple[str, Callable[[], None]]]:
        """The means to bring the board back, the mildest first."""
        return [("reset command", lambda: self._client.reset(RESET_SECONDS, ANSWER_SECONDS))]

    def close(self) -> None:
        if hasattr(self, "_client"):
            self._client.close()
