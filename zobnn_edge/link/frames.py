"""Frames of the link, host side: COBS between zero bytes around header, payload and CRC-32 (docs/spec.md, "Link")."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cobs import cobs

from zobnn_edge.link.messages import CRC_BYTES, FRAME_HEADER, MAX_PAYLOAD, PROTOCOL_VERSION

_MAX_COBS = FRAME_HEADER.size + MAX_PAYLOAD + CRC_BYTES + 8


class FrameError(ValueError):
    """Bytes between two zero bytes that are no good frame."""


@dataclass(frozen=True)
class Frame:
    """One frame: message type, sequence number and payload (record and tail)."""

    type: int
    sequence: int
    payload: bytes = b""
    version: int = PROTOCOL_VERSION

    def encode(self) -> bytes:
        """The bytes on the wire, with a zero byte at both ends."""
        if len(self.payload) > MAX_PAYLOAD:
            raise ValueError(f"a payload of {len(self.payload)} bytes; a frame holds {MAX_PAYLOAD}")
        header = FRAME_HEADER.pack(
            version=self.version, type=self.type, sequence=self.sequence, length=len(self.payload), reserved=0
        )
        body = header + self.payload
        return b"\0" + bytes(cobs.encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))) + b"\0"

    @staticmethod
    def decode(chunk: bytes) -> Frame:
        """The frame in the bytes between two zero bytes; raises FrameError when COBS, CRC-32 or length are wrong."""
        try:
            raw = bytes(cobs.decode(chunk))
        except cobs.DecodeError as error:
            raise FrameError(f"no COBS: {error}") from None
        if len(raw) < FRAME_HEADER.size + CRC_BYTES:
            raise FrameError(f"{len(raw)} bytes are no frame")
        body, crc = raw[:-CRC_BYTES], raw[-CRC_BYTES:]
        if zlib.crc32(body) != int.from_bytes(crc, "little"):
            raise FrameError("wrong CRC-32")
        header, payload = FRAME_HEADER.unpack(body), body[FRAME_HEADER.size :]
        if header["length"] != len(payload):
            raise FrameError(f"a length of {header['length']}, but {len(payload)} bytes of payload")
        return Frame(header["type"], header["sequence"], payload, header["version"])


class FrameReader:
    """Finds the frames in a stream of bytes; counts and drops what is none (noise, text, damaged frames)."""

    def __init__(self) -> None:
        self.bad = 0
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order."""
        *chunks, rest = (bytes(self._rest) + data).split(b"\0")
        self._rest = bytearray(rest[: _MAX_COBS + 1])  # more than that is no frame, however long it grows
        for chunk in chunks:
            if not chunk:
                continue
            try:
                yield Frame.decode(chunk)
            except FrameError:
                self.bad += 1
