"""The client against a scripted board: whatever the line does, a request is answered right or fails with one line."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import serial

from zobnn_edge.errors import TargetError
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Client, NoAnswer, Part, Refused, Restarted
from zobnn_edge.link.frames import Frame, FrameReader
from zobnn_edge.link.transport import Gone, SerialTransport, SocketTransport

Script = Callable[[Frame], list[bytes]]


def answer(request: Frame, crc: int = 7) -> Frame:
    """A good reply to RESTORE."""
    return Frame(request.type | msg.REPLY, request.sequence, msg.RESTORE.reply.pack(memory_crc=crc))


def error(request: Frame, name: str, detail: int = 0) -> Frame:
    record = msg.ERROR.pack(code=msg.ERRORS[name][0], request=request.type, detail=detail)
    return Frame(msg.ERROR_TYPE, request.sequence, record)


def ready(exception: int = 0, pc: int = 0) -> Frame:
    registers = (*range(100, 115), pc, 0)
    record = msg.READY.pack(boots=2, exception=exception, status=0x82, address=0xBAD, registers=registers)
    return Frame(msg.READY_TYPE, 0, record)


class Board:
    """A transport whose other end answers the n-th frame by the n-th entry of a script (the last one repeats)."""

    def __init__(self, *script: Script) -> None:
        self.script = script
        self.requests: list[Frame] = []
        self._reader = FrameReader()
        self._out: list[bytes] = []

    def write(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            step = self.script[min(len(self.requests), len(self.script) - 1)]
            self.requests.append(frame)
            self._out += step(frame)

    def read(self, timeout: float) -> bytes:
        if self._out:
            return self._out.pop(0)
        threading.Event().wait(timeout)
        return b""

    def close(self) -> None:
        pass


def client_of(*script: Script) -> tuple[Client, Board]:
    board = Board(*script)
    return Client(board, "board", timeout=0.02, attempts=3), board


def good(request: Frame) -> list[bytes]:
    return [answer(request).encode()]


def nothing(request: Frame) -> list[bytes]:
    return []


def test_a_reply_is_returned() -> None:
    client, board = client_of(good)
    assert client.request(msg.RESTORE)["memory_crc"] == 7
    assert len(board.requests) == 1


def test_a_request_carries_record_and_tail_and_a_reply_its_tail() -> None:
    def read(request: Frame) -> list[bytes]:
        return [Frame(request.type | 0x80, request.sequence, struct.pack("<I", 3) + b"abc").encode()]

    client, board = client_of(read)
    reply = client.request(msg.READ, offset=1, bytes=3)
    assert (reply["bytes"], reply.tail) == (3, b"abc")
    assert board.requests[0].payload == struct.pack("<2I", 1, 3)


def test_a_lost_reply_is_asked_for_again_under_the_same_number() -> None:
    client, board = client_of(nothing, good)
    assert client.request(msg.RESTORE)["memory_crc"] == 7
    assert len(board.requests) == 2
    assert board.requests[0] == board.requests[1]


def test_every_new_request_has_the_next_number() -> None:
    client, board = client_of(good)
    client._sequence = 0xFFFE
    for _ in range(3):
        client.request(msg.RESTORE)
    assert [f.sequence for f in board.requests] == [0xFFFF, 0, 1]


def test_a_doubled_reply_does_not_answer_the_next_request() -> None:
    client, _ = client_of(lambda f: [answer(f, 1).encode() * 2], lambda f: [answer(f, 2).encode()])
    assert client.request(msg.RESTORE)["memory_crc"] == 1
    assert client.request(msg.RESTORE)["memory_crc"] == 2


def test_stale_replies_foreign_replies_and_noise_are_dropped() -> None:
    def script(request: Frame) -> list[bytes]:
        stale = replace(answer(request, 1), sequence=(request.sequence - 1) & 0xFFFF)
        foreign = replace(answer(request, 2), type=msg.RUN.type | msg.REPLY)
        short = replace(answer(request, 3), payload=b"")
        damaged = bytearray(answer(request, 4).encode())
        damaged[9] ^= 1
        old_error = replace(error(request, "type"), sequence=(request.sequence - 1) & 0xFFFF)
        noise = [b"boot text\r\n", stale.encode(), foreign.encode(), short.encode(), bytes(damaged), old_error.encode()]
        return [*noise, answer(request, 5).encode()]

    client, board = client_of(script)
    assert client.request(msg.RESTORE)["memory_crc"] == 5
    assert len(board.requests) == 1


def test_a_reply_in_pieces_is_put_together() -> None:
    client, _ = client_of(lambda f: [bytes([b]) for b in answer(f).encode()])
    assert client.request(msg.RESTORE)["memory_crc"] == 7


def test_silence_ends_in_one_line_after_all_attempts() -> None:
    client, board = client_of(nothing)
    with pytest.raises(NoAnswer, match=r"^board: no answer to restore for 0.06 s \(3 attempts\)$"):
        client.request(msg.RESTORE)
    assert len(board.requests) == 3


def test_endless_noise_is_silence() -> None:
    client, board = client_of(nothing)
    board.read = lambda timeout: b"\x01\0" * 10  # type: ignore[method-assign]
    with pytest.raises(NoAnswer):
        client.request(msg.RESTORE)


def test_an_error_reply_is_raised_by_name() -> None:
    client, _ = client_of(lambda f: [error(f, "address", 42).encode()])
    with pytest.raises(
        Refused, match=r"^board: refuses restore: an address .* \(error address, detail 42\)$"
    ) as caught:
        client.request(msg.RESTORE)
    assert (caught.value.error, caught.value.detail) == ("address", 42)


def test_a_board_that_has_forgotten_the_session_has_restarted() -> None:
    client, _ = client_of(lambda f: [error(f, "sequence").encode()])
    with pytest.raises(Restarted, match="restarted by itself"):
        client.request(msg.RESTORE)


def test_a_fault_during_a_request_is_reported_with_its_place() -> None:
    client, _ = client_of(lambda f: [ready(exception=3, pc=0x1234).encode()])
    why = "exception 3 at 0x00001234, status 00000082, address 00000BAD"
    with pytest.raises(Restarted, match=why) as caught:
        client.request(msg.RESTORE)
    assert caught.value.exception == 3
    assert caught.value.registers["r12"] == 112
    assert caught.value.registers["sp"] == 113


def test_reset_waits_for_ready_and_repeats_a_lost_request() -> None:
    client, board = client_of(hello(), nothing, lambda f: [answer(f).encode(), ready().encode()])
    client.reset(timeout=0.02)
    assert [f.type for f in board.requests] == [msg.HELLO.type, msg.RESET.type, msg.RESET.type]


def test_reset_knows_a_restart_by_the_session_being_forgotten() -> None:
    client, _ = client_of(hello(), nothing, lambda f: [error(f, "sequence").encode()])
    client.reset(timeout=0.02)


def test_a_board_that_does_not_come_back_is_one_line() -> None:
    client, _ = client_of(hello(), lambda f: [answer(f).encode()])
    with pytest.raises(NoAnswer, match=r"^board: did not come back from a reset \(3 times 0.02 s\)$"):
        client.reset(timeout=0.02)


def hello(**changes: int) -> Script:
    def script(request: Frame) -> list[bytes]:
        nonce = msg.HELLO.request.unpack(request.payload)["nonce"]
        fields = {f.name: (0 if f.count == 1 else (0,) * f.count) for f in msg.HELLO.reply.fields}
        fields |= {"nonce": nonce, "generator": msg.GENERATOR_VERSION, **changes}
        return [Frame(request.type | msg.REPLY, request.sequence, msg.HELLO.reply.pack(**fields)).encode()]

    return script


def test_hello_ignores_that_the_board_has_just_booted() -> None:
    client, _ = client_of(lambda f: [ready().encode(), *hello(boots=9)(f)])
    assert client.hello()["boots"] == 9


@pytest.mark.parametrize("changes", [{"generator": 99}, {"nonce": -1 % (1 << 32)}])
def test_firmware_of_another_version_is_refused(changes: dict[str, int]) -> None:
    client, _ = client_of(hello(**changes))
    with pytest.raises(TargetError, match="build and flash it again"):
        client.hello()


def test_a_socket_whose_other_end_closes_is_gone() -> None:
    ours, theirs = socket.socketpair()
    client = Client(SocketTransport(ours, lambda: Gone("board: it ended")), "board", timeout=5)
    theirs.close()
    with pytest.raises(Gone, match=r"^board: it ended$"):
        client.request(msg.RESTORE)
    client.close()


def test_a_serial_port_that_cannot_be_opened_is_one_line() -> None:
    with pytest.raises(TargetError, match=r"^/dev/no-such-port: the serial port cannot be opened: [^\n]*$"):
        SerialTransport("/dev/no-such-port", 115200)


def test_an_unknown_kind_of_port_url_is_one_line() -> None:
    with pytest.raises(TargetError, match=r"^nosuch://x: the serial port cannot be opened: [^\n]*$"):
        SerialTransport("nosuch://x", 115200)


@pytest.fixture
def terminal() -> tuple[int, str]:
    """A pseudo terminal: the board's end, and the name under which the host opens the other."""
    board, host = os.openpty()
    return board, os.ttyname(host)


