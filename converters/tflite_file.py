"""What a TFLite file says, checked: tensors, operators with their options, the input and the output.

Nothing in a file is believed: an index, a length or a type that does not fit raises ModelError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from converters.flatbuffer import OPERATORS, TYPES, contents, metadata, read
from converters.lce_graph import CODE_BITS, NEGATED
from zobnn_edge.errors import ModelError

MAX_OPTIONS = 32
"""Most options of an operator of LCE that are read."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor: `data` is None for an activation, `bits` the bits of a code in a file of zobnn-edge, else 0."""

    name: str
    shape: tuple[int, ...]
    type: str
    buffer: int
    data: bytes | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    bits: int

    def array(self) -> NDArray[Any]:
        """The values of a constant, in its shape and type."""
        if self.data is None:
            raise ModelError(f"tensor {self.name!r}: read, but neither a constant nor written by an operator")
        if self.type == "bool" or self.type not in TYPES.values():
            raise ModelError(f"tensor {self.name!r}: a constant of type {self.type}, which is not supported")
        dtype, size = np.dtype(self.type).newbyteorder("<"), 1
        for side in self.shape:
            size *= side
        if len(self.data) != size * dtype.itemsize:
            raise ModelError(f"tensor {self.name!r}: {len(self.data)} bytes of data do not fit shape {self.shape}")
        return np.frombuffer(self.data, dtype).astype(self.type).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """An operator: its place in the file, its name, the tensors it reads (-1: left out) and writes, its options."""

    index: int
    name: str
    inputs: tuple[int, ...]
    output: int
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"operator {self.index} ({self.name})"

    def option(self, name: str, default: int = 0) -> int:
        """A whole-number option, or what its absence means."""
        return int(self.options.get(name, default))


@dataclass(frozen=True)
class File:
    """A graph of one input and one output; `description` is what the writer of the file called it."""

    description: str
    tensors: tuple[FileTensor, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int


def parse(blob: bytes) -> File:
    """Read a file; raises ModelError when it is damaged, or has several graphs, inputs or outputs."""
    model = read(blob)
    try:
        return _file(blob, model)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        # A table or an index that is missing, or points nowhere.
        raise ModelError(f"a damaged TFLite flatbuffer: {error}") from None


def _file(blob: bytes, model: dict[str, Any]) -> File:
    if len(model["subgraphs"]) != 1:
        raise ModelError(f"{len(model['subgraphs'])} subgraphs; only one is supported (no control flow)")
    (graph,) = model["subgraphs"]
    raw = graph["tensors"]
    for ends in ("inputs", "outputs"):
        if len(graph[ends] or []) != 1:
            raise ModelError(f"{len(graph[ends] or [])} {ends}; only one is supported")
    code_bits = metadata(blob, model, CODE_BITS) or bytes(len(raw))
    tensors = tuple(_tensor(blob, model, t, bits) for t, bits in zip(raw, code_bits, strict=True))
    names = [_name(code) for code in model["operator_codes"]]
    operators = tuple(_operator(i, op, names, len(tensors)) for i, op in enumerate(graph["operators"] or []))
    (source,), (result,) = graph["inputs"], graph["outputs"]
    for index in (source, result):
        if not 0 <= index < len(tensors):
            raise ModelError(f"a damaged TFLite flatbuffer: there is no tensor {index}")
    return File(model["description"] or "", tensors, operators, source, result)


def _tensor(blob: bytes, model: dict[str, Any], raw: dict[str, Any], bits: int) -> FileTensor:
    quantization = raw["quantization"] or {}
    shape = tuple(raw["shape"] or [])
    if any(side < 0 for side in shape):
        raise ModelError(f"tensor {raw['name']!r}: shape {shape}; convert the model with fixed sizes")
    return FileTensor(
        name=raw["name"] or "",
        shape=shape,
        type=TYPES.get(raw["type"], f"number {raw['type']}"),
        buffer=raw["buffer"],
        data=contents(blob, model["buffers"][raw["buffer"]]["data"]) or None,
        scales=tuple(quantization.get("scale") or ()),
        zero_points=tuple(quantization.get("zero_point") or ()),
        axis=quantization.get("quantized_dimension", 0),
        bits=bits & ~NEGATED,
    )


def _name(code: dict[str, Any]) -> str:
    """Old files hold the code in one byte only, newer ones in both fields, or the new one."""
    number = max(code["builtin_code"], code["deprecated_builtin_code"])
    if 0 <= number < len(OPERATORS):
        custom = str(code["custom_code"] or "") if OPERATORS[number] == "CUSTOM" else ""
        return custom if custom.isprintable() and custom else OPERATORS[number]
    return f"code {number}"


def _operator(index: int, raw: dict[str, Any], names: list[str], tensors: int) -> Operator:
    name, inputs, outputs = names[raw["opcode_index"]], raw["inputs"] or [], raw["outputs"] or []
    label = f"operator {index} ({name})"
    if not all(-1 <= i < tensors for i in inputs) or not all(0 <= i < tensors for i in outputs):
        raise ModelError(f"a damaged TFLite flatbuffer: {label} names a tensor that is not there")
    if len(outputs) != 1:
        raise ModelError(f"{label}: {len(outputs)} outputs; only one is supported")
    options = dict(raw["builtin_options"] or {})
    if raw["custom_options"]:
        options = _custom_options(label, raw["custom_options"])
    return Operator(index, name, tuple(inputs), outputs[0], options)


def _custom_options(label: str, data: bytes) -> dict[str, int]:
    """The whole numbers of a flat map of FlexBuffers."""
    try:
        options = flexbuffers.GetRoot(data).AsMap
        count = len(options)
        if not count <= MAX_OPTIONS:
            raise ValueError(f"{count} options")
        keys, values = options.Keys, options.Values
        return {keys[i].AsKey: values[i].AsInt for i in range(count) if values[i].IsInt}
    except Exception as error:  # flexbuffers checks nothing: what a damaged map raises may be anything
        raise ModelError(f"a damaged TFLite flatbuffer: {label} has unreadable options ({error})") from None
