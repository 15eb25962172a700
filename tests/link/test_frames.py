"""Frames: firmware and host agree with each other and with the public COBS and CRC-32, on good and on damaged bytes."""

from __future__ import annotations

import zlib

import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.link.conftest import MAX_COBS, FrameCode
from zobnn_edge.link.frames import Frame, FrameError, FrameReader
from zobnn_edge.link.messages import FRAME_HEADER, MAX_PAYLOAD

types = st.integers(0, 255)
sequences = st.integers(0, 0xFFFF)
# Runs of zeros and of other bytes: COBS counts to 254 and begins anew at zeros.
runs = st.builds(lambda byte, n: bytes([byte]) * n, st.integers(0, 255), st.sampled_from([1, 2, 253, 254, 255, 256]))
payloads = st.one_of(
    st.binary(max_size=MAX_PAYLOAD), st.lists(runs, max_size=8).map(lambda parts: b"".join(parts)[:MAX_PAYLOAD])
)
frames = st.builds(Frame, types, sequences, payloads)


def found_by_host(stream: bytes) -> tuple[list[tuple[int, int, int, bytes]], int]:
    reader = FrameReader()
    found = [(f.version, f.type, f.sequence, f.payload) for f in reader.feed(stream)]
    return found, reader.bad


@given(frames)
def test_firmware_encodes_as_the_host(frame_code: FrameCode, frame: Frame) -> None:
    assert frame_code.finish(frame.type, frame.sequence, frame.payload) == frame.encode()


@given(frames)
def test_a_frame_is_public_cobs_around_a_public_crc(frame: Frame) -> None:
    wire = frame.encode()
    assert wire[0] == wire[-1] == 0
    assert 0 not in wire[1:-1]
    raw = cobs.decode(wire[1:-1])
    assert zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little")
    assert raw[FRAME_HEADER.size : -4] == frame.payload


@given(st.lists(frames, max_size=3))
def test_firmware_receives_what_the_host_sends(frame_code: FrameCode, sent: list[Frame]) -> None:
    got = frame_code.receive(b"".join(frame.encode() for frame in sent))
    assert got == [(f.version, f.type, f.sequence, f.payload) for f in sent]
    assert (frame_code.good, frame_code.bad) == (len(sent), 0)


@settings(max_examples=300)
@given(frames, st.data())
def test_firmware_and_host_drop_the_same_damaged_frames(
    frame_code: FrameCode, frame: Frame, data: st.DataObject
) -> None:
    wire = bytearray(frame.encode())
    damage = data.draw(st.sampled_from(["flip", "lose", "double", "cut"]))
    at = data.draw(st.integers(0, len(wire) - 1))
    if damage == "flip":
        wire[at] ^= data.draw(st.integers(1, 255))
    elif damage == "lose":
        del wire[at]
    elif damage == "double":
        wire.insert(at, wire[at])
    else:
        del wire[at:]
    good = Frame(1, 2, b"after").encode()
    host, bad = found_by_host(bytes(wire) + good)
    assert frame_code.receive(bytes(wire) + good) == host
    assert frame_code.bad == bad
    intact = (frame.version, frame.type, frame.sequence, frame.payload)
    after = (frame.version, 1, 2, b"after")
    assert host in ([after], [intact, after]), "a damaged frame came through as another, or a good one got lost"


@given(st.binary(max_size=3 * MAX_COBS))
def test_noise_is_no_frame_and_does_no_harm(frame_code: FrameCode, noise: bytes) -> None:
    good = Frame(3, 4, b"x" * 300)
    host, bad = found_by_host(noise + good.encode())
    assert frame_code.receive(noise + good.encode()) == host
    assert frame_code.bad == bad
    assert host == [(good.version, 3, 4, good.payload)]


@given(frames, st.text(st.characters(min_codepoint=1, max_codepoint=0x7F)))
def test_text_between_frames_is_survived(frame_code: FrameCode, frame: Frame, text: str) -> None:
    stream = text.encode() + frame.encode() + text.encode() + frame.encode()
    assert len(frame_code.receive(stream)) == 2
    assert len(found_by_host(stream)[0]) == 2


@given(frames, st.integers(1, 40))
def test_the_host_takes_frames_in_any_pieces(frame: Frame, size: int) -> None:
    wire, reader = frame.encode() * 2, FrameReader()
    pieces = [wire[i : i + size] for i in range(0, len(wire), size)]
    assert [f for piece in pieces for f in reader.feed(piece)] == [frame, frame]


@pytest.mark.parametrize("length", [MAX_COBS - 1, MAX_COBS, MAX_COBS + 1, 10 * MAX_COBS])
def test_bytes_without_end_are_dropped(frame_code: FrameCode, length: int) -> None:
    good = Frame(1, 1, b"")
    stream = b"\x01" * length + good.encode()
    assert len(frame_code.receive(stream)) == 1
    assert frame_code.bad == 1
    reader = FrameReader()
    assert [f for i in range(length + 99) for f in reader.feed(stream[i : i + 1])] == [good]
    assert reader.bad == 1


def test_a_length_that_is_not_the_payloads_is_refused(frame_code: FrameCode) -> None:
    body = FRAME_HEADER.pack(version=1, type=1, sequence=1, length=5, reserved=0) + b"four"
    chunk = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))
    assert frame_code.receive(b"\0" + chunk + b"\0") == []
    assert frame_code.bad == 1
    with pytest.raises(FrameError, match="a length of 5, but 4 bytes"):
        Frame.decode(chunk)


def test_a_payload_too_long_for_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="a frame holds 1024"):
        Frame(1, 1, bytes(MAX_PAYLOAD + 1)).encode()
