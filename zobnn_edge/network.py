"""The network as plain data: tensors, parameters, and operations in the order of execution.

NumPy only; knows nothing of files, engines or boards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from zobnn_edge.encoding import Encoding, FloatArray, InputArray, Int32
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.operations import AveragePool, Conv, ConvInt8, GatedConv, Op, Pad, Reshape, Softmax
from zobnn_edge.shapes import check_input, infer
from zobnn_edge.tensor import Parameter, Quantization, Role, Shape, Tensor


@dataclass(frozen=True)
class Pixels:
    """What an 8-bit input stands for: `x = p * scale + offset`, each step rounded to float32.

    Where the network's input is an int8 tensor, that x is rounded to it, as a float32 input is.
    """

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, pixels: InputArray) -> FloatArray:
        """The float32 input of uint8 pixels."""
        return np.asarray(pixels, np.uint8).astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)

    def quantization(self) -> Quantization | None:
        """That of an int8 tensor which holds exactly what the 256 pixels stand for, in steps of a power of two.

        Pixel p is then the number `p - 128`. None where there is no such tensor.
        """
        mantissa, _ = np.frexp(np.float32(self.scale))
        zero_point = -128 - self.offset / self.scale if mantissa == 0.5 else np.nan
        if zero_point not in range(-128, 128):
            return None
        return Quantization(self.scale, int(zero_point))


@dataclass(frozen=True)
class Network:
    """A whole network. Build one with `Builder`, which works out the shapes; `validate` checks one from elsewhere."""

    name: str
    input: str
    output: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    parameters: dict[str, Parameter]
    pixels: Pixels = field(default_factory=Pixels)

    @property
    def input_shape(self) -> Shape:
        """(height, width, channels) of one input."""
        return self.tensors[self.input].shape

    @property
    def outputs(self) -> int:
        """Number of scores."""
        return self.tensors[self.output].size

    def consumers(self, tensor: str) -> list[Op]:
        """The operations that read a tensor, in order."""
        return [op for op in self.ops if tensor in op.inputs]

    def producer(self, tensor: str) -> Op | None:
        """The operation that writes a tensor; None for the input."""
        return next((op for op in self.ops if op.output == tensor), None)

    def layers(self) -> Iterator[tuple[str, list[Parameter]]]:
        """The parameters grouped by layer, in order."""
        groups: dict[str, list[Parameter]] = {}
        for parameter in self.parameters.values():
            groups.setdefault(parameter.layer, []).append(parameter)
        yield from groups.items()

    def macs(self, op: Op) -> int:
        """Multiply-accumulates of a convolution (every tap counted, padding included); 0 for other operations."""
        if not isinstance(op, (Conv, GatedConv, ConvInt8)):
            return 0
        oh, ow, _ = self.tensors[op.output].shape
        planes = 2 if isinstance(op, GatedConv) else 1
        return planes * oh * ow * self.parameters[op.weight].values.size

    def validate(self) -> Network:
        """The network itself, when every name, shape and kind fits; raises ModelError naming what does not."""
        if self.input not in self.tensors or self.output not in self.tensors:
            raise ModelError(f"{self.name}: the input or the output is not among the tensors")
        if not self.ops:
            raise ModelError(f"{self.name}: a network without operations")
        check_input(self.tensors[self.input])
        if self.tensors[self.output].kind != "real":
            raise ModelError(f"{self.name}: the scores must be real; the network ends in a sign")
        known = {self.input}
        for op in self.ops:
            for tensor in op.inputs:
                if tensor not in known:
                    raise ModelError(f"{op.name}: reads {tensor}, which nothing before it writes")
            for parameter in op.parameters:
                if parameter not in self.parameters:
                    raise ModelError(f"{op.name}: there is no parameter {parameter}")
            if op.output in known:
                raise ModelError(f"{op.name}: writes {op.output}, which is written already")
            expected = infer(op, [self.tensors[t] for t in op.inputs], self.parameters)
            if self.tensors.get(op.output) != expected:
                raise ModelError(f"{op.name}: its output {op.output} should be {expected.kind} {expected.shape}")
            known.add(op.output)
        if self.output not in known:
            raise ModelError(f"{self.name}: nothing writes the output {self.output}")
        return self


class Builder:
    """Collects operations in order and works out every tensor. Each method returns the name of the output tensor.

    >>> b = Builder("tiny", (4, 4, 3))
    >>> y = b.add(AveragePool("pool", b.input, "pool", (4, 4), (4, 4)))
    >>> b.network(y).outputs
    3
    """

    def __init__(
        self, name: str, input_shape: Shape, pixels: Pixels | None = None, quantization: Quantization | None = None
    ) -> None:
        """`quantization`: that of an int8 input; without it the input is real."""
        self.name = name
        self.input = "input"
        self.pixels = pixels or Pixels()
        source = Tensor("input", input_shape)
        if quantization is not None:
            source = replace(source, kind="int8", quantization=quantization)
        self.tensors: dict[str, Tensor] = {"input": source}
        self.ops: list[Op] = []
        self.parameters: dict[str, Parameter] = {}

    def parameter(self, name: str, layer: str, role: Role, values: FloatArray, encoding: Encoding) -> str:
        """Add a parameter (its values rounded to the encoding); returns its name."""
        if name in self.parameters:
            raise ModelError(f"there are two parameters {name}; layer names must differ")
        exact = np.float64 if isinstance(encoding, Int32) else np.float32
        raw = Parameter(name, layer, role, np.ascontiguousarray(values, exact), encoding)
        self.parameters[name] = raw.encoded(encoding)
        return name

    def add(self, op: Op) -> str:
        """Append an operation; raises ModelError when it does not fit. Returns its output's name."""
        if op.output in self.tensors:
            raise ModelError(f"{op.name}: there is a tensor {op.output} already")
        self.tensors[op.output] = infer(op, [self.tensors[t] for t in op.inputs], self.parameters)
        self.ops.append(op)
        return op.output

    def sigmoid(self, name: str, x: str) -> str:
        """Append the sigmoid of each element: the first of softmax(x, 0). A column of zeros is added, and left out."""
        shape = self.tensors[x].shape
        n = self.tensors[x].size
        column = self.add(Reshape(f"{name}/column", x, f"{name}/column", (n, 1, 1)))
        zeros = self.add(Pad(f"{name}/zeros", column, f"{name}/zeros", (0, 0), (0, 1)))
        pairs = self.add(Reshape(f"{name}/pairs", zeros, f"{name}/pairs", (n, 1, 2)))
        softmax = self.add(Softmax(f"{name}/softmax", pairs, f"{name}/softmax"))
        columns = self.add(Reshape(f"{name}/columns", softmax, f"{name}/columns", (n, 2, 1)))
        first = self.add(AveragePool(f"{name}/first", columns, f"{name}/first", (1, 1), (1, 2)))
        return self.add(Reshape(name, first, name, shape))

    def network(self, output: str) -> Network:
        """The finished network with the given output tensor."""
        net = Network(
            self.name, self.input, output, dict(self.tensors), tuple(self.ops), dict(self.parameters), self.pixels
        )
        return net.validate()


