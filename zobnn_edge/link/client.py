"""The client of the link: requests, replies, and what to do when one of them gets lost.

Every request has a number. A request without an answer is sent again under the same number, which the firmware carries
out once only; whatever arrives that does not answer a request under way (late replies, noise) is dropped.
"""

from __future__ import annotations

import operator
import random
import time
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from zobnn_edge.errors import TargetError
from zobnn_edge.link import messages as msg
from zobnn_edge.link.frames import Frame, FrameReader
from zobnn_edge.link.transport import Transport

_ERROR_NAMES = {code: (name, doc) for name, (code, doc) in msg.ERRORS.items()}
_SEQUENCES = 1 << 16
WATCHDOG = 15
"""The `exception` in READY after an inference that took too long."""
REGISTERS = (*(f"r{i}" for i in range(13)), "sp", "lr", "pc", "xpsr")


class NoAnswer(TargetError):
    """The board answers none of several repetitions of a request."""


class Refused(TargetError):
    """The board answered a request with an error; `error` is its name in `messages.ERRORS`."""

    def __init__(self, line: str, error: str, detail: int) -> None:
        super().__init__(line)
        self.error = error
        self.detail = detail


class Restarted(TargetError):
    """The board restarted by itself or has forgotten the session; `exception` is the fault that made it (0: none is
    known), `registers` what the core's held then, by name."""

    def __init__(self, line: str, exception: int, registers: dict[str, int] | None = None) -> None:
        super().__init__(line)
        self.exception = exception
        self.registers = registers or {}


@dataclass(frozen=True)
class Reply:
    """An answer: the fields of its record and the bytes behind it."""

    fields: dict[str, Any]
    tail: bytes

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@dataclass
class Counters:
    """What the link has seen. The host's end: requests carried out, frames sent again, frames dropped as no good or as
    no answer to anything under way, restarts of the board that nobody asked for, and resets of any kind that were. The
    board's end, as of when it was last asked: frames dropped as no good, requests answered a second time, bytes lost by
    its UART."""

    requests: int = 0
    resends: int = 0
    bad_frames: int = 0
    strays: int = 0
    restarts: int = 0
    resets: int = 0
    board_bad_frames: int = 0
    board_repeats: int = 0
    overruns: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*map(operator.sub, astuple(self), astuple(other)))


@dataclass
class Part:
    """One of the requests of a transfer: the fields of its record and what follows it."""

    fields: dict[str, Any]
    tail: bytes = b""
    reply: Reply | None = field(default=None, compare=False)


class _Flight:
    """Requests under way, by number, in their order: parts and frames. Those up to number `done` have been carried
    out; `gap` is the one after which the board is known to miss one."""

    def __init__(self, done: int) -> None:
        self.parts: dict[int, tuple[Part, bytes]] = {}
        self.done = done
        self.gap: int | None = None

    def lost(self) -> list[Part]:
        """Take out those that have been carried out while their replies were lost: they need a new number."""
        return [self.parts.pop(n)[0] for n in list(self.parts) if _steps(n, self.done) >= 0]


