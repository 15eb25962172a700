"""The layers of Keras and of the zoo that are not linear: normalisation, pools, shapes, activations, sums, products."""

from __future__ import annotations

import sys
from functools import reduce
from typing import Any

import numpy as np

from converters.keras import keras, refusal
from converters.keras_graph import Call, Handler, Importer
from converters.keras_linear import precision_gated
from converters.keras_planes import TWO_BIT
from zobnn_edge.operations import AveragePool, Clip, Concat, MaxPool, Mul, Pad, Padding, Reshape, Softmax, Thermometer


def handlers() -> dict[type, Handler]:
    """The handler of each class of layer."""
    layers = keras()[0].keras.layers
    table: dict[str, Handler] = {
        "Activation": activation,
        "Add": add,
        "AveragePooling1D": pool,
        "AveragePooling2D": pool,
        "BatchNormalization": batch_norm,
        "Concatenate": concatenate,
        "Flatten": reshape,
        "GlobalAveragePooling1D": global_pool,
        "GlobalAveragePooling2D": global_pool,
        "GlobalMaxPooling1D": global_pool,
        "GlobalMaxPooling2D": global_pool,
        "Lambda": nothing_but_identity,
        "LeakyReLU": leaky_relu,
        "MaxPooling1D": pool,
        "MaxPooling2D": pool,
        "Multiply": multiply,
        "PReLU": prelu,
        "ReLU": relu,
        "Rescaling": rescaling,
        "Reshape": reshape,
        "Softmax": softmax,
        "ZeroPadding1D": zero_padding,
        "ZeroPadding2D": zero_padding,
    }
    for name in ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"):
        table[name] = identity
    table["ActivityRegularization"] = identity
    known = {getattr(layers, name): handler for name, handler in table.items()}
    zoo = sys.modules.get("zobnn_edge.zoo.layers")  # a model can only hold its layers if it was imported
    if zoo is not None:
        own = {"Bias": bias, "Thermometer": thermometer, "TwoBit": two_bit, "PrecisionGatedConv2D": precision_gated}
        known |= {getattr(zoo, name): handler for name, handler in own.items()}
    return known


def identity(importer: Importer, call: Call) -> str:
    """A layer that does nothing at inference."""
    return call.input


def nothing_but_identity(importer: Importer, call: Call) -> str:
    """A Lambda, accepted when its bytecode is that of `lambda x: x`; it is never run."""
    code = getattr(call.layer.function, "__code__", None)
    if code is None or code.co_code != (lambda x: x).__code__.co_code or code.co_argcount != 1:
        raise refusal(call.layer, "not supported: holds code, which is not run; replace it by a layer")
    return call.input


def batch_norm(importer: Importer, call: Call) -> str:
    """One scale and one bias a channel, folded in float64 with what the layer before left to it."""
    layer = call.layer
    _check_last_axis(call)
    variance, mean = (np.asarray(v, np.float64) for v in (layer.moving_variance, layer.moving_mean))
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else 1.0
    beta = np.asarray(layer.beta, np.float64) if layer.center else 0.0
    with np.errstate(all="ignore"):  # what comes of a bad variance is refused as NaN or Inf
        scale = gamma / np.sqrt(variance + layer.epsilon)
        shift = beta - mean * scale
    inner_scale, inner_bias = importer.unfolded.get(call.input, (None, None))
    if inner_bias is not None:
        shift = shift + inner_bias * scale
    if inner_scale is not None:
        scale = scale * inner_scale
    return importer.affine(layer, importer.real(call.input), scale, shift, "")


def rescaling(importer: Importer, call: Call) -> str:
    """`x * scale + offset`, both for all channels or one a channel."""
    channels = importer.shape(call.input)[2]
    scale, offset = (np.asarray(v, np.float64) for v in (call.layer.scale, call.layer.offset))
    if not all(v.ndim == 0 or v.shape == (channels,) for v in (scale, offset)):
        raise refusal(call.layer, f"scales by shape {scale.shape}, shifts by {offset.shape}; use one value a channel")
    gain = float(scale) if scale.ndim == 0 else scale
    shift = np.broadcast_to(offset, channels) if offset.any() else None
    return importer.affine(call.layer, importer.real(call.input), gain, shift, "")


def bias(importer: Importer, call: Call) -> str:
    """The zoo's shift of each channel."""
    shift = np.asarray(call.layer.bias, np.float64)
    return importer.affine(call.layer, importer.real(call.input), None, shift, "")


def thermometer(importer: Importer, call: Call) -> str:
    """The zoo's input coding."""
    name = importer.name(call.layer)
    gain = float(np.float32(call.layer.gain))
    return importer.builder.add(Thermometer(name, importer.real(call.input), name, int(call.layer.planes), gain))


def two_bit(importer: Importer, call: Call) -> str:
    """FracBNN's 2-bit activation."""
    return importer.stepped(importer.real(call.input), TWO_BIT, call.layer)


def pool(importer: Importer, call: Call) -> str:
    """Maximum or mean over windows."""
    layer = call.layer
    size, stride = (tuple(s) if len(s) == 2 else (1, *s) for s in (layer.pool_size, layer.strides))
    return _window(importer, call, size, stride, layer.padding)


def global_pool(importer: Importer, call: Call) -> str:
    """Maximum or mean over everything."""
    size = importer.shape(call.input)[:2]
    return _window(importer, call, size, size, "valid")


