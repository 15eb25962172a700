"""The graph of a TFLite file on its way into a Network: which tensor is which, and the names of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.tflite_constants import Constant, dequantized, folded, stored
from converters.tflite_file import File, FileTensor, Operator
from zobnn_edge.encoding import Encoding, Float32, Int32
from zobnn_edge.errors import ModelError
from zobnn_edge.format import MAX_DIM
from zobnn_edge.network import Builder
from zobnn_edge.operations import Dequantize, Op, Sign, Unpack
from zobnn_edge.tensor import Role, Shape

_LABELS = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "dense", "LceBconv2d": "bconv"}
_DATA_INPUTS = {"RESHAPE": 1, "SQUEEZE": 1, "EXPAND_DIMS": 1}
"""How many inputs of an operator are read; of the others all are. A shape is read from the output instead."""


class Handler(Protocol):
    """Appends what an operator does to the network; returns the tensor that it makes, None if it makes none yet."""

    def __call__(self, graph: Graph, op: Operator) -> str | None: ...


class Graph:
    """Goes through the operators that the output needs, in order; `at` is the network's tensor for each activation.

    `aliases`: the inputs that an operator is taken to have instead of its own, so that those before it are passed over.
    """

    def __init__(
        self, file: File, builder: Builder, handlers: Mapping[str, Handler], int8_handlers: Mapping[str, Handler]
    ) -> None:
        self.file = file
        self.builder = builder
        self.handlers = handlers
        self.int8_handlers = int8_handlers
        self.at: dict[int, str] = {file.input: builder.input}
        self.constants: dict[int, Constant] = {}
        self.aliases: dict[int, tuple[int, ...]] = {}
        self.bits_of: dict[str, str | None] = {}  # real tensor of +-1 -> its bits, None where nobody has asked for them
        self.signs: dict[str, str] = {}
        self.rounded: dict[tuple[str, bool], str] = {}  # (real tensor, symmetric) -> rounded to 8 bits at run time
        self.parameters: dict[tuple[object, ...], str] = {}
        self.writers: dict[int, Operator] = {}
        for op in file.operators:
            if op.output in self.writers or op.output == file.input:
                raise ModelError(f"{op}: writes a tensor that has a value already")
            self.writers[op.output] = op

    def walk(self) -> str:
        """Append all that the output needs; returns the output's tensor, which is real."""
        for op in self._needed():
            inputs = [self._known(i) for i in self.inputs(op) if i >= 0]
            if inputs and all(inputs):
                self.constants[op.output] = folded(self.file, op, [c for c in inputs if c])
                continue
            self._check_types(op)
            handlers = self.int8_handlers if self._on_int8(op) else self.handlers
            if op.name not in handlers:
                what = " on int8" if handlers is self.int8_handlers else ""
                raise ModelError(
                    f"{op}: not supported{what}; replace the layer that makes it, or import the Keras model"
                )
            y = handlers[op.name](self, op)
            if y is not None:
                self._check_shape(op, y)
                self.at[op.output] = y
        if self.file.output not in self.at:
            raise ModelError("the output does not depend on the input")
        return self.real(self.at[self.file.output])

    def inputs(self, op: Operator) -> tuple[int, ...]:
        """The tensors that count as an operator's inputs."""
        return self.aliases.get(op.index, op.inputs[: _DATA_INPUTS.get(op.name)])

    def _needed(self) -> list[Operator]:
        needed: set[int] = set()
        waiting = [self.file.output]
        while waiting:
            op = self.writers.get(waiting.pop())
            if op is not None and op.index not in needed:
                needed.add(op.index)
                waiting += [i for i in self.inputs(op) if i >= 0]
        return [op for op in self.file.operators if op.index in needed]

    def readers(self, tensor: int) -> list[Operator]:
        """The operators that read a tensor of the file."""
        return [op for op in self.file.operators if tensor in op.inputs]

    def _known(self, tensor: int) -> Constant | None:
        """The value of a constant tensor; None for an activation."""
        written = tensor in self.writers or tensor == self.file.input
        if tensor not in self.constants and not written:
            self.constants[tensor] = stored(self.file.tensors[tensor])
        return self.constants.get(tensor)

    def _on_int8(self, op: Operator) -> bool:
        """Whether an operator reads or writes an activation in 8-bit integers."""
        activations = [i for i in (*self.inputs(op), op.output) if i >= 0 and i not in self.constants]
        return any(self.file.tensors[i].type == "int8" for i in activations)

    def _check_types(self, op: Operator) -> None:
        for index in (*self.inputs(op), op.output):
            if index < 0 or index in self.constants:
                continue
            check_type(str(op), self.file.tensors[index])

    def _check_shape(self, op: Operator, y: str) -> None:
        tensor = self.builder.tensors[y]
        h, w, c = tensor.shape
        made = (h, w, -(-c // 32) if tensor.kind == "binary" else c)
        said = self.file.tensors[op.output].shape
        if made != image_shape(op, said):
            raise ModelError(f"{op}: makes {(1, *made)}, but the file says {said}")
        if max(tensor.shape) > MAX_DIM:
            raise ModelError(f"{op}: makes {tensor.shape}; no side may be above {MAX_DIM}")

    # What a handler asks for.

    def input(self, op: Operator, place: int = 0) -> str:
        """The activation at a place among the inputs, real or binary."""
        index = self.inputs(op)[place] if place < len(self.inputs(op)) else -1
        if index not in self.at:
            raise ModelError(f"{op}: its input {place} must be an activation that an operator before it makes")
        return self.at[index]

    def real_input(self, op: Operator, place: int = 0) -> str:
        """The activation at a place among the inputs as real numbers; raises ModelError where it is packed bits."""
        x = self.input(op, place)
        if self.builder.tensors[x].kind == "binary":
            raise ModelError(f"{op}: on packed bits, which is not supported")
        return self.real(x)

    def bit_input(self, op: Operator) -> str:
        """The binary activation that an operator of LCE reads."""
        x = self.input(op)
        if self.builder.tensors[x].kind != "binary":
            raise ModelError(f"{op}: its input is not packed bits")
        return x

    def image_input(self, op: Operator) -> Shape:
        """The shape of the activation, which must be (1, height, width, channels) in the file too."""
        x = self.input(op)
        if len(self.file.tensors[self.inputs(op)[0]].shape) != 4:
            raise ModelError(f"{op}: its input must have four dimensions")
        return self.builder.tensors[x].shape

    def constant_input(self, op: Operator, place: int) -> Constant | None:
        """The constant at a place among the inputs, codes as what they stand for; None where there is none."""
        index = op.inputs[place] if place < len(op.inputs) else -1
        constant = self._known(index) if index >= 0 else None
        if constant is not None and self.file.tensors[index].type in ("int8", "uint8", "int16"):
            return dequantized(constant)
        return constant

    def stored_input(self, op: Operator, place: int) -> FileTensor:
        """The tensor of the file at a place among the inputs, which must be a stored constant."""
        index = op.inputs[place] if place < len(op.inputs) else -1
        if index < 0 or self.file.tensors[index].data is None:
            raise ModelError(f"{op}: its input {place} must be a constant")
        return self.file.tensors[index]

    def needed_constant(self, op: Operator, place: int) -> Constant:
        """The constant at a place among the inputs; raises ModelError when it is none."""
        constant = self.constant_input(op, place)
        if constant is None:
            raise ModelError(f"{op}: its input {place} must be a constant")
        return constant

    def floats(self, op: Operator, place: int) -> Constant:
        """The constant at a place among the inputs, which must be float32 or codes."""
        constant = self.needed_constant(op, place)
        if constant.encoding is None:
            raise ModelError(f"{op}: its input {place} must be float32, not {constant.values.dtype}")
        return constant

    def integers(self, op: Operator, place: int) -> NDArray[np.int64]:
        """The constant whole numbers at a place among the inputs."""
        constant = self.needed_constant(op, place)
        if constant.values.dtype not in (np.int32, np.int64):
            raise ModelError(f"{op}: its input {place} must be whole numbers, not {constant.values.dtype}")
        return constant.values.astype(np.int64)

    # What a handler appends.

    def add(
        self,
        op: Operator,
        kind: Callable[..., Op],
        *args: Any,
        layer: str | None = None,
        part: str = "",
        **options: Any,
    ) -> str:
        """Append an operation of the network, named after its layer and part of it; returns its output."""
        name = self.name(op, layer, part)
        x, *rest = args
        return self.builder.add(kind(name, x, name, *rest, **options))

    def name(self, op: Operator, layer: str | None = None, part: str = "") -> str:
        """A name that no tensor has yet: that of a layer, by default the operator's own, and a part of it."""
        base = name = (layer or label(op)) + part
        count = 1
        while name in self.builder.tensors:
            count += 1
            name = f"{base}:{count}"
        return name

    def layer(self, parameter: str) -> str:
        """The layer of a parameter."""
        return self.builder.parameters[parameter].layer

    def parameter(
        self,
        op: Operator,
        role: Role,
        values: NDArray[Any],
        encoding: Encoding | None = None,
        of: Constant | None = None,
    ) -> str:
        """The name of a parameter: a new one, or that of an equal one from the same buffer of the file.

        `of`: the constant that it is made of; without encoding it is float32.
        """
        encoding = encoding or Float32()
        values = np.ascontiguousarray(values, np.float64 if encoding == Int32() else np.float32)
        key = (of.source.buffer if of else None, role, encoding, values.shape, values.tobytes())
        if of and key in self.parameters:
            return self.parameters[key]
        layer = label(op)
        if of and of.source.bits:
            named, _, kind = of.source.name.rpartition("/")
            free = of.source.name not in self.builder.parameters
            layer = named if named and kind == role and free else layer
        name, count = f"{layer}/{role}", 1
        while name in self.builder.parameters:
            count += 1
            name = f"{layer}:{count}/{role}"
        self.parameters[key] = self.builder.parameter(name, layer, role, values, encoding)
        return name

    def real(self, x: str) -> str:
        """A tensor as a real one."""
        kind = self.builder.tensors[x].kind
        if kind == "real":
            return x
        if kind == "int8":
            y = f"{x}/dequantize"
            return y if y in self.builder.tensors else self.builder.add(Dequantize(y, x, y))
        for same, bits in self.bits_of.items():
            if bits == x:
                return same
        y = self.builder.add(Unpack(f"{x}/unpack", x, f"{x}/unpack"))
        self.bits_of[y] = x
        return y

    def bits(self, x: str) -> str | None:
        """A real tensor as bits without loss; None where its values may be others than +-1."""
        if x not in self.bits_of:
            return None
        known = self.bits_of[x]
        if known is None:
            known = self.bits_of[x] = self.sign(x)
        return known

    def sign(self, x: str) -> str:
        """The sign of a real tensor, computed once however many read it."""
        if self.bits_of.get(x):
            return str(self.bits_of[x])
        if x not in self.signs:
            self.signs[x] = self.builder.add(Sign(f"{x}/sign", x, f"{x}/sign"))
        return self.signs[x]


def label(op: Operator) -> str:
    """The name of an operator's layer: what it is, and its place in the file."""
    return f"{_LABELS.get(op.name, op.name.lower())}{op.index}"


def padding(op: Operator) -> str:
    """The padding of a window: same or valid."""
    code = op.option("padding")
    if code not in (0, 1):
        raise ModelError(f"{op}: padding {code}; only SAME and VALID are supported")
    return "valid" if code else "same"


def stride(op: Operator) -> tuple[int, int]:
    """Vertical and horizontal stride of a window."""
    return op.option("stride_h"), op.option("stride_w")


def check_type(who: str, tensor: FileTensor) -> None:
    """Raise ModelError for an activation that is neither float32, int8 nor packed bits."""
    if tensor.type not in ("float32", "int8", "int32"):
        raise ModelError(
            f"{who}: an activation of type {tensor.type}; only float32, int8 and packed bits are supported"
        )


def image_shape(who: object, shape: tuple[int, ...]) -> Shape:
    """(height, width, channels) of a shape in the file, (1, ...); raises ModelError when it has no such form."""
    if not 2 <= len(shape) <= 4 or shape[0] != 1:
        raise ModelError(f"{who}: shape {shape}; only a batch of 1 and one to three dimensions are supported")
    h, w, c = (1,) * (4 - len(shape)) + shape[1:]
    return h, w, c