def test_a_serial_port_carries_a_session(terminal: tuple[int, str]) -> None:
    board, port = terminal
    client = Client(SerialTransport(port, 115200), port, timeout=5)

    def serve() -> None:
        reader, served = FrameReader(), 0
        while served < 2:
            for frame in reader.feed(os.read(board, 4096)):
                os.write(board, answer(frame, served).encode())
                served += 1

    thread = threading.Thread(target=serve)
    thread.start()
    assert [client.request(msg.RESTORE)["memory_crc"] for _ in range(2)] == [0, 1]
    thread.join()
    client.close()
    os.close(board)


def test_a_serial_port_pulled_out_is_gone(terminal: tuple[int, str]) -> None:
    board, port = terminal
    client = Client(SerialTransport(port, 115200), port, timeout=5)
    os.close(board)
    with pytest.raises(TargetError, match=f"^{port}: the serial port is gone"):
        client.request(msg.RESTORE)
    client.close()


def test_a_port_that_fails_while_reading_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        timeout = 0.0

        def read(self, size: int) -> bytes:
            raise serial.SerialException("device disconnected")

    monkeypatch.setattr(serial, "serial_for_url", lambda *_, **__: Dying())
    with pytest.raises(Gone, match=r"^COM4: the serial port is gone \(device disconnected\)$"):
        SerialTransport("COM4", 115200).read(1.0)


