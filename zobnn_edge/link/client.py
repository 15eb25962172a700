"""The client of the link: requests, replies, and what to do when one of them gets lost.

Every request has a number. A request without an answer is sent again under the same number, which the firmware carries
out once only; whatever arrives that does not answer the request under way (late replies, noise) is dropped.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zobnn_edge.errors import TargetError
from zobnn_edge.link import messages as msg
from zobnn_edge.link.frames import Frame, FrameReader
from zobnn_edge.link.transport import Transport

_ERROR_NAMES = {code: (name, doc) for name, (code, doc) in msg.ERRORS.items()}


class NoAnswer(TargetError):
    """The board answers none of several repetitions of a request."""


class Refused(TargetError):
    """The board answered a request with an error; `error` is its name in `messages.ERRORS`."""

    def __init__(self, line: str, error: str, detail: int) -> None:
        super().__init__(line)
        self.error = error
        self.detail = detail


class Restarted(TargetError):
    """The board restarted by itself; `exception` is the fault that made it (0: none is known)."""

    def __init__(self, line: str, exception: int) -> None:
        super().__init__(line)
        self.exception = exception


@dataclass(frozen=True)
class Reply:
    """An answer: the fields of its record and the bytes behind it."""

    fields: dict[str, Any]
    tail: bytes

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class Client:
    """One session with a board. Not for several threads at once."""

    def __init__(self, transport: Transport, name: str, timeout: float = 2.0, attempts: int = 4) -> None:
        """`name` begins every error; a request is sent up to `attempts` times, each waiting `timeout` seconds."""
        self.name = name
        self.timeout = timeout
        self.attempts = attempts
        self._transport = transport
        self._reader = FrameReader()
        self._arrived: deque[Frame] = deque()
        self._sequence = 0

    def hello(self) -> dict[str, Any]:
        """Begin a session and return the fields of the answer; raises TargetError when there is no fitting firmware."""
        nonce = random.getrandbits(32)
        self._sequence = random.getrandbits(16)  # no late reply of an earlier session can fit by its number
        fields = self.request(msg.HELLO, nonce=nonce).fields
        if fields["nonce"] != nonce or fields["protocol"] != msg.PROTOCOL_VERSION:
            raise TargetError(f"{self.name}: the firmware speaks another protocol; build and flash it again")
        if fields["generator"] != msg.GENERATOR_VERSION:
            raise TargetError(f"{self.name}: the firmware has another fault generator; build and flash it again")
        return fields

    def request(self, message: msg.Message, tail: bytes = b"", *, timeout: float | None = None, **fields: Any) -> Reply:
        """Send a request with the fields of its record, followed by `tail`, and return the reply.

        Raises NoAnswer, Refused, Restarted, or Gone when the line is gone; after NoAnswer it is unknown whether the
        request was carried out.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        frame = Frame(message.type, self._sequence, message.request.pack(**fields) + tail)
        wire = frame.encode()
        wait = timeout or self.timeout
        for _ in range(self.attempts):
            self._transport.write(wire)
            reply = self._answer(message, wait)
            if reply:
                return reply
        raise NoAnswer(f"{self.name}: no answer to {message.name} ({self.attempts} times {wait:g} s)")

    def reset(self, timeout: float = 5.0) -> None:
        """Restart the board, whatever state its session is in, and wait until it is ready. No session is open then."""
        self.hello()
        self._sequence = (self._sequence + 1) & 0xFFFF
        wire = Frame(msg.RESET.type, self._sequence).encode()
        for _ in range(self.attempts):
            self._transport.write(wire)
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

    def close(self) -> None:
        """Give the line back."""
        self._transport.close()

    def _frames(self, timeout: float) -> Iterator[Frame]:
        """The frames that arrive within `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            left = end - time.monotonic()
            if left <= 0:
                return
            self._arrived.extend(self._reader.feed(self._transport.read(left)))

    def _answer(self, message: msg.Message, timeout: float) -> Reply | None:
        for frame in self._frames(timeout):
            if frame.type == msg.READY_TYPE and message is not msg.HELLO and len(frame.payload) == msg.READY.size:
                self._report_restart(msg.READY.unpack(frame.payload))
            if frame.sequence != self._sequence:
                continue
            if frame.type == msg.ERROR_TYPE and len(frame.payload) == msg.ERROR.size:
                error = msg.ERROR.unpack(frame.payload)
                if error["request"] == message.type:
                    self._report_refusal(message, error)
            if frame.type == message.type | msg.REPLY and len(frame.payload) >= message.reply.size:
                return Reply(message.reply.unpack(frame.payload), frame.payload[message.reply.size :])
        return None

    def _report_refusal(self, message: msg.Message, error: dict[str, Any]) -> None:
        name, meaning = _ERROR_NAMES.get(error["code"], (str(error["code"]), "unknown error"))
        if name == "sequence":  # this client counts right, so the board has forgotten the session
            raise Restarted(f"{self.name}: the board restarted by itself, or another program talks to it", 0)
        line = f"{self.name}: refuses {message.name}: {meaning} (error {name}, detail {error['detail']})"
        raise Refused(line, name, error["detail"])

    def _report_restart(self, ready: dict[str, Any]) -> None:
        why = f"exception {ready['exception']} at 0x{ready['pc']:08X}" if ready["exception"] else "no fault recorded"
        raise Restarted(f"{self.name}: the board restarted by itself ({why})", ready["exception"])
