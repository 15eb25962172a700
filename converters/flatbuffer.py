"""TFLite flatbuffers as plain data: the schema's tables, a compact writer, and a reader that knows where data lies.

Only what an LCE file needs of TensorFlow Lite's schema (version 3) is declared here; order of fields and defaults are
the schema's. Source: tensorflow/lite/schema/schema.fbs (Apache-2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from zobnn_edge.errors import ModelError

IDENTIFIER = b"TFL3"
VERSION = 3
DATA_ALIGN = 16

_SCALARS = {
    "i8": number_types.Int8Flags,
    "u8": number_types.Uint8Flags,
    "i32": number_types.Int32Flags,
    "u32": number_types.Uint32Flags,
    "f32": number_types.Float32Flags,
}
_VECTORS = {"[i32]": "<i4", "[i64]": "<i8", "[f32]": "<f4"}

SCHEMA: dict[str, tuple[tuple[str, str], ...]] = {
    "Model": (
        ("version", "u32"),
        ("operator_codes", "[OperatorCode]"),
        ("subgraphs", "[SubGraph]"),
        ("description", "string"),
        ("buffers", "[Buffer]"),
        ("metadata_buffer", "[i32]"),
        ("metadata", "[Metadata]"),
    ),
    "OperatorCode": (
        ("deprecated_builtin_code", "i8"),
        ("custom_code", "string"),
        ("version", "i32"),
        ("builtin_code", "i32"),
    ),
    "SubGraph": (
        ("tensors", "[Tensor]"),
        ("inputs", "[i32]"),
        ("outputs", "[i32]"),
        ("operators", "[Operator]"),
    ),
    "Tensor": (
        ("shape", "[i32]"),
        ("type", "i8"),
        ("buffer", "u32"),
        ("name", "string"),
        ("quantization", "QuantizationParameters"),
    ),
    "QuantizationParameters": (
        ("min", "[f32]"),
        ("max", "[f32]"),
        ("scale", "[f32]"),
        ("zero_point", "[i64]"),
    ),
    "Operator": (
        ("opcode_index", "u32"),
        ("inputs", "[i32]"),
        ("outputs", "[i32]"),
        ("builtin_options_type", "u8"),
        ("builtin_options", "union"),
        ("custom_options", "bytes"),
    ),
    "Buffer": (("data", "data"),),
    "Metadata": (("name", "string"), ("buffer", "u32")),
    "Conv2DOptions": (
        ("padding", "i8"),
        ("stride_w", "i32"),
        ("stride_h", "i32"),
    ),
    "Pool2DOptions": (
        ("padding", "i8"),
        ("stride_w", "i32"),
        ("stride_h", "i32"),
        ("filter_width", "i32"),
        ("filter_height", "i32"),
    ),
    "SoftmaxOptions": (("beta", "f32"),),
    "ReshapeOptions": (("new_shape", "[i32]"),),
}
"""Every table's fields (name, type). `[T]` is a vector of T; `bytes` a byte vector; `data` one that is aligned and that
reads as a Span; `union` one of the tables of OPTIONS, whose code the field before it holds."""

OPTIONS = {"Conv2DOptions": 1, "Pool2DOptions": 5, "SoftmaxOptions": 9, "ReshapeOptions": 17}
"""Code of each table of options in the schema's union BuiltinOptions."""

_DEFAULTS = {("OperatorCode", "version"): 1}


@dataclass(frozen=True)
class Node:
    """A table to be written: its name in SCHEMA and the fields that are set."""

    table: str
    fields: tuple[tuple[str, Any], ...]


def node(table: str, **fields: Any) -> Node:
    """A table with these fields; vectors are tuples or bytes, tables are nodes, and what is None stays out."""
    return Node(table, tuple((name, value) for name, value in fields.items() if value is not None))


@dataclass(frozen=True)
class Span:
    """Where a buffer's data lies in the file: first byte and number of bytes."""

    offset: int
    size: int


