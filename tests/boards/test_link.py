"""The firmware's end of the link: requests are carried out once, refused ones change nothing, garbage does no harm."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from zobnn_edge.errors import InputError
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Refused
from zobnn_edge.link.frames import Frame, FrameReader
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Target
from zobnn_edge.targets.process import ProcessTarget


def exchange(target: ProcessTarget, *frames: Frame | bytes, replies: int) -> list[Frame]:
    """Send frames (or bytes) past the client and collect so many replies."""
    transport, reader, got = target._client._transport, FrameReader(), []
    for frame in frames:
        transport.write(frame.encode() if isinstance(frame, Frame) else frame)
    while len(got) < replies:
        data = transport.read(10.0)
        assert data, f"only {len(got)} of {replies} replies came"
        got += reader.feed(data)
    return got


def request(target: ProcessTarget, message: msg.Message, tail: bytes = b"", **fields: int) -> Frame:
    """The next request of the session."""
    target._client._sequence = (target._client._sequence + 1) & 0xFFFF
    return Frame(message.type, target._client._sequence, message.request.pack(**fields) + tail)


def error_of(frame: Frame) -> str:
    assert frame.type == msg.ERROR_TYPE
    code = msg.ERROR.unpack(frame.payload)["code"]
    return next(name for name, (number, _) in msg.ERRORS.items() if number == code)


def test_a_request_sent_twice_flips_once_and_is_answered_twice(board: ProcessTarget, model: Model) -> None:
    repeats = board.status()["repeats"]
    flip = request(board, msg.FLIP, struct.pack("<I", 77), count=1)
    first, second = exchange(board, flip, flip, replies=2)
    assert first == second
    assert board.read() == model.image.flipped([77]).data
    assert board.status()["repeats"] == repeats + 1


def test_requests_out_of_order_are_refused_and_disturb_nothing(board: ProcessTarget, model: Model) -> None:
    status = request(board, msg.STATUS)
    (reply,) = exchange(board, status, replies=1)
    for step in (-1, 2, 1000):
        payload = msg.FLIP.request.pack(count=1) + struct.pack("<I", 5)
        stray = Frame(msg.FLIP.type, (status.sequence + step) & 0xFFFF, payload)
        assert error_of(exchange(board, stray, replies=1)[0]) == "sequence"
    assert exchange(board, status, replies=1) == [reply], "the last reply is sent again"
    assert board.read() == model.image.data


def test_sequence_numbers_wrap(board: ProcessTarget) -> None:
    hello = Frame(msg.HELLO.type, 0xFFFF, HELLO_RECORD)
    status = Frame(msg.STATUS.type, 0)
    replies = exchange(board, hello, status, replies=2)
    board._client._sequence = 0
    assert [r.type for r in replies] == [msg.HELLO.type | msg.REPLY, msg.STATUS.type | msg.REPLY]


def test_a_session_must_begin_with_hello(board: ProcessTarget) -> None:
    board._client.reset()
    assert error_of(exchange(board, Frame(msg.STATUS.type, 1), replies=1)[0]) == "session"
    board._client.hello()


def test_another_protocol_version_is_refused(board: ProcessTarget) -> None:
    frame = Frame(msg.HELLO.type, 1, HELLO_RECORD, version=1)
    assert error_of(exchange(board, frame, replies=1)[0]) == "version"


HELLO_RECORD = msg.HELLO.request.pack(nonce=1, minor=0, reserved=0)
HALF = {"rate_q64": 1 << 63, "seed": 0, "ranges": 1, "reserved": 0}
REFUSED: list[tuple[msg.Message, bytes, dict[str, int], str]] = [
    (msg.HELLO, b"x", {"nonce": 0, "minor": 0, "reserved": 0}, "length"),
    (msg.RESTORE, b"x", {}, "length"),
    (msg.FLIP, b"1234567", {"count": 2}, "length"),
    (msg.FLIP, b"", {"count": 0xFFFFFFFF}, "argument"),
    (msg.FLIP, struct.pack("<2I", 0, 0xFFFFFFFF), {"count": 2}, "address"),
    (msg.INJECT, b"", {"rate_q64": 1, "seed": 0, "ranges": 1, "reserved": 0}, "length"),
    (msg.INJECT, b"", {"rate_q64": 1, "seed": 0, "ranges": 33, "reserved": 0}, "argument"),
    (msg.INJECT, struct.pack("<2I", 0, 7000), HALF, "address"),
    (
        msg.INJECT,
        struct.pack("<2I", 8, 1 << 31),
        {"rate_q64": 1 << 63, "seed": 0, "ranges": 1, "reserved": 0},
        "address",
    ),
    (msg.READ, b"", {"offset": 0, "bytes": 1021}, "argument"),
    (msg.READ, b"", {"offset": 1568, "bytes": 1}, "address"),
    (msg.READ, b"", {"offset": 0xFFFFFFFF, "bytes": 2}, "address"),
    (msg.PUT_INPUTS, b"x", {"offset": 0xFFFFFFFF}, "address"),
    (msg.PUT_INPUTS, b"x" * 8, {"offset": 1 << 24}, "address"),
    (msg.RUN, b"", {"first": 0, "count": 0, "format": 0, "limit": 0}, "argument"),
    (msg.RUN, b"", {"first": 0, "count": 26, "format": 0, "limit": 0}, "argument"),
    (msg.RUN, b"", {"first": 0, "count": 1, "format": 2, "limit": 0}, "argument"),
    (msg.RUN, b"", {"first": 0xFFFFFFFF, "count": 1, "format": 1, "limit": 0}, "address"),
    (msg.SCORES, b"", {"first": 10, "count": 1}, "address"),
    (msg.SCORES, b"", {"first": 0, "count": 255}, "address"),
]


@pytest.mark.parametrize(("message", "tail", "fields", "error"), REFUSED)
def test_a_request_that_makes_no_sense_is_refused_and_changes_nothing(
    board: ProcessTarget, model: Model, message: msg.Message, tail: bytes, fields: dict[str, int], error: str
) -> None:
    with pytest.raises(Refused) as caught:
        board._client.request(message, tail, **fields)
    assert caught.value.error == error
    assert board.read() == model.image.data


def test_an_unknown_request_is_refused(board: ProcessTarget) -> None:
    frame = request(board, msg.STATUS)
    assert error_of(exchange(board, Frame(0x55, frame.sequence), replies=1)[0]) == "type"


def test_a_refused_request_sent_again_is_refused_again(board: ProcessTarget) -> None:
    bad = request(board, msg.RUN, first=0, count=0, format=0, limit=0)
    first, second = exchange(board, bad, bad, replies=2)
    assert first == second
    assert error_of(first) == "argument"


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_never_hang_nor_corrupt(board: ProcessTarget, host: Target, model: Model, seed: int) -> None:
    rng = random.Random(seed)
    bad = board.status()["bad_frames"]
    for _ in range(20):
        board._client._transport.write(rng.randbytes(rng.randrange(300)) + bytes(rng.randrange(3)))
    board._client._transport.write(b"\x01" * 3000)
    assert board.read() == model.image.data
    assert board.run().scores.tobytes() == host.run().scores.tobytes()
    assert board.status()["bad_frames"] > bad


def test_bytes_that_a_busy_board_has_no_room_for_wait_in_the_line(board: ProcessTarget, model: Model) -> None:
    before = board.status()
    count = min(msg.MAX_RANGES, (board._hello["max_payload"] - msg.INJECT.request.size) // 8)
    ranges = struct.pack("<2I", *max(model.image.ranges(), key=lambda r: r[1])) * count
    busy = [
        request(board, msg.INJECT, ranges, rate_q64=(1 << 64) // 3, seed=seed, ranges=count, reserved=0)
        for seed in range(16)
    ]
    *done, last = exchange(board, *busy, b"x" * 3000, request(board, msg.STATUS), replies=len(busy) + 1)
    assert {reply.type for reply in done} == {msg.INJECT.type | msg.REPLY}
    after = msg.STATUS.reply.unpack(last.payload)
    assert after["overruns"] == 0
    assert after["bad_frames"] == before["bad_frames"] + 1


@pytest.mark.parametrize("seed", range(3))
def test_random_requests_are_always_answered_and_stay_in_their_bounds(
    board: ProcessTarget, host: Target, model: Model, inputs: np.ndarray, seed: int
) -> None:
    rng = random.Random(seed)
    kinds = [m for m in msg.MESSAGES if m not in (msg.HELLO, msg.RESET)]
    for _ in range(60):
        message = rng.choice(kinds)
        words = [rng.choice([0, 1, 2, 3, 26, 1 << 31, 0xFFFFFFFF, rng.randrange(50000)]) for _ in range(6)]
        payload = struct.pack("<6I", *words)[: rng.choice([message.request.size, message.request.size + 4, 24])]
        frame = request(board, msg.STATUS)
        (reply,) = exchange(board, Frame(message.type, frame.sequence, payload), replies=1)
        assert reply.sequence == frame.sequence
        assert reply.type in (msg.ERROR_TYPE, message.type | msg.REPLY)
    gaps = np.unpackbits(np.frombuffer(model.image.data, np.uint8), bitorder="little").astype(bool)
    memory = np.unpackbits(np.frombuffer(board.read(), np.uint8), bitorder="little").astype(bool)
    for first, bits in model.image.ranges():
        gaps[first : first + bits] = memory[first : first + bits]
    assert (gaps == memory).all(), "a bit between two parameters was changed"
    board.restore()
    board.put_inputs(inputs)
    assert board.run().scores.tobytes() == host.run().scores.tobytes()


def test_inputs_beyond_the_boards_memory_run_in_parts(board: ProcessTarget, host: Target, inputs: np.ndarray) -> None:
    real = board._hello["input_bytes"]
    try:
        board._hello["input_bytes"] = 2 * inputs[0].nbytes + 1
        board.put_inputs(inputs)
        for _ in range(2):
            assert board.run().scores.tobytes() == host.run().scores.tobytes()
        board._hello["input_bytes"] = inputs[0].nbytes - 1
        with pytest.raises(InputError, match="give 8-bit inputs"):
            board.put_inputs(inputs)
    finally:
        board._hello["input_bytes"] = real
        board.put_inputs(inputs)


def test_inputs_that_fit_are_sent_once(board: ProcessTarget) -> None:
    board.run()
    frames = board.status()["frames"]
    board.run()
    assert board.status()["frames"] == frames + 2, "one RUN and one STATUS"


def test_hello_describes_board_and_memory(board: ProcessTarget, model: Model) -> None:
    info = board.info
    assert info.name in (info.board, f"qemu:{info.board}")
    assert info.counter == ("nothing" if info.name == "native" else "instructions")
    assert board._hello["plan_crc"] == zlib.crc32(model.plan)
    assert board._hello["arena_bytes"] == model.arena_bytes
    assert info.memory_address >= 0x20000000


def test_instruction_counts_repeat_to_the_instruction(board: ProcessTarget) -> None:
    counts = {board.run().instructions for _ in range(3)}
    board.reset()
    counts.add(board.run().instructions)
    assert len(counts) == 1
    count = counts.pop()
    assert count is None if board.info.counter == "nothing" else count > 100_000


def test_a_late_hello_does_not_set_the_count_back(board: ProcessTarget, model: Model) -> None:
    """Else a flip whose number follows the HELLO's could be made twice."""
    hello = Frame(msg.HELLO.type, 100, msg.HELLO.request.pack(nonce=77, minor=0, reserved=0))
    flip = Frame(msg.FLIP.type, 101, msg.FLIP.request.pack(count=1) + struct.pack("<I", 5))
    try:
        _, first, refused, again = exchange(board, hello, flip, hello, flip, replies=4)
        assert error_of(refused) == "sequence"
        assert first == again
        (late,) = exchange(board, replace(hello, sequence=7), replies=1)
        assert error_of(late) == "sequence", "the same session, whatever the number"
    finally:
        board._client.hello()
    assert board.read() == model.image.flipped([5]).data