def rebuilt(net: Network, ops: list[Op], parameters: dict[str, Parameter], output: str | None = None) -> Network:
    """`net` with other operations and parameters: shapes are worked out anew.

    Parameters are listed in the order of their use; those that nobody uses are dropped.
    """
    b = Builder(net.name, net.input_shape, net.pixels)
    b.input = net.input
    b.tensors = {net.input: net.tensors[net.input]}
    b.parameters = {name: parameters[name] for op in ops for name in op.parameters}
    for op in ops:
        b.add(op)
    return b.network(output or net.output)


def as_inputs(net: Network, inputs: InputArray) -> InputArray:
    """`inputs` as an array (N, height, width, channels) of float32 or uint8.

    Sides of 1 may be missing, or all sides be merged to (N, elements). Raises InputError when it does not fit.
    """
    x = np.asarray(inputs)
    if x.dtype not in (np.float32, np.uint8):
        raise InputError(f"inputs of type {x.dtype}; {net.name} takes float32 or uint8 (convert with .astype)")
    shape = net.input_shape
    if x.ndim < 2 or _sides(x.shape[1:]) not in (_sides(shape), (int(np.prod(shape)),)):
        raise InputError(f"inputs of shape {x.shape}; {net.name} takes (N, {', '.join(map(str, shape))})")
    return np.ascontiguousarray(x.reshape(len(x), *shape))


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1) or (1,)
