"""Import of Keras and Larq models. The only module but the zoo that imports TensorFlow, and only inside its functions.

What a layer computes is decided by values, not by names: a kernel is binary when its quantized values are, and a
quantizer or activation is what it does to a set of probe values. What cannot be imported exactly is refused by name.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.encoding import Binary, Encoding, Float32
from zobnn_edge.errors import InputError, ModelError, ToolError
from zobnn_edge.network import (
    Add,
    Affine,
    AveragePool,
    Builder,
    Clip,
    Conv,
    MaxPool,
    Network,
    Padding,
    Pixels,
    PRelu,
    Reshape,
    Role,
    Shape,
    Sign,
    Softmax,
    Unpack,
)
from zobnn_edge.rewrite import simplify

Array = NDArray[np.float64]
Range = tuple[float, float]

IDENTITY: Range = (-np.inf, np.inf)
"""The clip that changes nothing."""

KERNEL_TOLERANCE = 0.005
"""How far the values of a binary kernel may be from +-s of their output channel, relative to s (as in LCE)."""
SMALLEST_SCALE = 1.2e-7
"""Scales of binary kernels up to this one count as zero (as in LCE)."""


def import_keras(model_or_path: Any, name: str | None = None, pixels: Pixels | None = None) -> Network:
    """The network of a Keras or Larq model: an object, a .keras or .h5 file or a SavedModel folder.

    `name`: the network's name, by default the model's. `pixels`: what an 8-bit input stands for, by default itself.
    Batch norms become one scale and one bias a channel, folded in float64 together with the bias of the convolution
    before them. Code stored in a file is never run. Raises InputError when there is no such file, ToolError without
    TensorFlow and Larq, and ModelError naming the layer that is not supported.
    """
    tf, _ = keras()
    model = load_keras(Path(model_or_path)) if isinstance(model_or_path, (str, os.PathLike)) else model_or_path
    if not isinstance(model, tf.keras.Model):
        raise ModelError(f"a {type(model).__name__} is not a Keras 2 model; pass one, or the path of a saved one")
    what = f"model {model.name!r}"
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(f"{what}: no graph of layers; build it with the functional API, or Sequential with an Input")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{what}: {len(model.inputs)} inputs, {len(model.outputs)} outputs; only one of each is supported"
        )
    shape = _shape(model.inputs[0].shape)
    if shape is None:
        raise ModelError(f"{what}: input shape {model.inputs[0].shape}; give it fixed sizes and 1 to 3 dimensions")
    importer = _Importer(Builder(name or model.name, shape, pixels))
    output = importer.walk(model, importer.builder.input)
    return simplify(importer.builder.network(importer.real(output)))


def keras() -> tuple[Any, Any]:
    """The modules tensorflow and larq, with Keras 2 behind tf.keras and nothing written to stderr.

    Raises ToolError with the way out when they are not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if importlib.util.find_spec("tf_keras"):
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        import larq
        import tensorflow
    except ImportError as error:
        raise ToolError(f"Keras models need TensorFlow and Larq ({error}); pip install 'zobnn-edge[larq]'") from None
    except AttributeError:  # Larq, of a tf.keras that is Keras 3
        raise ToolError("TensorFlow was imported with Keras 3; set TF_USE_LEGACY_KERAS=1 before importing it") from None
    tensorflow.get_logger().setLevel("ERROR")
    logging.getLogger("larq").setLevel("ERROR")
    return tensorflow, larq


