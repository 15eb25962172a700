"""Saved models give the network of the model, and code in them is never run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters.larq import import_keras
from tests.conformance.keras_models import (
    SIGNS,
    conv,
    layers,
    lq,
    randomise,
    sequential,
    tf,
)
from zobnn_edge.errors import InputError, ModelError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("reproducible_models")


@pytest.fixture
def small() -> Any:
    dense = lq.layers.QuantDense(5, name="d", **SIGNS)
    return randomise(
        sequential((6, 6, 2), conv(name="c", **SIGNS), layers.BatchNormalization(), layers.Flatten(), dense)
    )


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "saved_model"])
def test_files_and_folders_give_the_same_network(name: str, small: Any, tmp_path: Path) -> None:
    small.save(tmp_path / name)
    expected = import_keras(small)
    net = import_keras(tmp_path / name)
    assert net.ops == expected.ops
    for key, parameter in expected.parameters.items():
        assert np.array_equal(net.parameters[key].values, parameter.values)


def test_files_hold_layers_of_the_zoo(tmp_path: Path) -> None:
    """In a process that has not imported the zoo."""
    zoo = pytest.importorskip("zobnn_edge.zoo.layers")
    sequential((4, 4, 2), zoo.Thermometer(4, 2.0), zoo.PrecisionGatedConv2D(3), zoo.Bias()).save(tmp_path / "m.keras")
    code = f"from converters.larq import import_keras; print(import_keras({str(tmp_path / 'm.keras')!r}).outputs)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "48"


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "saved_model"])
def test_code_in_a_file_is_never_run(name: str, tmp_path: Path) -> None:
    """The lambda leaves a trace when it is called, which building the loaded model would do."""
    trace = str(tmp_path / "trace")
    code = eval(f"lambda x: (open({trace!r}, 'a').close(), x)[1]")
    model = sequential((4,), layers.Lambda(code, name="evil"), layers.Dense(2))
    model.save(tmp_path / name)
    Path(trace).unlink()
    with pytest.raises(ModelError, match=r"layer 'evil' \(Lambda\): holds code, which is not run"):
        import_keras(tmp_path / name)
    assert not Path(trace).exists()


def test_lambda_in_a_model_object_is_refused() -> None:
    with pytest.raises(ModelError, match=r"layer 'f' \(Lambda\): not supported"):
        import_keras(sequential((4,), layers.Lambda(lambda x: 2 * x, name="f"), layers.Dense(2)))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_broken_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(ModelError, match=f"{name}: Keras cannot load it") as caught:
        import_keras(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        import_keras(tmp_path / "none.h5")
    (tmp_path / "x.onnx").write_bytes(b"")
    for path in (tmp_path / "x.onnx", tmp_path):
        with pytest.raises(ModelError, match=r"must be a \.keras or \.h5 file or a SavedModel folder"):
            import_keras(path)


def test_models_of_other_forms_are_refused() -> None:
    a, b = layers.Input((4,)), layers.Input((4,))
    c = layers.Dense(2)(a)
    with pytest.raises(ModelError, match="2 inputs, 1 outputs"):
        import_keras(tf.keras.Model([a, b], layers.Add()([a, b])))
    with pytest.raises(ModelError, match="1 inputs, 2 outputs"):
        import_keras(tf.keras.Model(a, [c, layers.Dense(2)(c)]))
    with pytest.raises(ModelError, match=r"input shape \(None, None, None, 3\); give it fixed sizes"):
        import_keras(sequential((None, None, 3), layers.Conv2D(2, 3)))
    with pytest.raises(ModelError, match="no graph of layers"):
        import_keras(tf.keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ModelError, match="a dict is not a Keras 2 model"):
        import_keras({})
