"""Import of Keras and Larq models.

What a layer computes is decided by values, not by names: a kernel is binary when its quantized values are, and a
quantizer or activation is what it does to a set of probe values. What cannot be imported exactly is refused by name.
"""

from __future__ import annotations

import os
from typing import Any

from converters import keras_layers, keras_linear, keras_operators
from converters.keras import keras
from converters.keras_files import load_keras
from converters.keras_graph import Importer, shape_of
from converters.keras_shifts import merge_shifts
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Builder, Network, Pixels
from zobnn_edge.rewrite import simplify

__all__ = ["import_keras", "keras", "load_keras"]


def import_keras(
    model_or_path: Any, name: str | None = None, pixels: Pixels | None = None, merge: bool = True
) -> Network:
    """The network of a Keras or Larq model: an object, a .keras or .h5 file or a SavedModel folder.

    `name`: the network's name, by default the model's. `pixels`: what an 8-bit input stands for, by default itself.
    `merge`: let shifts that follow each other become one; without, every parameter of the model is kept.
    Batch norms become one scale and one bias a channel, folded in float64 together with the bias of the convolution
    before them. Code stored in a file is never run. Raises InputError when there is no such file, ToolError without
    TensorFlow and Larq, and ModelError naming the layer that is not supported.
    """
    tf, _ = keras()
    model = load_keras(model_or_path) if isinstance(model_or_path, (str, os.PathLike)) else model_or_path
    if not isinstance(model, tf.keras.Model):
        raise ModelError(f"a {type(model).__name__} is not a Keras 2 model; pass one, or the path of a saved one")
    what = f"model {model.name!r}"
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(f"{what}: no graph of layers; build it with the functional API, or Sequential with an Input")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{what}: {len(model.inputs)} inputs, {len(model.outputs)} outputs; only one of each is supported"
        )
    shape = shape_of(model.inputs[0].shape)
    if shape is None:
        raise ModelError(f"{what}: input shape {model.inputs[0].shape}; give it fixed sizes and 1 to 3 dimensions")
    handlers = keras_linear.handlers() | keras_layers.handlers() | keras_operators.handlers()
    importer = Importer(Builder(name or model.name, shape, pixels), handlers)
    output = importer.walk(model, importer.builder.input)
    net = importer.builder.network(importer.real(output))
    return simplify(merge_shifts(net) if merge else net)