def load_keras(path: Path) -> Any:
    """The model in a file or folder; layers that hold code are refused before it is unpacked."""
    tf, _ = keras()
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if path.suffix not in (".keras", ".h5", ".hdf5") and not (path / "saved_model.pb").exists():
        raise ModelError(f"{path}: not a Keras model; it must be a .keras or .h5 file or a SavedModel folder")

    class Lambda(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]  # tf is Any
        """Takes the place of Keras's own, which would unpack Python code."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            raise _lambda_refusal(config)

    try:
        if path.suffix == ".keras":  # Keras refuses code in these files itself, but not by name
            with zipfile.ZipFile(path) as archive:
                _refuse_lambdas(json.loads(archive.read("config.json")))
        return tf.keras.models.load_model(path, custom_objects={"Lambda": Lambda}, compile=False)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # Keras raises anything from OSError to its own; the first line says what
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: Keras cannot load it ({reason}); load it yourself and pass the model") from None


def _refuse_lambdas(config: Any) -> None:
    if isinstance(config, dict) and config.get("class_name") == "Lambda":
        raise _lambda_refusal(config.get("config", {}))
    if isinstance(config, (dict, list)):
        for part in config.values() if isinstance(config, dict) else config:
            _refuse_lambdas(part)


def _lambda_refusal(config: dict[str, Any]) -> ModelError:
    return ModelError(f"layer {config.get('name')!r} (Lambda): holds code, which is not run; replace it by a layer")


@dataclass(frozen=True)
class _Call:
    """One call of a layer: the tensors it reads and what Keras knows of it.

    `reader` is the only layer that reads the output; None when there are several, or it is the model's output.
    """

    layer: Any
    inputs: tuple[str, ...]
    input_rank: int
    shape: Shape
    reader: Any

    @property
    def input(self) -> str:
        return self.inputs[0]


class _Importer:
    """Walks the layers of a model in order and appends what they do to a Builder."""

    def __init__(self, builder: Builder) -> None:
        tf, lq = keras()
        layers = tf.keras.layers
        self.builder = builder
        self.unpacked: dict[str, str] = {}  # binary tensor -> the same as a real one
        self.signs: dict[str, str] = {}  # real tensor -> its sign
        self.unfolded: dict[str, tuple[Array | None, Array | None]] = {}  # sum -> scale, bias for its batch norm
        self.scope = ""
        self.quantizer = lq.quantizers.Quantizer
        self.model = tf.keras.Model
        self.batch_norm = layers.BatchNormalization
        self.max_pools = (layers.MaxPooling2D, layers.GlobalMaxPooling2D)
        self.handlers: dict[type, Callable[[_Call], str]] = {
            lq.layers.QuantConv2D: self._conv,
            lq.layers.QuantDense: self._dense,
            layers.Conv2D: self._conv,
            layers.Dense: self._dense,
            layers.BatchNormalization: self._batch_norm,
            layers.MaxPooling2D: self._pool,
            layers.AveragePooling2D: self._pool,
            layers.GlobalMaxPooling2D: self._global_pool,
            layers.GlobalAveragePooling2D: self._global_pool,
            layers.Flatten: self._reshape,
            layers.Reshape: self._reshape,
            layers.Activation: self._activation,
            layers.ReLU: self._relu,
            layers.Softmax: self._softmax,
            layers.PReLU: self._prelu,
            layers.Add: self._add,
        }
        for identity in ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization"):
            self.handlers[getattr(layers, identity)] = self._identity

    def walk(self, model: Any, x: str) -> str:
        """Append the layers of a model that reads tensor `x`; returns its output tensor."""
        nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]
        tensors = {id(model.inputs[0]): x}
        for node in nodes:
            if node.is_input:
                continue
            layer, (out, *more) = node.layer, keras()[0].nest.flatten(node.outputs)
            source, shape = node.keras_inputs[0], _shape(out.shape)
            if more or shape is None:
                raise _refusal(layer, f"makes {node.outputs}; only one tensor of up to three fixed sizes is supported")
            if (node.call_kwargs or {}).get("training"):
                raise _refusal(layer, "is called with training=True; build the model for inference")
            readers = [n.layer for n in nodes for t in n.keras_inputs if t is out]
            only = readers[0] if len(readers) == 1 and out is not model.outputs[0] else None
            inputs = tuple(tensors[id(t)] for t in node.keras_inputs)
            y = self._layer(_Call(layer, inputs, len(source.shape), shape, only))
            if self.builder.tensors[y].shape != shape:
                raise _refusal(layer, f"makes {tuple(out.shape)} of {tuple(source.shape)}, which is not supported")
            tensors[id(out)] = y
        return tensors[id(model.outputs[0])]

    def real(self, x: str) -> str:
        """The tensor `x` as a real one."""
        if self.builder.tensors[x].kind == "real":
            return x
        if x not in self.unpacked:
            self.unpacked[x] = self.builder.add(Unpack(f"{x}/unpack", x, f"{x}/unpack"))
        return self.unpacked[x]

    def _layer(self, call: _Call) -> str:
        """Append one call of a layer; returns its output tensor."""
        layer = call.layer
        if isinstance(layer, self.model):
            if len(call.inputs) != 1:
                raise _refusal(layer, f"a model with {len(call.inputs)} inputs as a layer; only one is supported")
            outer, self.scope = self.scope, f"{self.scope}{layer.name}/"
            y = self.walk(layer, call.input)
            self.scope = outer
            return y
        handler = self._activation if isinstance(layer, self.quantizer) else self.handlers.get(type(layer))
        if handler is None:
            names = ", ".join(sorted({cls.__name__ for cls in self.handlers}))
            raise _refusal(layer, f"not supported; supported are {names}")
        if layer.compute_dtype != "float32":
            raise _refusal(layer, f"computes in {layer.compute_dtype}; build the model with dtype float32")
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise _refusal(layer, "data_format channels_first; build the model with channels_last")
        return handler(call)

    # Each handler appends one kind of layer and returns its output tensor.

    def _identity(self, call: _Call) -> str:
        return call.input

    def _conv(self, call: _Call) -> str:
        layer = call.layer
        if layer.groups != 1 or tuple(layer.dilation_rate) != (1, 1):
            raise _refusal(layer, f"groups {layer.groups}, dilation {layer.dilation_rate}; only 1 is supported")
        pad = float(np.asarray(getattr(layer, "pad_values", 0.0)))
        if layer.padding == "same" and pad not in (0.0, 1.0):
            raise _refusal(layer, f"pad_values {pad:g}; use 1 (one bit) or 0")
        kernel = _kernel(layer).transpose(3, 0, 1, 2)
        options = {"stride": tuple(layer.strides), "padding": layer.padding}
        return self._linear(call, kernel, pad_value=int(pad), **options)

    def _dense(self, call: _Call) -> str:
        return self._linear(call, _kernel(call.layer).T[:, np.newaxis, np.newaxis, :])

    def _linear(self, call: _Call, kernel: Array, **options: Any) -> str:
        """A convolution with weights (out, height, width, in), the bias and the activation of its layer."""
        layer = call.layer
        x = self._quantized_input(call)
        scale = _binary_scale(kernel, quantized=getattr(layer, "kernel_quantizer", None) is not None)
        encoding: Encoding = Binary()
        if scale is None:
            x, encoding = self.real(x), Float32()
        elif self.builder.tensors[x].kind == "binary":
            encoding = Binary(row=kernel.shape[3])
        weight = self._parameter(layer, "weight", kernel, encoding)
        name = self._name(layer)
        y = self.builder.add(Conv(name, x, name, weight, **options))
        bias = np.asarray(layer.bias, np.float64) if layer.use_bias else None
        if scale is not None and (scale == 1).all():
            scale = None
        if type(call.reader) is self.batch_norm and _function(layer.activation) == IDENTITY:
            self.unfolded[y] = (scale, bias)
            return y
        return self._apply(layer.activation, layer, self._affine(layer, y, scale, bias), "/activation")

    def _quantized_input(self, call: _Call) -> str:
        """The tensor that a layer computes with: its input, or the sign of it."""
        quantizer = getattr(call.layer, "input_quantizer", None)
        function = _function(quantizer)
        if function == IDENTITY:
            return call.input
        if function == "sign":
            return self._sign(call.input, call.layer)
        raise _refusal(call.layer, f"its input quantizer {_label(quantizer)} is no plain sign; use ste_sign, or none")

    def _batch_norm(self, call: _Call) -> str:
        layer = call.layer
        _check_last_axis(call)
        variance, mean = (np.asarray(v, np.float64) for v in (layer.moving_variance, layer.moving_mean))
        gamma = np.asarray(layer.gamma, np.float64) if layer.scale else 1.0
        beta = np.asarray(layer.beta, np.float64) if layer.center else 0.0
        with np.errstate(all="ignore"):  # what comes of a bad variance is refused as NaN or Inf
            scale = gamma / np.sqrt(variance + layer.epsilon)
            bias = beta - mean * scale
        inner_scale, inner_bias = self.unfolded.get(call.input, (None, None))
        if inner_bias is not None:
            bias = bias + inner_bias * scale
        if inner_scale is not None:
            scale = scale * inner_scale
        return self._affine(layer, self.real(call.input), scale, bias)

    def _pool(self, call: _Call) -> str:
        layer = call.layer
        return self._window(call, tuple(layer.pool_size), tuple(layer.strides), layer.padding)

    def _global_pool(self, call: _Call) -> str:
        size = self.builder.tensors[call.input].shape[:2]
        return self._window(call, size, size, "valid")

    def _window(self, call: _Call, size: tuple[int, int], stride: tuple[int, int], padding: Padding) -> str:
        name = self._name(call.layer)
        if isinstance(call.layer, self.max_pools):
            return self.builder.add(MaxPool(name, call.input, name, size, stride, padding))
        return self.builder.add(AveragePool(name, self.real(call.input), name, size, stride, padding))

    def _reshape(self, call: _Call) -> str:
        name = self._name(call.layer)
        y = self.builder.add(Reshape(name, self.real(call.input), name, call.shape))
        binary = self.builder.tensors[call.input].kind == "binary"
        return self._sign(y, call.layer) if binary else y

    def _activation(self, call: _Call) -> str:
        return self._apply(getattr(call.layer, "activation", call.layer), call.layer, call.input)

    def _relu(self, call: _Call) -> str:
        layer = call.layer
        if np.any(layer.negative_slope) or np.any(layer.threshold):
            raise _refusal(layer, "has a negative slope or a threshold; use PReLU")
        high = np.inf if layer.max_value is None else float(np.float32(layer.max_value))
        name = self._name(layer)
        return self.builder.add(Clip(name, self.real(call.input), name, 0.0, high))

    def _softmax(self, call: _Call) -> str:
        _check_last_axis(call)
        name = self._name(call.layer)
        return self.builder.add(Softmax(name, self.real(call.input), name))

    def _prelu(self, call: _Call) -> str:
        layer = call.layer
        x = self.real(call.input)
        slope = np.asarray(layer.alpha, np.float64)
        slope = slope.reshape((1,) * (3 - slope.ndim) + slope.shape)
        shape = self.builder.tensors[x].shape
        if slope.shape not in ((1, 1, shape[2]), shape):
            raise _refusal(layer, f"shares slopes as {slope.shape}; use shared_axes=[1, 2] or none")
        if slope.shape[:2] == (1, 1):
            slope = slope.reshape(-1)
        name = self._name(layer)
        return self.builder.add(PRelu(name, x, name, self._parameter(layer, "slope", slope)))

    def _add(self, call: _Call) -> str:
        x, *others = (self.real(t) for t in call.inputs)
        for other in others:
            if self.builder.tensors[other].shape != self.builder.tensors[x].shape:
                raise _refusal(call.layer, "adds tensors of different shapes; make them equal")
            name = self._name(call.layer)
            x = self.builder.add(Add(name, x, name, other))
        return x

    def _apply(self, function: Any, layer: Any, x: str, suffix: str = "") -> str:
        """An activation function of a layer; raises ModelError for one that is none of the engine's."""
        kind = _function(function)
        if kind == IDENTITY:
            return x
        name = self._name(layer, suffix)
        if kind == "sign":
            return self._sign(x, layer)
        if kind == "softmax":
            return self.builder.add(Softmax(name, self.real(x), name))
        if isinstance(kind, tuple):
            return self.builder.add(Clip(name, self.real(x), name, *kind))
        raise _refusal(layer, f"{_label(function)} is not supported; use a sign, relu, relu6, hard_tanh or softmax")

    def _sign(self, x: str, layer: Any) -> str:
        """The sign of a tensor, computed once however many read it."""
        if self.builder.tensors[x].kind == "binary":
            return x
        if x not in self.signs:
            name = self._name(layer, "/sign")
            self.signs[x] = self.builder.add(Sign(name, x, name))
        return self.signs[x]

    def _affine(self, layer: Any, x: str, scale: Array | None, bias: Array | None) -> str:
        if scale is None and bias is None:
            return x
        scale_name = None if scale is None else self._parameter(layer, "scale", scale)
        bias_name = None if bias is None else self._parameter(layer, "bias", bias)
        name = self._name(layer, "" if type(layer) is self.batch_norm else "/bias")
        return self.builder.add(Affine(name, x, name, scale_name, bias_name))

    def _parameter(self, layer: Any, role: Role, values: Array, encoding: Encoding | None = None) -> str:
        """Add a parameter of a layer, or find the one that an earlier call of the layer added."""
        name = f"{self.scope}{layer.name}"
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(stored).all():
            raise _refusal(layer, f"its {role} holds NaN or Inf; train it again or repair it")
        encoding = encoding or Float32()
        known = self.builder.parameters.get(f"{name}/{role}")
        if known is None:
            return self.builder.parameter(f"{name}/{role}", name, role, stored, encoding)
        if known.encoding != encoding or not np.array_equal(known.values, encoding.decode(encoding.encode(stored))):
            raise _refusal(layer, "is called twice and differs between the calls; use two layers")
        return known.name

    def _name(self, layer: Any, suffix: str = "") -> str:
        """A name for an operation of a layer and the tensor it makes; later calls get a number."""
        base = name = f"{self.scope}{layer.name}{suffix}"
        count = 1
        while name in self.builder.tensors:
            count += 1
            name = f"{base}:{count}"
        return name


