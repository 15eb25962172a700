"""An LCE graph under construction: tensors, constants, stored parameters and operators, and the file they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from converters.flatbuffer import OPERATORS, TYPES, VERSION, Node, node, write
from zobnn_edge.encoding import Binary, Float16, Float32, Int32, Uniform, described, pack
from zobnn_edge.errors import ModelError
from zobnn_edge.tensor import Parameter, Quantization

CODE_BITS = "zobnn_code_bits"
"""Name of the metadata that says which tensors are parameters: one byte a tensor, the bits of its codes, 0 for none."""

NEGATED = 0x80
"""Added to the bits of weights of which some output channels are stored with the opposite sign."""

_VERSIONS = {"DEQUANTIZE": 3}
"""Versions of the operators that need one above 1."""

_TYPE_CODES = {name: code for code, name in TYPES.items()}

Shape = Sequence[int]
Options = Node | dict[str, int] | None


class Graph:
    """Collects what goes into the file. Tensors are known by their index, as in the file."""

    def __init__(self) -> None:
        self.tensors: list[Node] = []
        self.code_bits: list[int] = []
        self.buffers: list[Node] = [node("Buffer")]
        self.operators: list[Node] = []
        self.opcodes: list[str] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self.parameters: dict[tuple[object, ...], int] = {}
        self.parameter_buffers: dict[tuple[str, bytes], int] = {}

    def tensor(self, shape: Shape, type: str = "float32", name: str = "") -> int:
        """A new activation."""
        return self._tensor(tuple(shape), type, name=name)

    def op(self, name: str, inputs: Sequence[int], shape: Shape, type: str = "float32", options: Options = None) -> int:
        """Append an operator, builtin (upper case) or LCE's own; returns its output, a new tensor."""
        output = self.tensor(shape, type)
        self._append(name, inputs, output, options)
        return output

    def _append(self, name: str, inputs: Sequence[int], output: int, options: Options = None) -> None:
        if name not in self.opcodes:
            self.opcodes.append(name)
        custom = bytes(flexbuffers.Dumps(options)) if isinstance(options, dict) else None
        builtin = options if isinstance(options, Node) else None
        self.operators.append(
            node(
                "Operator",
                opcode_index=self.opcodes.index(name),
                inputs=tuple(inputs),
                outputs=(output,),
                builtin_options=builtin,
                custom_options=custom,
            )
        )

    def constant(self, values: NDArray[np.float32] | NDArray[np.int32] | float) -> int:
        """A tensor of numbers that are part of the structure (a single one as float32); equal tensors are one."""
        array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = self._tensor(array.shape, array.dtype.name, self._buffer(array.tobytes()))
        return self.constants[key]

    def packed(self, parameter: Parameter, shape: Shape, negated: NDArray[np.bool_] | None = None) -> int:
        """Binary weights as packed words of this shape; `negated` (out channels): those stored with opposite sign."""
        codes = parameter.encoding.encode(parameter.values)
        if negated is not None and negated.any():
            codes = codes ^ negated.reshape(-1, *[1] * (codes.ndim - 1))
            raw, bits = pack(codes, parameter.encoding), 1 | NEGATED
        else:
            raw, bits = pack(codes, parameter.encoding), 1
        return self._parameter(parameter, tuple(shape), "int32", raw + bytes(-len(raw) % 4), bits)

    def real(self, parameter: Parameter, shape: Shape, halved: bool = False) -> int:
        """The values of a parameter as a float32 tensor, decoded at run time from the codes in the file, bit for bit.

        `halved` (uniform codes only): half of each value.
        """
        key = (parameter.name, tuple(shape), halved)
        if key not in self.parameters:
            self.parameters[key] = self._decoded(parameter, tuple(shape), halved)
        return self.parameters[key]

    def rounded(self, x: int, shape: Shape, to: Quantization) -> int:
        """A float32 tensor rounded to int8 and back."""
        quantization = node("QuantizationParameters", scale=(to.scale,), zero_point=(to.zero_point,))
        bytes_ = self._tensor(tuple(shape), "int8", quantization=quantization)
        self._append("QUANTIZE", [x], bytes_)
        return self.op("DEQUANTIZE", [bytes_], shape)

    def _decoded(self, parameter: Parameter, shape: tuple[int, ...], halved: bool) -> int:
        encoding = parameter.encoding
        codes = encoding.encode(parameter.values)
        if encoding.row:
            raise ModelError(f"{parameter.name}: packed in rows, which a flatbuffer holds for binary convolutions only")
        if isinstance(encoding, Float32):
            return self._parameter(parameter, shape, "float32", codes.tobytes(), encoding.bits)
        if isinstance(encoding, Binary):
            words = self.packed(parameter, (-(-codes.size // 32),))
            return self.op("RESHAPE", [self.op("LceDequantize", [words], (codes.size,))], shape, options=reshape(shape))
        if isinstance(encoding, Int32):
            raise ModelError(f"{parameter.name}: int32, which only int8 networks use")
        if isinstance(encoding, Float16):
            stored = self._parameter(parameter, shape, "float16", codes.astype("<u2").tobytes(), encoding.bits)
            return self.op("DEQUANTIZE", [stored], shape)
        if not isinstance(encoding, Uniform) or encoding.scales != "flash":
            raise ModelError(
                f"{parameter.name}: a TFLite flatbuffer has no place for {described(encoding)}; "
                "export the C header, or harden with plain codes, float16 or float32"
            )
        return self._dequantized(parameter, encoding, shape, encoding.scale / 2 if halved else encoding.scale)

    def _dequantized(self, parameter: Parameter, encoding: Uniform, shape: tuple[int, ...], scale: float) -> int:
        """Codes of 2 to 8 bits lie in int8, of 9 to 16 in int16; of 8 and 16 bits with the top bit inverted (q - 128).

        A code flips as the stored integer does. The interpreter may multiply before it subtracts the zero point and so
        round twice. Where that could show, DEQUANTIZE gives only the integer q - zero_point, and MUL the value. (With
        int16 DEQUANTIZE takes no zero point at all.)
        """
        type = "int8" if encoding.bits <= 8 else "int16"
        shift = 1 << (encoding.bits - 1) if encoding.bits in (8, 16) else 0
        codes = encoding.encode(parameter.values).astype(np.int64) - shift
        zero_point = encoding.zero_point - shift
        direct = zero_point == 0 or (type == "int8" and _exact(encoding, scale, shift))
        quantization = node(
            "QuantizationParameters",
            scale=(scale if direct else 1.0,),
            zero_point=(zero_point if type == "int8" else 0,),
        )
        stored = self._parameter(parameter, shape, type, codes.astype(type).tobytes(), encoding.bits, quantization)
        values = self.op("DEQUANTIZE", [stored], shape)
        if type == "int16" and not direct:
            values = self.op("SUB", [values, self.constant(zero_point)], shape)
        return values if direct else self.op("MUL", [values, self.constant(scale)], shape)

    def _parameter(
        self,
        parameter: Parameter,
        shape: tuple[int, ...],
        type: str,
        raw: bytes,
        bits: int,
        quantization: Node | None = None,
    ) -> int:
        """A tensor over a parameter's bytes, under its name. Tensors that store the same bytes of it share them."""
        key = (parameter.name, raw)
        if key not in self.parameter_buffers:
            self.parameter_buffers[key] = self._buffer(raw)
        return self._tensor(shape, type, self.parameter_buffers[key], parameter.name, bits, quantization)

    def _buffer(self, data: bytes) -> int:
        self.buffers.append(node("Buffer", data=data))
        return len(self.buffers) - 1

    def _tensor(
        self,
        shape: tuple[int, ...],
        type: str,
        buffer: int = 0,
        name: str = "",
        bits: int = 0,
        quantization: Node | None = None,
    ) -> int:
        self.tensors.append(
            node("Tensor", shape=shape, type=_TYPE_CODES[type], buffer=buffer, name=name, quantization=quantization)
        )
        self.code_bits.append(bits)
        return len(self.tensors) - 1

    def file(self, description: str, input: int, output: int) -> bytes:
        """The flatbuffer."""
        code_bits = self._buffer(bytes(self.code_bits))
        subgraph = node(
            "SubGraph",
            tensors=tuple(self.tensors),
            inputs=(input,),
            outputs=(output,),
            operators=tuple(self.operators),
        )
        return write(
            node(
                "Model",
                version=VERSION,
                operator_codes=tuple(_opcode(name) for name in self.opcodes),
                subgraphs=(subgraph,),
                description=description,
                buffers=tuple(self.buffers),
                metadata=(node("Metadata", name=CODE_BITS, buffer=code_bits),),
            )
        )


def _exact(encoding: Uniform, scale: float, shift: int) -> bool:
    """True when float32 holds scale times the zero point and scale times any stored integer exactly."""
    integers = np.append(np.arange(encoding.levels), encoding.zero_point).astype(np.float64) - shift
    return bool((integers * scale == (integers * scale).astype(np.float32)).all())


def reshape(shape: Shape) -> Node:
    """Options of RESHAPE."""
    return node("ReshapeOptions", new_shape=tuple(shape))


def _opcode(name: str) -> Node:
    """Both fields for the code are set: readers from before 2021 know the first one only."""
    custom = name not in OPERATORS
    code = OPERATORS.index("CUSTOM" if custom else name)
    return node(
        "OperatorCode",
        deprecated_builtin_code=code,
        builtin_code=code,
        version=_VERSIONS.get(name, 1),
        custom_code=name if custom else None,
    )
