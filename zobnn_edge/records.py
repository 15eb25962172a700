"""Fixed-size little-endian records, declared once.

A record declared here is packed and unpacked by Python, and `tools/generate.py` turns the same declaration into a
C struct and a table of `docs/spec.md`. Fields keep their natural alignment, so that the C struct has no padding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_CODES = {"u8": "B", "u16": "H", "u32": "I", "i32": "i", "u64": "Q", "f32": "f"}
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "u64": 8, "f32": 4}


@dataclass(frozen=True)
class Field:
    """One field: its type (u8, u16, u32, i32, u64, f32), how many of it, and what it means."""

    name: str
    type: str
    doc: str
    count: int = 1

    @property
    def size(self) -> int:
        """Size in bytes."""
        return _SIZES[self.type] * self.count


@dataclass(frozen=True)
class Record:
    """A named sequence of fields; `pack` and `unpack` convert it to and from bytes."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        for field, offset in self.offsets():
            if offset % _SIZES[field.type]:
                raise ValueError(f"{self.name}.{field.name} at offset {offset} is not aligned")

    @cached_property
    def _struct(self) -> struct.Struct:
        return struct.Struct("<" + "".join(f"{f.count}{_CODES[f.type]}" for f in self.fields))

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._struct.size

    def offsets(self) -> list[tuple[Field, int]]:
        """The fields with their byte offsets."""
        out, offset = [], 0
        for field in self.fields:
            out.append((field, offset))
            offset += field.size
        return out

    def pack(self, **values: Any) -> bytes:
        """The record's bytes; every field must be given, arrays as sequences of `count` numbers. Raises ValueError when
        a number does not fit its field."""
        unknown = set(values) - {f.name for f in self.fields}
        if unknown:
            raise TypeError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        flat: list[Any] = []
        for field in self.fields:
            value = values[field.name]
            if field.count == 1:
                flat.append(value)
            else:
                items: Sequence[Any] = tuple(value)
                if len(items) != field.count:
                    raise ValueError(f"{self.name}.{field.name} takes {field.count} values, not {len(items)}")
                flat.extend(items)
        try:
            return self._struct.pack(*flat)
        except struct.error as error:
            raise ValueError(f"{self.name}: {error}") from None

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> dict[str, Any]:
        """The fields of the record at `offset`; raises ValueError when the data ends before it does."""
        if offset < 0 or offset + self.size > len(data):
            raise ValueError(f"{self.name} at byte {offset} runs past the end ({len(data)} bytes)")
        flat = self._struct.unpack_from(data, offset)
        out: dict[str, Any] = {}
        at = 0
        for field in self.fields:
            out[field.name] = flat[at] if field.count == 1 else flat[at : at + field.count]
            at += field.count
        return out
