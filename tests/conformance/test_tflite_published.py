"""Published int8 and float32 files reach the accuracy that TensorFlow measures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.tflite import import_tflite
from tests.conformance.tflite_files import assert_engine, reference_kernels
from zobnn_edge import datasets, zoo
from zobnn_edge.engine import Engine
from zobnn_edge.model_file import Model

DATA = Path(os.environ.get("ZOBNN_DATA", "")) / "mlperf_tiny"
needs_mlperf_tiny = [
    pytest.mark.needs_data,
    pytest.mark.skipif(not (os.environ.get("ZOBNN_DATA") and DATA.exists()), reason="ZOBNN_DATA has no mlperf_tiny"),
]


@pytest.mark.study
@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "dataset", "accuracy"), [("resnet8_int8", "cifar10", 87.07), ("dscnn_int8", "kws", 90.1)]
)
def test_published_int8_models(larq: Any, name: str, dataset: str, accuracy: float) -> None:
    """Bit-identical to the reference kernels on 1,000 inputs; accuracy of the engine on the whole test set.

    86.97 % and 90.2 % are measured with XNNPACK, whose softmax rounds otherwise: of ResNet-8's 10,000 images 103 have
    two best classes there.
    """
    net, data = zoo.load(name), datasets.load(dataset)
    model = Model.of(net)
    scores = Engine(model.plan).run(model.image.data, data.x)
    blob = zoo.PUBLISHED[name].path().read_bytes()
    x = net.pixels.apply(data.x[:1000]) if data.x.dtype == np.uint8 else data.x[:1000]
    expected = reference_kernels(larq, blob, x.reshape(-1, *net.input_shape))
    np.testing.assert_array_equal(scores[:1000], expected)
    measured = 100 * float((scores.argmax(1) == data.y).mean())
    print(f"\n{name}: {measured:.2f} % of {len(data):,}; 1,000 inputs as the reference kernels")
    assert measured == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.study
class TestModelsOfMlperfTiny:
    """The float32 files of MLPerf Tiny reach in the engine what TensorFlow measures."""

    pytestmark = needs_mlperf_tiny

    def test_resnet8(self) -> None:
        model = Model.of(import_tflite(DATA / "ic_resnet8_float.tflite"))
        data = datasets.load("cifar10", "test")
        assert_engine(model.network, data.x[:20])
        engine = Engine(model.plan)
        right = sum(
            int((engine.run(model.image.data, data.x[i : i + 500]).argmax(axis=1) == data.y[i : i + 500]).sum())
            for i in range(0, len(data), 500)
        )
        print(f"\nResNet-8: {right / len(data):.2%} of {len(data):,} images")
        assert len(data) == 10_000
        assert right == 8719

    def test_dscnn(self) -> None:
        """Its file holds int8 weights, before which TFLite rounds activations to 8 bits."""
        model = Model.of(import_tflite(DATA / "kws_dscnn_float.tflite"))
        with np.load(DATA / "kws01.npz") as arrays:
            x = (arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029)
            y = arrays["y"]
        assert_engine(model.network, x[:20])
        right = int((Engine(model.plan).run(model.image.data, x).argmax(axis=1) == y).sum())
        print(f"\nDS-CNN: {right} of {len(y):,} recordings")
        assert right == 905
