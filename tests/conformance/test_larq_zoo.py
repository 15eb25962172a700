"""Models of Larq Zoo mean the same here as in the stock LCE interpreter, which runs LCE's own conversion of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq_zoo")
pytest.importorskip("larq_compute_engine")

from converters import lce_interpreter
from converters.larq import import_keras
from tests.conformance.keras_models import PIXELS, layers, tf
from zobnn_edge import reference
from zobnn_edge.engine import Engine
from zobnn_edge.model_file import Model
from zobnn_edge.operations import Conv

pytestmark = [pytest.mark.study, pytest.mark.usefixtures("reproducible_models")]

IMAGES = 32
TOLERANCE = 2e-5  # of the range of all scores
BINARY_CONVOLUTIONS = {"QuickNet": 16, "BinaryDenseNet28": 23, "BiRealNet": 16, "RealToBinaryNet": 16}


def untrained(name: str) -> Any:
    """A model of Larq Zoo for inputs of 32x32 without its softmax, which would hide differences.

    Its batch norms have random statistics, with scales of both signs: those of a new model make exact ties.
    """
    import larq_zoo

    factory = getattr(larq_zoo.sota, name, None) or getattr(larq_zoo.literature, name)
    model = factory(weights=None, input_shape=(32, 32, 3), num_classes=10)
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            n = layer.moving_mean.shape[0]
            layer.moving_mean.assign(rng.normal(size=n))
            layer.moving_variance.assign(rng.uniform(0.5, 40, n))
            if layer.scale:
                layer.gamma.assign(rng.normal(size=n) + 0.5)
            if layer.center:
                layer.beta.assign(rng.normal(size=n))
    return tf.keras.Model(model.input, model.layers[-1].input)


@pytest.mark.parametrize("name", BINARY_CONVOLUTIONS)
def test_zoo_models_agree_with_lce(name: str) -> None:
    """Scores are LCE's, or Keras's: where a sum is next to 0, rounding decides its sign, and the two differ as well."""
    import larq_compute_engine

    x = PIXELS.apply(np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3)))
    model = untrained(name)
    net = import_keras(model, name, PIXELS)
    binary = [op for op in net.ops if isinstance(op, Conv) and net.tensors[op.input].kind == "binary"]
    assert len(binary) == BINARY_CONVOLUTIONS[name]
    scores = reference.run(net, x)
    deployed = Model.of(net)
    assert Engine(deployed.plan).run(deployed.image.data, x).tobytes() == scores.tobytes()
    blob = larq_compute_engine.convert_keras_model(model)
    lce, keras = lce_interpreter.run(blob, x), model(x, training=False).numpy()
    near_lce, near_keras = (np.abs(scores - y).max(axis=1) < TOLERANCE * np.ptp(lce) for y in (lce, keras))
    top1 = int((scores.argmax(axis=1) == lce.argmax(axis=1)).sum())
    agree = f"scores equal LCE's on {near_lce.sum()}, Keras's on {near_keras.sum()}, top-1 LCE's on {top1} of {IMAGES}"
    print(f"\n{name}: {agree}; image {len(deployed.image.data):,} bytes, LCE's file {len(blob):,}")
    assert top1 == IMAGES
    assert near_lce.mean() > 0.7
    assert (near_lce | near_keras).mean() > 0.9
    assert len(np.unique(lce, axis=0)) == IMAGES, "the test sees no difference between images"