def _window(importer: Importer, call: Call, size: tuple[int, int], stride: tuple[int, int], padding: Padding) -> str:
    name = importer.name(call.layer)
    if "Max" in type(call.layer).__name__:
        return importer.builder.add(MaxPool(name, call.input, name, size, stride, padding))
    return importer.builder.add(AveragePool(name, importer.real(call.input), name, size, stride, padding))


def zero_padding(importer: Importer, call: Call) -> str:
    """A border of zeros."""
    padding = call.layer.padding
    rows, columns = ((0, 0), padding) if importer.shape(call.input)[0] == 1 and len(np.shape(padding)) == 1 else padding
    name = importer.name(call.layer)
    return importer.builder.add(Pad(name, importer.real(call.input), name, tuple(rows), tuple(columns)))


def reshape(importer: Importer, call: Call) -> str:
    """Flatten and Reshape; of a binary tensor a binary one."""
    name = importer.name(call.layer)
    y = importer.builder.add(Reshape(name, importer.real(call.input), name, call.shape))
    return importer.sign(y, call.layer) if importer.is_binary(call.input) else y


def concatenate(importer: Importer, call: Call) -> str:
    """Channels after channels; of binary tensors a binary one."""
    axis = call.layer.axis
    if axis not in (-1, call.input_rank - 1):
        raise refusal(call.layer, f"joins along axis {axis}; only the last one is supported")
    return joined(importer, call.layer, call.inputs)


def joined(importer: Importer, layer: Any, tensors: tuple[str, ...]) -> str:
    """The channels of tensors, one after the other."""

    def join(x: str, other: str) -> str:
        name = importer.name(layer)
        return importer.builder.add(Concat(name, x, name, importer.real(other)))

    y = reduce(join, tensors[1:], importer.real(tensors[0]))
    return importer.sign(y, layer) if all(importer.is_binary(t) for t in tensors) else y


def add(importer: Importer, call: Call) -> str:
    """The sum of tensors of one shape."""
    return added(importer, call.layer, call.inputs)


def added(importer: Importer, layer: Any, tensors: tuple[str, ...]) -> str:
    """The sum of tensors of one shape."""
    if len({importer.shape(t) for t in tensors}) > 1:
        raise refusal(layer, "adds tensors of different shapes; make them equal")
    return importer.sum(layer, [importer.real(t) for t in tensors])


def multiply(importer: Importer, call: Call) -> str:
    """The product of tensors of one shape, or of a tensor and one factor a channel."""
    return multiplied(importer, call.layer, call.inputs)


def multiplied(importer: Importer, layer: Any, tensors: tuple[str, ...]) -> str:
    """The product of tensors; those of shape (1, 1, channels) are factors of every pixel."""

    def product(x: str, other: str) -> str:
        if importer.shape(x)[:2] == (1, 1):
            x, other = other, x
        shape, factor = importer.shape(x), importer.shape(other)
        if factor not in (shape, (1, 1, shape[2])):
            raise refusal(layer, f"multiplies shapes {shape} and {factor}; make them equal, or one (1, 1, channels)")
        name = importer.name(layer)
        return importer.builder.add(Mul(name, x, name, other))

    return reduce(product, [importer.real(t) for t in tensors])


def activation(importer: Importer, call: Call) -> str:
    """An activation as a layer."""
    return importer.apply(call.layer.activation, call.layer, call.input)


def relu(importer: Importer, call: Call) -> str:
    """ReLU, with a slope below 0 or a bound above."""
    layer = call.layer
    if np.any(layer.threshold):
        raise refusal(layer, "has a threshold; use ReLU without it, or PReLU")
    x, suffix = importer.real(call.input), ""
    low, high = 0.0, np.inf if layer.max_value is None else float(np.float32(layer.max_value))
    if np.any(layer.negative_slope):
        x, low, suffix = _leaky(importer, call, layer.negative_slope), -np.inf, "/bound"
        if high == np.inf:
            return x
    name = importer.name(layer, suffix)
    return importer.builder.add(Clip(name, x, name, low, high))


def leaky_relu(importer: Importer, call: Call) -> str:
    """One constant slope below 0."""
    return _leaky(importer, call, call.layer.alpha)


def _leaky(importer: Importer, call: Call, slope: Any) -> str:
    x = importer.real(call.input)
    return importer.prelu(call.layer, x, np.full(importer.shape(x)[2], float(slope)))


def prelu(importer: Importer, call: Call) -> str:
    """One slope a channel, or one an element."""
    layer = call.layer
    x = importer.real(call.input)
    slope = np.asarray(layer.alpha, np.float64)
    slope = slope.reshape((1,) * (3 - slope.ndim) + slope.shape)
    shape = importer.shape(x)
    if slope.shape not in ((1, 1, shape[2]), shape):
        raise refusal(layer, f"shares slopes as {slope.shape}; use shared_axes=[1, 2] or none")
    return importer.prelu(layer, x, slope.reshape(-1) if slope.shape[:2] == (1, 1) else slope)


def softmax(importer: Importer, call: Call) -> str:
    """Softmax over the channels."""
    _check_last_axis(call)
    name = importer.name(call.layer)
    return importer.builder.add(Softmax(name, importer.real(call.input), name))


def _check_last_axis(call: Call) -> None:
    axis = call.layer.axis
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if axes not in ([-1], [call.input_rank - 1]):
        raise refusal(call.layer, f"normalises axis {axes}; only the last one is supported")
