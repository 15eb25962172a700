"""TensorFlow functions of Keras tensors (`x + y`, `tf.concat`, `tf.nn.relu` ...), which Keras makes layers of."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.keras import keras, refusal
from converters.keras_functions import Array
from converters.keras_graph import Call, Handler, Importer
from converters.keras_layers import added, joined, multiplied


def handlers() -> dict[type, Handler]:
    """The handler of the class of layer that stands for a function."""
    x = keras()[0].keras.Input((1,))
    return {type((x + x).node.layer): operator}


def operator(importer: Importer, call: Call) -> str:
    """A sum, a product or a concatenation of tensors, one of a tensor and a constant, or a function of one tensor."""
    symbol = str(call.layer.get_config()["function"])
    axis = (call.options or {}).get("axis", -1)
    if symbol == "concat" and axis in (-1, call.input_rank - 1) and len(call.arguments) == len(call.inputs):
        return joined(importer, call.layer, call.inputs)
    if call.options or len(call.inputs) > 2:
        raise refusal(call.layer, f"tf.{symbol} with these arguments is not supported; use a layer of Keras")
    if symbol in ("math.add", "__operators__.add", "math.multiply"):
        together, with_constant = (multiplied, _scaled) if symbol == "math.multiply" else (added, _shifted)
        constants = [a for a in call.arguments if not isinstance(a, str)]
        if constants:
            return with_constant(importer, call, _per_channel(importer, call, constants[0]))
        return together(importer, call.layer, call.inputs)
    if len(call.arguments) == 1:
        return importer.apply(call.layer.function, call.layer, call.input)
    raise refusal(call.layer, f"tf.{symbol} is not supported; use a layer of Keras")


def _per_channel(importer: Importer, call: Call, constant: Any) -> Array:
    """A constant as one value, or as one a channel."""
    values = np.asarray(constant, np.float64)
    channels = importer.shape(call.input)[2]
    if values.ndim and (values.size != channels or values.shape[-1] != channels):
        raise refusal(call.layer, f"has a constant of shape {values.shape}; use one value, or one a channel")
    return values.reshape(-1) if values.ndim else values


def _scaled(importer: Importer, call: Call, factor: Array) -> str:
    return importer.affine(call.layer, importer.real(call.input), factor if factor.ndim else float(factor), None, "")


def _shifted(importer: Importer, call: Call, shift: Array) -> str:
    x = importer.real(call.input)
    return importer.affine(call.layer, x, None, np.broadcast_to(shift, importer.shape(x)[2]), "")
