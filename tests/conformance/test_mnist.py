"""Larq's own tutorial network on all of MNIST: hardened, it is smaller than LCE's converter makes it, and as accurate.

A study: it trains the network first (some minutes). Needs MNIST (ZOBNN_DATA, or the network for a download).
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from converters import lce, lce_interpreter
from converters.larq import import_keras
from zobnn_edge import datasets
from zobnn_edge.engine import Engine
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

MAX_BYTES = 20_000
MAX_LOSS = 0.002
"""Ranges are those of least expected damage: trained on some machines, min-max ranges lose .0021."""


@pytest.mark.study
@pytest.mark.skipif(importlib.util.find_spec("larq") is None, reason="larq is not installed")
def test_hardened_tutorial_network() -> None:
    from zobnn_edge import zoo

    recipe = zoo.recipe("mnist_tutorial")
    keras_model = recipe.train(0, recipe.epochs, None)
    data = datasets.load("mnist", "test")
    x = recipe.pixels.apply(data.x)
    keras = keras_model.predict(x, batch_size=500, verbose=0)
    hardened = harden(import_keras(keras_model, "mnist_tutorial", recipe.pixels), Policy(8, range="damage"))
    blob, model = lce.write(hardened), Model.of(hardened)
    flatbuffer = lce_interpreter.run(blob, x)
    engine = Engine(model.plan).run(model.image.data, x)
    accuracy = {
        name: float((scores.argmax(axis=1) == data.y).mean())
        for name, scores in (("Keras", keras), ("flatbuffer", flatbuffer), ("engine", engine))
    }
    print(f"\nflatbuffer {len(blob):,} bytes; accuracy on {len(x):,} images: {accuracy}")
    assert len(x) == 10_000
    assert len(blob) < MAX_BYTES
    assert accuracy["flatbuffer"] >= accuracy["Keras"] - MAX_LOSS
    assert accuracy["engine"] >= accuracy["Keras"] - MAX_LOSS
    assert np.mean(flatbuffer.argmax(axis=1) == engine.argmax(axis=1)) >= 0.9995