def _steps(first: int, second: int) -> int:
    """How far the second of two numbers is ahead of the first."""
    return (second - first + _SEQUENCES // 2) % _SEQUENCES - _SEQUENCES // 2


class Client:
    """One session with a board. Not for several threads at once."""

    def __init__(
        self,
        transport: Transport,
        name: str,
        timeout: float = 2.0,
        attempts: int = 4,
        counters: Counters | None = None,
    ) -> None:
        """`name` begins every error; a request is sent up to `attempts` times, each waiting `timeout` seconds;
        `counters` are those of a client before this one, to go on with."""
        self.name = name
        self.timeout = timeout
        self.attempts = attempts
        self.window = 1
        self._transport = transport
        self._reader = FrameReader()
        self._arrived: deque[Frame] = deque()
        self._sequence = 0
        self._boots = 0
        self.counters = counters or Counters()

    def hello(self, patience: float | None = None) -> dict[str, Any]:
        """Begin a session and return the fields of the answer; raises TargetError when there is no fitting firmware."""
        nonce = random.getrandbits(32)
        self._sequence = random.getrandbits(16)  # no late reply of an earlier session can fit by its number
        fields = self.request(msg.HELLO, patience=patience, nonce=nonce, minor=msg.PROTOCOL_MINOR, reserved=0).fields
        if fields["nonce"] != nonce:
            raise TargetError(f"{self.name}: what answers does not speak this protocol; build and flash it again")
        if fields["generator"] != msg.GENERATOR_VERSION:
            raise TargetError(f"{self.name}: the firmware has another fault generator; build and flash it again")
        self.window = max(1, fields["window"])
        self._boots = fields["boots"]
        return fields

    def request(
        self,
        message: msg.Message,
        tail: bytes = b"",
        *,
        patience: float | None = None,
        **fields: Any,
    ) -> Reply:
        """Send a request with the fields of its record, followed by `tail`, and return the reply; `patience` is how
        many seconds carrying it out may take, if that is much.

        Raises NoAnswer, Refused, Restarted, or Gone when the line is gone; after NoAnswer it is unknown whether the
        request was carried out.
        """
        wire = self._next(message, Part(fields, tail))
        waits = self._waits(patience)
        for attempt, wait in enumerate(waits):
            self._send(wire, again=attempt > 0)
            for frame in self._frames(wait):
                if frame.sequence == self._sequence and frame.version == msg.PROTOCOL_VERSION:
                    self._check_refusal(message, frame)
                reply = self._reply(message, frame, {self._sequence})
                if reply:
                    self.counters.requests += 1
                    return reply
        raise NoAnswer(f"{self.name}: no answer to {message.name} for {sum(waits):g} s ({len(waits)} attempts)")

    def _waits(self, patience: float | None) -> list[float]:
        """How long to wait after each time that a request is sent: longer and longer where it may take long."""
        if patience is None:
            return [self.timeout] * self.attempts
        waits, left = [], patience
        wait = min(self.timeout, patience / self.attempts)
        while left > 0:
            waits.append(min(wait, left))
            left -= wait
            wait *= 2
        return waits

    def transfer(self, message: msg.Message, parts: Sequence[Part]) -> list[Reply]:
        """Requests of one kind, which may be carried out more than once, several under way at once; their replies.

        Raises as `request` does.
        """
        waiting, flight = deque(parts), _Flight(self._sequence)
        patience = self.attempts * self.timeout
        deadline = time.monotonic() + patience
        while waiting or flight.parts:
            while waiting and len(flight.parts) < self.window:
                part = waiting.popleft()
                wire = self._next(message, part)
                flight.parts[self._sequence] = part, wire
                self._send(wire)
            frame = next(self._frames(self.timeout), None)
            late = time.monotonic() > deadline  # a reply that came all the same counts
            if frame is None or self._is_gap(message, frame, flight):
                if late:
                    raise NoAnswer(f"{self.name}: no answer to {message.name} for {patience:g} s")
                waiting.extendleft(reversed(flight.lost()))
                for _, wire in flight.parts.values():
                    self._send(wire, again=True)
                continue
            reply = self._reply(message, frame, flight.parts)
            if reply:
                flight.parts.pop(frame.sequence)[0].reply = reply
                flight.done = frame.sequence
                waiting.extendleft(reversed(flight.lost()))
                flight.gap = None
                deadline = time.monotonic() + patience
                self.counters.requests += 1
            elif late:
                raise NoAnswer(f"{self.name}: no answer to {message.name} for {patience:g} s")
        return [part.reply for part in parts if part.reply]

    def _is_gap(self, message: msg.Message, frame: Frame, flight: _Flight) -> bool:
        """Whether a frame says, for the first time, that requests are refused since one before them is missing."""
        if frame.sequence not in flight.parts or frame.version != msg.PROTOCOL_VERSION:
            return False
        if frame.type != msg.ERROR_TYPE or len(frame.payload) != msg.ERROR.size:
            return False
        error = msg.ERROR.unpack(frame.payload)
        if error["code"] != msg.ERRORS["sequence"][0]:
            self._check_refusal(message, frame)
            return False
        last = error["detail"]
        if _steps(last, frame.sequence) < 0 or _steps(flight.done, last) < 0 or last == flight.gap:
            return False  # a doubled request, an old refusal, one of several for the same gap
        if last != flight.done and last not in flight.parts:
            self._check_refusal(message, frame)
        flight.done = flight.gap = last
        return True

    def reset(self, timeout: float = 5.0, patience: float | None = None) -> None:
        """Restart the board, whatever state its session is in, and wait until it is ready. No session is open then.

        `patience` is how many seconds it may take to answer a HELLO, `timeout` to come back.
        """
        self.hello(patience)
        wire = self._next(msg.RESET, Part({}))
        for attempt in range(self.attempts):
            self._send(wire, again=attempt > 0)
            if self._has_restarted(timeout):
                return
        raise NoAnswer(f"{self.name}: did not come back from a reset ({self.attempts} times {timeout:g} s)")

    def _has_restarted(self, timeout: float) -> bool:
        """True when the board says READY, or refuses a repeated RESET since it has forgotten the session."""
        for frame in self._frames(timeout):
            if frame.type == msg.READY_TYPE:
                return True
            if frame.type == msg.ERROR_TYPE and frame.sequence == self._sequence:
                return True
        return False

    def wait_ready(self, timeout: float) -> dict[str, Any] | None:
        """The fields of the READY that a board sends after it has booted; None when there is none within `timeout`."""
        for frame in self._frames(timeout):
            if frame.type == msg.READY_TYPE and len(frame.payload) == msg.READY.size:
                return msg.READY.unpack(frame.payload)
        return None

    def pulse_reset(self) -> None:
        """Pull the reset line, where the transport has one; raises TargetError where it has none."""
        self._transport.pulse_reset()

    def close(self) -> None:
        """Give the line back."""
        self._transport.close()

    def _next(self, message: msg.Message, part: Part) -> bytes:
        """The frame of a request under the next number."""
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return Frame(message.type, self._sequence, message.request.pack(**part.fields) + part.tail).encode()

    def _send(self, wire: bytes, again: bool = False) -> None:
        self.counters.resends += again
        self._transport.write(wire)

    def _frames(self, timeout: float) -> Iterator[Frame]:
        """The frames that arrive within `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            left = end - time.monotonic()
            if left <= 0:
                return
            bad = self._reader.bad
            self._arrived.extend(self._reader.feed(self._transport.read(left)))
            self.counters.bad_frames += self._reader.bad - bad

    def _reply(self, message: msg.Message, frame: Frame, numbers: Container[int]) -> Reply | None:
        """The reply in a frame to one of the requests under way; None where it is none."""
        if frame.version != msg.PROTOCOL_VERSION:
            if message is msg.HELLO:
                raise TargetError(
                    f"{self.name}: the firmware speaks version {frame.version} of the protocol, this program version "
                    f"{msg.PROTOCOL_VERSION}; build and flash it again"
                )
        elif frame.type == msg.READY_TYPE and len(frame.payload) == msg.READY.size:
            ready = msg.READY.unpack(frame.payload)
            if message is not msg.HELLO and ready["boots"] != self._boots:
                self._report_restart(ready)
        elif (
            frame.sequence in numbers
            and frame.type == message.type | msg.REPLY
            and len(frame.payload) >= message.reply.size
        ):
            return Reply(message.reply.unpack(frame.payload), frame.payload[message.reply.size :])
        self.counters.strays += 1
        return None

    def _check_refusal(self, message: msg.Message, frame: Frame) -> None:
        """Raise what an ERROR says about a request under way."""
        if frame.type != msg.ERROR_TYPE or len(frame.payload) != msg.ERROR.size:
            return
        error = msg.ERROR.unpack(frame.payload)
        if error["request"] != message.type:
            return
        name, meaning = _ERROR_NAMES.get(error["code"], (str(error["code"]), "unknown error"))
        if name in ("sequence", "session"):  # this client counts right, so the board has forgotten the session
            self.counters.restarts += 1
            raise Restarted(f"{self.name}: the board restarted by itself, or another program talks to it", 0)
        line = f"{self.name}: refuses {message.name}: {meaning} (error {name}, detail {error['detail']})"
        raise Refused(line, name, error["detail"])

    def _report_restart(self, ready: dict[str, Any]) -> None:
        self.counters.restarts += 1
        registers = dict(zip(REGISTERS, ready["registers"], strict=True))
        why = "no fault recorded"
        if ready["exception"]:
            what = "watchdog" if ready["exception"] == WATCHDOG else f"exception {ready['exception']}"
            why = f"{what} at 0x{registers['pc']:08X}, status {ready['status']:08X}, address {ready['address']:08X}"
        raise Restarted(f"{self.name}: the board restarted by itself ({why})", ready["exception"], registers)
