"""Walking the layers of a Keras model: which tensor each call reads, and what the handlers of layers build with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.keras import keras, refusal
from converters.keras_functions import IDENTITY, Array, Leak, Steps, kind_of, label
from converters.keras_planes import Planes, from_zero, is_two_bit, why_not
from zobnn_edge.encoding import Encoding, Float32
from zobnn_edge.network import Builder
from zobnn_edge.operations import Add, Affine, Clip, LowBit, PRelu, Sign, Softmax, Threshold, Unpack
from zobnn_edge.tensor import Role, Shape


@dataclass(frozen=True)
class Call:
    """One call of a layer: the tensors it reads and what Keras knows of it.

    `reader` is the only layer that reads the output; None when there are several, or it is the model's output.
    `arguments` are the positional ones of an operator, with the names of tensors for tensors; `options` the others.
    """

    layer: Any
    inputs: tuple[str, ...]
    input_rank: int
    shape: Shape
    reader: Any
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] | None = None

    @property
    def input(self) -> str:
        """The tensor it reads first."""
        return self.inputs[0]


Handler = Callable[["Importer", Call], str]
"""Appends what one call of a layer does to the importer's builder; returns the output tensor."""


class Importer:
    """Walks the layers of a model in order; `handlers` append what each does to the Builder.

    A tensor of two or four levels is kept twice: as a real tensor, and in `planes` as the binary ones it is made of.
    Whichever nobody reads is dropped by `simplify`.
    """

    def __init__(self, builder: Builder, handlers: dict[type, Handler]) -> None:
        tf, lq = keras()
        self.builder = builder
        self.handlers = handlers
        self.quantizer = lq.quantizers.Quantizer
        self.model = tf.keras.Model
        self.batch_norm = tf.keras.layers.BatchNormalization
        self.planes: dict[str, Planes] = {}
        self.unfolded: dict[str, tuple[Array | None, Array | None]] = {}  # sum -> scale, bias for its batch norm
        self._unpacked: dict[str, str] = {}  # binary tensor -> the same as a real one
        self._signs: dict[str, str] = {}  # real tensor -> its sign
        self._stepped: dict[tuple[str, Steps], str] = {}
        self._scope = ""

    # --- the walk ---

    def walk(self, model: Any, x: str) -> str:
        """Append the layers of a model that reads tensor `x`; returns its output tensor."""
        nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]
        tensors = {id(model.inputs[0]): x}
        for node in nodes:
            if node.is_input:
                continue
            layer, (out, *more) = node.layer, keras()[0].nest.flatten(node.outputs)
            source, shape = node.keras_inputs[0], shape_of(out.shape)
            if more or shape is None:
                raise refusal(layer, f"makes {node.outputs}; only one tensor of up to three fixed sizes is supported")
            if (node.call_kwargs or {}).get("training"):
                raise refusal(layer, "is called with training=True; build the model for inference")
            y = self._layer(self._call(node, nodes, tensors, shape, out is model.outputs[0]))
            if self.builder.tensors[y].shape != shape:
                raise refusal(layer, f"makes {tuple(out.shape)} of {tuple(source.shape)}, which is not supported")
            tensors[id(out)] = y
        return tensors[id(model.outputs[0])]

    def _call(self, node: Any, nodes: list[Any], tensors: dict[int, str], shape: Shape, is_output: bool) -> Call:
        out = keras()[0].nest.flatten(node.outputs)[0]
        readers = [n.layer for n in nodes for t in n.keras_inputs if t is out]
        return Call(
            node.layer,
            tuple(tensors[id(t)] for t in node.keras_inputs),
            len(node.keras_inputs[0].shape),
            shape,
            readers[0] if len(readers) == 1 and not is_output else None,
            tuple(tensors.get(id(a), a) for a in keras()[0].nest.flatten(node.call_args)),
            {k: v for k, v in (node.call_kwargs or {}).items() if k != "name" and v is not None},
        )

    def _layer(self, call: Call) -> str:
        """Append one call of a layer; returns its output tensor."""
        layer = call.layer
        if isinstance(layer, self.model):
            if len(call.inputs) != 1:
                raise refusal(layer, f"a model with {len(call.inputs)} inputs as a layer; only one is supported")
            outer, self._scope = self._scope, f"{self._scope}{layer.name}/"
            y = self.walk(layer, call.input)
            self._scope = outer
            return y
        if isinstance(layer, self.quantizer):
            return self.apply(layer, layer, call.input)
        handler = self.handlers.get(type(layer))
        if handler is None:
            names = ", ".join(sorted({cls.__name__ for cls in self.handlers}))
            raise refusal(layer, f"{INSTEAD.get(type(layer).__name__, 'not supported')}; supported are {names}")
        if layer.compute_dtype != "float32":
            raise refusal(layer, f"computes in {layer.compute_dtype}; build the model with dtype float32")
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise refusal(layer, "data_format channels_first; build the model with channels_last")
        return handler(self, call)

    # --- tensors ---

    def shape(self, x: str) -> Shape:
        """(height, width, channels) of a tensor."""
        return self.builder.tensors[x].shape

    def is_binary(self, x: str) -> bool:
        """True for a tensor of one bit an element."""
        return self.builder.tensors[x].kind == "binary"

    def real(self, x: str) -> str:
        """The tensor `x` as a real one."""
        if not self.is_binary(x):
            return x
        if x not in self._unpacked:
            self._unpacked[x] = self.builder.add(Unpack(f"{x}/unpack", x, f"{x}/unpack"))
        return self._unpacked[x]

    def sign(self, x: str, layer: Any) -> str:
        """The sign of a tensor, computed once however many read it."""
        if self.is_binary(x):
            return x
        if x not in self._signs:
            name = self.name(layer, "/sign")
            self._signs[x] = self.builder.add(Sign(name, x, name))
        return self._signs[x]

    # --- functions of one element ---

    def apply(self, function: Any, layer: Any, x: str, suffix: str = "", what: str = "") -> str:
        """An activation or a quantizer of a layer (`what` it is called in errors); ModelError if it is unknown."""
        kind = kind_of(function)
        if kind == IDENTITY:
            return x
        if kind == "sign":
            return self.sign(x, layer)
        if isinstance(kind, Steps):
            reason = why_not(kind)
            if reason is not None:
                raise refusal(layer, f"{what}{label(function)} {reason}")
            return self.stepped(self.real(x), kind, layer)
        x = self.real(x)
        if isinstance(kind, Leak):
            return self.prelu(layer, x, np.full(self.shape(x)[2], kind.slope), suffix)
        name = self.name(layer, suffix)
        if kind == "sigmoid":
            return self.builder.sigmoid(name, x)
        if kind == "softmax":
            return self.builder.add(Softmax(name, x, name))
        if isinstance(kind, tuple):
            return self.builder.add(Clip(name, x, name, *kind))
        usable = "a sign, DoReFa(2), relu, relu6, hard_tanh, sigmoid or softmax"
        raise refusal(layer, f"{what}{label(function)} is not supported; use {usable}")

    def affine(
        self,
        layer: Any,
        x: str,
        scale: Array | float | None,
        bias: Array | None,
        suffix: str = "/bias",
        part: str = "",
    ) -> str:
        """`x * scale + bias`: arrays (channels,) are parameters of (a part of) the layer, a number is a constant."""
        gain = 1.0
        if scale is not None and np.ndim(scale) == 0:
            gain, scale = float(np.float32(scale)), None
        if scale is None and bias is None and gain == 1:
            return x
        scale_name = None if scale is None else self.parameter(layer, "scale", np.asarray(scale, np.float64), part=part)
        bias_name = None if bias is None else self.parameter(layer, "bias", bias, part=part)
        name = self.name(layer, suffix)
        return self.builder.add(Affine(name, x, name, scale_name, bias_name, gain))

    def gain(self, layer: Any, x: str, gain: float, suffix: str) -> str:
        """`x` times a constant."""
        return self.affine(layer, x, gain, None, suffix)

    def prelu(self, layer: Any, x: str, slope: Array, suffix: str = "") -> str:
        """`x` where x >= 0, else `x * slope`: one slope a channel, or one an element."""
        name = self.name(layer, suffix)
        return self.builder.add(PRelu(name, x, name, self.parameter(layer, "slope", slope)))

    def sum(self, layer: Any, tensors: list[str], suffix: str = "") -> str:
        """The sum of real tensors of one shape, in order."""
        x, *others = tensors
        for other in others:
            name = self.name(layer, suffix)
            x = self.builder.add(Add(name, x, name, other))
        return x

    # --- activations of a few levels ---

    def stepped(self, x: str, steps: Steps, layer: Any) -> str:
        """A real tensor rounded to the levels of `steps`, as a real tensor whose `planes` are known."""
        key = (x, steps)
        if key not in self._stepped:
            planes = self.two_bit(x, layer) if is_two_bit(steps) else self._thermometer(x, steps, layer)
            y = self._sum_of_planes(planes, layer)
            self.planes[y] = planes
            self._stepped[key] = y
        return self._stepped[key]

    def two_bit(self, x: str, layer: Any) -> Planes:
        """FracBNN's levels -1, -1/3, 1/3, 1 of a real tensor as `(2 * high + low) / 3` (docs/method.md).

        high = sign(x), low = sign(x - 2/3 high), which is `LowBit`.
        """
        high = self.sign(x, layer)
        low = f"{x}/low"
        if low not in self.builder.tensors:
            self.builder.add(LowBit(low, x, low, float(np.float32(2 / 3))))
        return Planes(1 / 3, ((2, high), (1, low)))

    def _thermometer(self, x: str, steps: Steps, layer: Any) -> Planes:
        """One binary tensor a step. Steps from 0 are counted downwards, so that all planes are +1 for the level 0.

        Outside of a padded input a convolution can read +1, but not -1.
        """
        unit = (steps.levels[-1] - steps.levels[0]) / (2 * len(steps.edges))
        edges = np.array(steps.edges, np.float32)
        downwards = from_zero(steps)
        if downwards:
            x = self.gain(layer, x, -1.0, "/negative")
            edges = np.nextafter(-edges, np.float32(np.inf))
        terms = []
        for i, edge in enumerate(edges, 1):
            values = np.full(self.shape(x)[2], edge, np.float64)
            threshold = self.parameter(layer, "threshold", values, part=f"/level{i}")
            name = self.name(layer, f"/level{i}")
            terms.append((1, self.builder.add(Threshold(name, x, name, threshold))))
        return Planes(-unit, tuple(terms), unit * len(terms)) if downwards else Planes(unit, tuple(terms))

    def _sum_of_planes(self, planes: Planes, layer: Any) -> str:
        """The real tensor of planes: each level is one rounded product, and the level 0 is 0."""
        parts = []
        for count, plane in planes.terms:
            part = self.real(plane)
            if planes.offset:
                part = self.gain(layer, part, -1.0, "/risen")
                name = self.name(layer, "/counted")
                part = self.builder.add(Clip(name, part, name))
            parts.append(self.gain(layer, part, count, "/counted"))
        unit = -2 * planes.unit if planes.offset else planes.unit
        return self.gain(layer, self.sum(layer, parts, "/levels"), unit, "/levels")

    # --- names and parameters ---

    def parameter(self, layer: Any, role: Role, values: Array, encoding: Encoding | None = None, part: str = "") -> str:
        """Add a parameter of (a part of) a layer, or find the one that an earlier call of the layer added."""
        name = f"{self._scope}{layer.name}{part}"
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(stored).all():
            raise refusal(layer, f"its {role} holds NaN or Inf; train it again or repair it")
        encoding = encoding or Float32()
        known = self.builder.parameters.get(f"{name}/{role}")
        if known is None:
            return self.builder.parameter(f"{name}/{role}", name, role, stored, encoding)
        if known.encoding != encoding or not np.array_equal(known.values, encoding.decode(encoding.encode(stored))):
            raise refusal(layer, "is called twice and differs between the calls; use two layers")
        return known.name

    def name(self, layer: Any, suffix: str = "") -> str:
        """A name for an operation of a layer and the tensor it makes; later calls get a number."""
        base = name = f"{self._scope}{layer.name}{suffix}"
        count = 1
        while name in self.builder.tensors:
            count += 1
            name = f"{base}:{count}"
        return name


INSTEAD = {
    "Cropping1D": "cuts its input; use a convolution or a pool with padding='valid'",
    "Cropping2D": "cuts its input; use a convolution or a pool with padding='valid'",
    "Lambda": "holds code, which is not run; replace it by a layer",
    "UpSampling1D": "enlarges its input, and only networks that classify are supported; leave it out",
    "UpSampling2D": "enlarges its input, and only networks that classify are supported; leave it out",
}
"""What to do instead of layers that people ask for and that are not supported."""


def shape_of(shape: Any) -> Shape | None:
    """(height, width, channels) of a Keras shape with its batch; None when it has no such form."""
    sizes = tuple(shape)[1:]
    if not 1 <= len(sizes) <= 3 or not all(sizes):
        return None
    h, w, c = (1,) * (3 - len(sizes)) + sizes
    return int(h), int(w), int(c)
