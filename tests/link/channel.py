"""A bad line between client and board, and a session over it of which every result is checked."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.networks import Author
from zobnn_edge import engine
from zobnn_edge.format import INPUT_FORMATS
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Part
from zobnn_edge.link.transport import Transport
from zobnn_edge.model_file import Model
from zobnn_edge.targets import open_target
from zobnn_edge.targets.native import NativeTarget

LARGEST = 1 << 16
TEXT = b"[    1.234567] boot: clocks ok, 3 warnings\r\n"


class Direction:
    """One way of the line: frames go in, what arrives comes out; each kind of damage strikes `rate` of the frames."""

    def __init__(self, rate: float, rng: random.Random, done: Counter[str]) -> None:
        self._rate, self._rng, self._done = rate, rng, done
        self._held = b""

    def through(self, frame: bytes) -> bytes:
        """What arrives when a frame, with the zero bytes at its ends, is sent."""
        self._done["frames"] += 1
        out = frame
        for damage in (self._corrupt, self._truncate, self._lose, self._double, self._noise):
            if self._rng.random() < self._rate:
                self._done[damage.__name__] += 1
                out = damage(out)
        out, self._held = out + self._held, b""
        if self._rng.random() < self._rate:  # the next one overtakes it
            self._done["_reorder"] += 1
            out, self._held = b"", out
        return out

    def late(self) -> bytes:
        """What was held back, when nothing overtakes it."""
        out, self._held = self._held, b""
        return out

    def _corrupt(self, frame: bytes) -> bytes:
        bad = bytearray(frame)
        for _ in range(self._rng.choice([1, 1, 2, 8])):
            bad[self._rng.randrange(len(bad))] ^= 1 << self._rng.randrange(8)
        return bytes(bad)

    def _truncate(self, frame: bytes) -> bytes:
        return frame[: self._rng.randrange(len(frame))]

    def _lose(self, frame: bytes) -> bytes:
        return b""

    def _double(self, frame: bytes) -> bytes:
        return frame * 2

    def _noise(self, frame: bytes) -> bytes:
        noise = self._rng.choice([TEXT, b"\0", self._rng.randbytes(self._rng.randrange(1, 40))])
        at = self._rng.choice([0, 0, self._rng.randrange(len(frame) + 1)])
        return frame[:at] + noise + frame[at:]


class Channel:
    """A transport to the board that damages what goes over it, both ways."""

    def __init__(self, line: Transport, rate: float, seed: int) -> None:
        self.done: Counter[str] = Counter()
        rng = random.Random(seed)
        self._line = line
        self._out, self._in = Direction(rate, rng, self.done), Direction(rate, rng, self.done)
        self._rest = b""

    def write(self, data: bytes) -> None:
        arriving = self._out.through(data)
        if arriving:
            self._line.write(arriving)

    def read(self, timeout: float) -> bytes:
        data = self._line.read(timeout)
        if not data:
            late = self._out.late()
            if late:
                self._line.write(late)
            return self._in.late()
        *frames, self._rest = (self._rest + data).split(b"\0")
        return b"".join(self._in.through(b"\0" + frame + b"\0") for frame in frames if frame)

    def pulse_reset(self) -> None:
        self._line.pulse_reset()

    def close(self) -> None:
        self._line.close()


class Line:
    """A transport as slow as a serial line: so many bytes a second each way. As an operating system does, it takes some
    bytes ahead; `drain` waits until the line has carried all of them."""

    AHEAD = 4096

    def __init__(self, line: Transport, rate: float) -> None:
        self._line, self._rate = line, rate
        self._busy_until = {"out": 0.0, "in": 0.0}
        self.sent = self.received = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._carry("out", len(data))
        self._line.write(data)

    def read(self, timeout: float) -> bytes:
        data = self._line.read(timeout)
        self.received += len(data)
        self._carry("in", len(data))
        return data

    def _carry(self, way: str, count: int) -> None:
        self._busy_until[way] = max(self._busy_until[way], time.monotonic()) + count / self._rate
        self._wait(self._busy_until[way] - self.AHEAD / self._rate)

    def drain(self) -> None:
        """Wait until everything has been carried."""
        self._wait(max(self._busy_until.values()))

    @staticmethod
    def _wait(until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))

    def pulse_reset(self) -> None:
        self._line.pulse_reset()

    def close(self) -> None:
        self._line.close()


def large() -> Model:
    """A network with an image of more than 64 KB."""
    return Model.of(Author((1, 1, 64), 3).sign().dense(8192).affine().sign().dense(10).affine().network())


class Session:
    """A native board over a bad line. Everything it does is done here as well; `step` fails when the two differ."""

    def __init__(self, rate: float, seed: int, timeout: float = 0.02) -> None:
        self.model = large()
        target = open_target("native", self.model)
        assert isinstance(target, NativeTarget)
        self.target, self._rng = target, random.Random(seed)
        self.channel = Channel(target._client._transport, rate, seed)
        target._client._transport = self.channel
        self._client = target._client
        self._client.timeout, self._client.attempts = timeout, 40
        self._engine = engine.Engine(self.model.plan)
        self._image = bytearray(self.model.image.data)
        self._inputs = bytearray(2 * LARGEST)
        self._elements = int(np.prod(self.model.network.input_shape))
        self._bits = [first + k for first, size in self.model.image.ranges() for k in range(size)]

    @property
    def frames(self) -> int:
        """Frames sent over the line so far, both ways."""
        return self.channel.done["frames"]

    def step(self) -> None:
        """One operation at random, and what came of it."""
        chosen: Callable[[], None] = self._rng.choice(
            [self._flip, self._flip, self._read, self._put, self._inject, self._run, self._run, self._restore]
        )
        chosen()

    def _size(self) -> int:
        """From 1 byte to 64 KB, every order of magnitude alike."""
        return int(2 ** self._rng.uniform(0, 16))

    def _flip(self) -> None:
        addresses = self._rng.choices(self._bits, k=self._rng.choice([1, 1, 2, 300]))
        for address, flip in zip(addresses, self.target.flip(addresses), strict=True):
            old = self._image[address // 8]
            self._image[address // 8] ^= 1 << address % 8
            assert (flip.address, flip.old, flip.new) == (address, old, self._image[address // 8])

    def _read(self) -> None:
        size = min(self._size(), len(self._image))
        first = self._rng.randrange(len(self._image) - size + 1)
        assert self.target._read(msg.READ, "offset", first, size) == self._image[first : first + size]

    def _put(self) -> None:
        size = self._size()
        offset = self._rng.randrange(len(self._inputs) - size + 1)
        data = self._rng.randbytes(size)
        step = self._rng.choice([1020, 1020, 1020, max(1, size // 20)])
        parts = [
            Part({"offset": offset + at}, data[at : at + min(step, 1020)]) for at in range(0, size, min(step, 1020))
        ]
        self._client.transfer(msg.PUT_INPUTS, parts)
        self._inputs[offset : offset + size] = data

    def _inject(self) -> None:
        seed = self._rng.getrandbits(64)
        assert self.target.inject(1e-3, seed) == engine.inject(self._image, self.model.image.ranges(), 1e-3, seed)

    def _run(self) -> None:
        n, count = self._elements, self._rng.choice([1, 1, 20])
        first = self._rng.randrange(len(self._inputs) // n - count + 1)
        reply = self._client.request(msg.RUN, first=first, count=count, format=INPUT_FORMATS["uint8"], limit=0)
        x = np.frombuffer(self._inputs, np.uint8)[first * n : (first + count) * n].reshape(count, n)
        assert reply.tail == self._engine.run(self._image, x).tobytes()

    def _restore(self) -> None:
        self.target.restore()
        self._image[:] = self.model.image.data

    def pixels(self, size: int) -> np.ndarray:
        """8-bit inputs of about so many bytes."""
        count = size // self._elements
        return np.frombuffer(self._rng.randbytes(count * self._elements), np.uint8).reshape(count, -1)

    def close(self) -> None:
        """End the board."""
        self.target.close()