class Counting:
    """The firmware's way with sequence numbers, for requests of READ, whose replies are the four bytes of the offset.
    `there` and `back` name the frames, by how many came before, that get lost that way."""

    def __init__(self, there: set[int], back: set[int]) -> None:
        self.there, self.back, self.last, self.frames, self.replies = there, back, 0, 0, 0
        self.carried_out: list[int] = []

    def __call__(self, request: Frame) -> list[bytes]:
        self.frames += 1
        if self.frames - 1 in self.there:
            return []
        if request.sequence == (self.last + 1) & 0xFFFF:
            self.last = request.sequence
            self.carried_out.append(msg.READ.request.unpack(request.payload)["offset"])
        elif request.sequence != self.last:
            return self._back(error(request, "sequence", self.last))
        return self._back(
            Frame(msg.READ.type | msg.REPLY, request.sequence, struct.pack("<I", 4) + request.payload[:4])
        )

    def _back(self, frame: Frame) -> list[bytes]:
        self.replies += 1
        return [] if self.replies - 1 in self.back else [frame.encode()]


@pytest.mark.parametrize(
    ("there", "back", "repeated"),
    [
        (set(), set(), 0),
        ({0}, set(), 0),
        ({3}, set(), 0),
        ({2, 3, 4, 9}, set(), 0),
        (set(), {0}, 1),
        (set(), {2, 3}, 2),
        (set(), {9}, 0),  # the last one: its reply is stored
        ({1, 5}, {0, 6, 7}, None),
    ],
)
def test_a_transfer_gets_every_reply_whatever_is_lost(there: set[int], back: set[int], repeated: int | None) -> None:
    script = Counting(there, back)
    client, _ = client_of(script)
    client._sequence, client.window = 0, 4
    replies = client.transfer(msg.READ, [Part({"offset": 4 * i, "bytes": 4}) for i in range(10)])
    assert [struct.unpack("<I", reply.tail) for reply in replies] == [(4 * i,) for i in range(10)]
    assert sorted(set(script.carried_out)) == [4 * i for i in range(10)]
    if repeated is not None:
        assert len(script.carried_out) == 10 + repeated


def test_a_transfer_into_silence_ends() -> None:
    client, _ = client_of(nothing)
    client.window = 4
    with pytest.raises(NoAnswer, match=r"^board: no answer to read for 0.06 s$"):
        client.transfer(msg.READ, [Part({"offset": 0, "bytes": 4})] * 6)


def test_a_transfer_to_a_board_that_restarted_ends() -> None:
    client, _ = client_of(lambda f: [error(f, "session").encode()])
    with pytest.raises(Restarted):
        client.transfer(msg.READ, [Part({"offset": 0, "bytes": 4})] * 6)


@pytest.mark.parametrize("version", [1, 3])
def test_another_major_version_is_one_clear_line(version: int) -> None:
    client, _ = client_of(lambda f: [replace(error(f, "version", f.version), version=version).encode()])
    line = f"the firmware speaks version {version} of the protocol, this program version 2; build and flash it again"
    with pytest.raises(TargetError, match=f"^board: {line}$"):
        client.hello()


def test_a_newer_minor_version_is_no_hindrance() -> None:
    client, _ = client_of(hello(minor=9, capabilities=0xFFFF, window=7))
    assert client.hello()["minor"] == 9
    assert client.window == 7


def test_counters_tell_what_the_line_did() -> None:
    client, _ = client_of(nothing, lambda f: [b"\0noise\0", ready().encode(), answer(f).encode()])
    client._boots = 2  # that of `ready`: one that was on its way when the session began
    client.request(msg.RESTORE)
    assert vars(client.counters) == {
        **{"requests": 1, "resends": 1, "bad_frames": 1, "strays": 1, "restarts": 0, "resets": 0},
        **{"board_bad_frames": 0, "board_repeats": 0, "overruns": 0},
    }
