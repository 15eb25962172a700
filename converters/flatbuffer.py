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
        ("details_type", "u8"),
        ("details", "unread"),
        ("quantized_dimension", "i32"),
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
        ("fused_activation_function", "i8"),
        ("dilation_w_factor", "i32"),
        ("dilation_h_factor", "i32"),
    ),
    "DepthwiseConv2DOptions": (
        ("padding", "i8"),
        ("stride_w", "i32"),
        ("stride_h", "i32"),
        ("depth_multiplier", "i32"),
        ("fused_activation_function", "i8"),
        ("dilation_w_factor", "i32"),
        ("dilation_h_factor", "i32"),
    ),
    "Pool2DOptions": (
        ("padding", "i8"),
        ("stride_w", "i32"),
        ("stride_h", "i32"),
        ("filter_width", "i32"),
        ("filter_height", "i32"),
        ("fused_activation_function", "i8"),
    ),
    "FullyConnectedOptions": (
        ("fused_activation_function", "i8"),
        ("weights_format", "i8"),
        ("keep_num_dims", "u8"),
        ("asymmetric_quantize_inputs", "u8"),
    ),
    "SoftmaxOptions": (("beta", "f32"),),
    "ConcatenationOptions": (("axis", "i32"), ("fused_activation_function", "i8")),
    "AddOptions": (("fused_activation_function", "i8"),),
    "ReshapeOptions": (("new_shape", "[i32]"),),
    "MulOptions": (("fused_activation_function", "i8"),),
    "TransposeOptions": (),
    "SubOptions": (("fused_activation_function", "i8"),),
    "LeakyReluOptions": (("alpha", "f32"),),
}
"""Every table's fields (name, type). `[T]` is a vector of T; `bytes` a byte vector; `data` one that is aligned and that
reads as a Span; `union` one of the tables of OPTIONS, whose code the field before it holds; `unread` is passed over."""

OPTIONS = {
    "Conv2DOptions": 1,
    "DepthwiseConv2DOptions": 2,
    "Pool2DOptions": 5,
    "FullyConnectedOptions": 8,
    "SoftmaxOptions": 9,
    "ConcatenationOptions": 10,
    "AddOptions": 11,
    "ReshapeOptions": 17,
    "MulOptions": 21,
    "TransposeOptions": 26,
    "SubOptions": 28,
    "LeakyReluOptions": 75,
}
"""Code of each table of options in the schema's union BuiltinOptions."""

_OPERATORS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH
    SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
    ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
    TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK
    LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL
    FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND
    HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE
    ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN
"""
OPERATORS = tuple(_OPERATORS.split())
"""Names of the builtin operators, each at the place of its code."""

TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
"""NumPy's names of the schema's tensor types; the others (strings, complex numbers, resources) are left out."""

_DEFAULTS = {
    ("OperatorCode", "version"): 1,
    ("Conv2DOptions", "dilation_w_factor"): 1,
    ("Conv2DOptions", "dilation_h_factor"): 1,
    ("DepthwiseConv2DOptions", "dilation_w_factor"): 1,
    ("DepthwiseConv2DOptions", "dilation_h_factor"): 1,
}
"""Fields whose default is not 0."""

MAX_TABLES = 1 << 16
"""Most tables that are read: a damaged file may name the same ones over and over."""
MAX_VECTOR_BYTES = 1 << 24
"""Most bytes of strings and vectors, data aside, that are read."""


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

    Fields that SCHEMA leaves out are passed over, and so are options of operators that are not in OPTIONS. What a
    damaged file makes of it is bounded: MAX_TABLES, MAX_VECTOR_BYTES.
    """
    if blob[4:8] != IDENTIFIER:
        raise ModelError("not a TFLite flatbuffer: it does not say TFL3 at byte 4")
    try:
        return _Reader(blob).table("Model", struct.unpack_from("<I", blob)[0])
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"a damaged TFLite flatbuffer: {error}") from None


def metadata(blob: bytes, model: dict[str, Any], name: str) -> bytes | None:
    """What the Model that `read` made of the file has under a name in its metadata; None when it has not."""
    for entry in model["metadata"] or []:
        if entry["name"] == name:
            return contents(blob, model["buffers"][entry["buffer"]]["data"])
    return None


def contents(blob: bytes, span: Span | None) -> bytes | None:
    """The bytes of a span; None for none."""
    return None if span is None else blob[span.offset : span.offset + span.size]


class _Reader:
    """Reads tables depth first; positions outside the file raise an error, whatever points there."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.tables = 0
        self.vector_bytes = 0

    def table(self, name: str, position: int) -> dict[str, Any]:
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise ValueError(f"more than {MAX_TABLES} tables")
        table, values = Table(self.blob, position), {}
        for slot, (field, kind) in enumerate(SCHEMA[name]):
            at = table.Offset(4 + 2 * slot)
            if kind in _SCALARS:
                default = _DEFAULTS.get((name, field), 0)
                values[field] = table.Get(_SCALARS[kind], position + at) if at else default
            elif at and kind == "union":
                options = _OPTIONS_OF.get(values["builtin_options_type"])
                values[field] = self.table(options, table.Indirect(position + at)) if options else None
            elif kind != "unread":
                values[field] = self.pointer(table, kind, at) if at else None
        return values

    def pointer(self, table: Table, kind: str, at: int) -> Any:
        if kind in SCHEMA:
            return self.table(kind, table.Indirect(table.Pos + at))
        start, count = table.Vector(at), table.VectorLen(at)
        size = count * (np.dtype(_VECTORS[kind]).itemsize if kind in _VECTORS else 4 if kind[0] == "[" else 1)
        if start + size > len(self.blob):
            raise ValueError(f"a vector of {count} items at byte {start} runs past the end")
        if kind == "data":
            return Span(start, size)
        self.vector_bytes += size
        if self.vector_bytes > MAX_VECTOR_BYTES:
            raise ValueError(f"more than {MAX_VECTOR_BYTES} bytes of strings and vectors")
        raw = self.blob[start : start + size]
        if kind == "string":
            return raw.decode()
        if kind == "bytes":
            return raw
        if kind in _VECTORS:
            return np.frombuffer(raw, _VECTORS[kind]).tolist()
        return [self.table(kind[1:-1], table.Indirect(start + 4 * i)) for i in range(count)]


_OPTIONS_OF = {code: table for table, code in OPTIONS.items()}