def _refusal(layer: Any, why: str) -> ModelError:
    return ModelError(f"layer {layer.name!r} ({type(layer).__name__}): {why}")


def _check_last_axis(call: _Call) -> None:
    axis = call.layer.axis
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if axes not in ([-1], [call.input_rank - 1]):
        raise _refusal(call.layer, f"normalises axis {axes}; only the last one is supported")


def _label(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _shape(shape: Any) -> Shape | None:
    """(height, width, channels) of a Keras shape with its batch; None when it has no such form."""
    sizes = tuple(shape)[1:]
    if not 1 <= len(sizes) <= 3 or not all(sizes):
        return None
    h, w, c = (1,) * (3 - len(sizes)) + sizes
    return int(h), int(w), int(c)


def _kernel(layer: Any) -> Array:
    """The kernel that a layer computes with: quantized, where it has a quantizer."""
    kernel = layer.kernel
    quantizer = getattr(layer, "kernel_quantizer", None)
    if quantizer is not None:
        kernel = quantizer(getattr(kernel, "latent_variable", kernel))
    values = np.asarray(kernel, np.float64)
    if not np.isfinite(values).all():
        raise _refusal(layer, "its kernel holds NaN or Inf; train it again or repair it")
    return values


def _binary_scale(kernel: Array, quantized: bool) -> Array | None:
    """The scale (out,) of a kernel (out, height, width, in) whose values are +-scale; None when they are others.

    A kernel without quantizer counts only when its values are exactly +-1: a kernel of one weight is always +-scale.
    """
    size = np.abs(kernel)
    scale: Array = size.reshape(len(kernel), -1)[:, 0]
    if not quantized:
        return scale if (size == 1).all() else None
    close = np.abs(size - scale[:, np.newaxis, np.newaxis, np.newaxis]) <= KERNEL_TOLERANCE * scale[:, None, None, None]
    return scale if bool((scale > SMALLEST_SCALE).all() and close.all()) else None


def _function(function: Any) -> str | Range | None:
    """What a quantizer or an activation does, seen from what it does to probe values.

    "sign", "softmax", (low, high) for a clip to that range, infinite ends meaning no bound; None for anything else.
    """
    if function is None:
        return IDENTITY
    positive = np.geomspace(1e-30, 1e30, 241, dtype=np.float32)
    grid = np.linspace(-8, 8, 257, dtype=np.float32)
    probe = np.concatenate([grid, positive, -positive, np.array([-0.0], np.float32)])
    # Two channels, mirrored: a function that depends on other elements shows it.
    x = np.stack([probe, -probe], axis=-1)[:, np.newaxis, np.newaxis, :]
    try:
        y = np.asarray(function(keras()[0].constant(x)))
    except Exception:  # code of the user's; whatever it raises, it is no function of this list
        return None
    if np.array_equal(y, np.where(x < 0, -1, 1)):
        return "sign"
    low, high = float(y.min()), float(y.max())
    if np.array_equal(y, np.clip(x, low, high)):
        limit = float(positive[-1])
        return (-np.inf if low == -limit else low), (np.inf if high == limit else high)
    small = np.abs(x) <= 8
    with np.errstate(over="ignore"):
        softmax = 1 / (1 + np.exp(np.where(small, -2 * x, 0)))
    return "softmax" if y.shape == x.shape and np.allclose(y[small], softmax[small], atol=1e-6) else None