def test_several_requests_under_way_are_carried_out_in_order_and_a_gap_stops_them(board: ProcessTarget) -> None:
    reads = [request(board, msg.READ, offset=4 * i, bytes=4) for i in range(4)]
    board._client._sequence = reads[-1].sequence
    *good, refused = exchange(board, reads[0], reads[1], reads[3], replies=3)
    assert [frame.sequence for frame in good] == [reads[0].sequence, reads[1].sequence]
    assert error_of(refused) == "sequence"
    assert msg.ERROR.unpack(refused.payload)["detail"] == reads[1].sequence
    assert len(exchange(board, reads[2], reads[3], replies=2)) == 2


def test_status_counts_what_the_line_did(board: ProcessTarget) -> None:
    before = board.status()
    status = request(board, msg.STATUS)
    board._client._sequence = status.sequence
    exchange(board, b"\0noise\0", status, status, replace(status, sequence=status.sequence - 9 & 0xFFFF), replies=3)
    after = board.status()
    assert {name: after[name] - before[name] for name in ("frames", "bad_frames", "repeats", "strays", "boots")} == {
        **{"frames": 4, "bad_frames": 1, "repeats": 1, "strays": 1, "boots": 0},
    }


def test_hello_says_what_the_board_can_do(board: ProcessTarget) -> None:
    hello = board._hello
    can = {name for name, (bit, _) in msg.CAPABILITIES.items() if hello["capabilities"] & bit}
    assert can == {"memory", "arm", "watchdog"}
    assert hello["window"] >= 4
    assert bool(hello["ram_bytes"]) == (board.info.name != "native")