def write(model: Node) -> bytes:
    """The file of a Model node. Equal strings, vectors and tables are written once, but every Buffer on its own."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(_Writer(builder).table(model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


class _Writer:
    """Writes back to front, as flatbuffers grow: whatever a table points to comes before the table."""

    def __init__(self, builder: flatbuffers.Builder) -> None:
        self.builder = builder
        self.written: dict[tuple[str, Any], int] = {}

    def table(self, this: Node) -> int:
        declared, values = SCHEMA[this.table], dict(this.fields)
        if "builtin_options" in values:
            values["builtin_options_type"] = OPTIONS[values["builtin_options"].table]
        pointers = {n: self.shared(kind, values[n]) for n, kind in declared if n in values and kind not in _SCALARS}
        self.builder.StartObject(len(declared))
        # Single bytes go last and side by side, so that they fill one word together.
        slots = sorted(enumerate(declared), key=lambda slot: slot[1][1] in ("i8", "u8"))
        for slot, (name, kind) in slots:
            if name in pointers:
                self.builder.PrependUOffsetTRelativeSlot(slot, pointers[name], 0)
            elif name in values:
                self.builder.PrependSlot(_SCALARS[kind], slot, values[name], _DEFAULTS.get((this.table, name), 0))
        return int(self.builder.EndObject())

    def shared(self, kind: str, value: Any) -> int:
        """Offset of a value, which is written only if no equal one is there; buffers are never equal."""
        if kind in ("data", "[Buffer]"):
            return self.fresh(kind, value)
        if (kind, value) not in self.written:
            self.written[kind, value] = self.fresh(kind, value)
        return self.written[kind, value]

    def fresh(self, kind: str, value: Any) -> int:
        builder = self.builder
        if kind == "string":
            return int(builder.CreateString(value))
        if kind in _VECTORS:
            return int(builder.CreateNumpyVector(np.array(value, _VECTORS[kind])))
        if kind in ("bytes", "data"):
            builder.Prep(DATA_ALIGN if kind == "data" else 1, len(value))
            return int(builder.CreateByteVector(value))
        if not kind.startswith("["):
            return self.table(value)
        item: Callable[[Any], int] = self.table if kind == "[Buffer]" else lambda v: self.shared(kind[1:-1], v)
        offsets = [item(v) for v in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())


def read(blob: bytes) -> dict[str, Any]:
    """The Model table of a file as nested dictionaries and lists; raises ModelError when it is no TFLite file.

    Fields that SCHEMA leaves out are passed over, and so are options of operators that are not in OPTIONS.
    """
    if blob[4:8] != IDENTIFIER:
        raise ModelError("not a TFLite flatbuffer: it does not say TFL3 at byte 4")
    try:
        return _read_table(blob, "Model", struct.unpack_from("<I", blob)[0])
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"a damaged TFLite flatbuffer: {error}") from None


def _read_table(blob: bytes, name: str, position: int) -> dict[str, Any]:
    table, values = Table(blob, position), {}
    for slot, (field, kind) in enumerate(SCHEMA[name]):
        at = table.Offset(4 + 2 * slot)
        if kind in _SCALARS:
            default = _DEFAULTS.get((name, field), 0)
            values[field] = table.Get(_SCALARS[kind], position + at) if at else default
        elif at and kind == "union":
            options = {code: option for option, code in OPTIONS.items()}.get(values["builtin_options_type"])
            values[field] = _read_table(blob, options, table.Indirect(position + at)) if options else None
        else:
            values[field] = _read_pointer(blob, table, kind, at) if at else None
    return values


def _read_pointer(blob: bytes, table: Table, kind: str, at: int) -> Any:
    position = table.Pos + at
    if kind == "string":
        return table.String(position).decode()
    if kind in SCHEMA:
        return _read_table(blob, kind, table.Indirect(position))
    start, count = table.Vector(at), table.VectorLen(at)
    if kind in _VECTORS:
        return np.frombuffer(blob, _VECTORS[kind], count, start).tolist()
    if start + count > len(blob):
        raise ValueError(f"a vector of {count} items at byte {start} runs past the end")
    if kind in ("bytes", "data"):
        return blob[start : start + count] if kind == "bytes" else Span(start, count)
    return [_read_table(blob, kind[1:-1], table.Indirect(start + 4 * i)) for i in range(count)]
