"""The zoo: its networks train to the accuracy they promise, are imported exactly, and are trained only once."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("larq") is None:  # importing it here would choose the wrong Keras
    pytest.skip("larq is not installed", allow_module_level=True)
pytest.importorskip("sklearn")

from converters.larq import import_keras
from zobnn_edge import datasets, model_file, reference, zoo
from zobnn_edge.errors import InputError
from zobnn_edge.zoo import models

EPOCHS = 12


@pytest.fixture(scope="module")
def digits() -> tuple[Any, list[tuple[int, int, float]]]:
    """A briefly trained model and what its training reported."""
    progress: list[tuple[int, int, float]] = []
    return models.train_digits(0, EPOCHS, lambda *report: progress.append(report)), progress


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_digits_trains_and_its_import_gives_the_same_scores(digits: tuple[Any, Any]) -> None:
    model, _ = digits
    data = datasets.load("digits")
    net = import_keras(model, pixels=models.DIGITS_PIXELS)
    expected = model.predict(models.DIGITS_PIXELS.apply(data.x), verbose=0)
    scores = reference.run(net, data.x)
    assert (scores.argmax(1) == data.y).mean() >= 0.9
    assert (scores.argmax(1) == expected.argmax(1)).mean() >= 0.997
    close = np.abs(scores - expected).max(axis=1) < 1e-4
    assert close.mean() >= 0.98, "but for a sign near 0 now and then, after a real first layer"


def test_digits_has_every_type_of_parameter_and_one_bit_between_layers(digits: tuple[Any, Any]) -> None:
    net = import_keras(digits[0])
    assert {p.type for p in net.parameters.values()} == {"binary", "L", "S"}
    assert {p.layer for p in net.parameters.values() if p.type == "L"} == {"conv1", "dense5"}
    hidden = {net.tensors[op.input].kind for op in net.ops if op.name in ("conv2", "conv3", "dense4")}
    assert hidden == {"binary"}


def test_progress_is_reported_after_every_epoch(digits: tuple[Any, list[tuple[int, int, float]]]) -> None:
    _, progress = digits
    assert [report[:2] for report in progress] == [(epoch, EPOCHS) for epoch in range(1, EPOCHS + 1)]
    assert 0 < progress[0][2] < progress[-1][2] <= 1


@pytest.mark.study
def test_digits_reaches_the_promised_accuracy() -> None:
    data = datasets.load("digits")
    model = models.train_digits(0)
    assert (model.predict(models.DIGITS_PIXELS.apply(data.x), verbose=0).argmax(1) == data.y).mean() >= 0.95


def test_mnist_tutorial_is_larqs_network() -> None:
    """93,088 binary weights, no real one, and every hidden activation but sums is one bit."""
    net = import_keras(models.mnist_tutorial(), pixels=models.MNIST_PIXELS)
    weights = [p for p in net.parameters.values() if p.role == "weight"]
    assert [p.shape for p in weights] == [
        (32, 3, 3, 1),
        (64, 3, 3, 32),
        (64, 3, 3, 64),
        (64, 3, 3, 64),
        (10, 1, 1, 64),
    ]
    assert {p.type for p in weights} == {"binary"}
    assert sum(p.values.size for p in weights) == 93088
    assert net.outputs == 10


def test_a_network_is_trained_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train(seed: int, epochs: int, progress: zoo.Progress | None) -> Any:
        calls.append((seed, epochs))
        return models.larq_digits()

    monkeypatch.setitem(zoo.RECIPES, "digits", replace(zoo.RECIPES["digits"], train=train))
    first = zoo.load("digits", seed=3)
    assert calls == [(3, 40)]
    again = zoo.load("digits", seed=3)
    assert calls == [(3, 40)]
    assert model_file.Model.of(first).to_bytes() == model_file.Model.of(again).to_bytes()
    assert (again.name, again.pixels) == ("digits", models.DIGITS_PIXELS)
    zoo.load("digits", seed=4)
    assert calls[1:] == [(4, 40)]


def test_unknown_networks_and_seeds_are_refused(cache: Path) -> None:
    with pytest.raises(InputError, match=r"no zoo:resnet; there are zoo:digits, zoo:mnist_tutorial"):
        zoo.load("resnet")
    with pytest.raises(InputError, match="seed -1: training takes seeds from 0"):
        zoo.load("digits", seed=-1)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_models_are_saved_whole(name: str, tmp_path: Path) -> None:
    model = models.larq_digits()
    models.save(model, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    saved, expected = import_keras(tmp_path / name), import_keras(model)
    assert all(np.array_equal(saved.parameters[k].values, p.values) for k, p in expected.parameters.items())


def test_models_that_cannot_be_saved_leave_nothing(tmp_path: Path) -> None:
    model = models.larq_digits()
    with pytest.raises(InputError, match=r"m\.pkl: a Keras model is saved as \.keras or \.h5"):
        models.save(model, tmp_path / "m.pkl")
    with pytest.raises(InputError, match=r"m\.h5: cannot be written"):
        models.save(model, tmp_path / "none" / "m.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.study
@pytest.mark.needs_data
def test_mnist_tutorial_trained_and_imported_agrees_on_every_test_image() -> None:
    data = datasets.load("mnist")
    model = models.train_mnist_tutorial()
    expected = model.predict(models.MNIST_PIXELS.apply(data.x), verbose=0, batch_size=500)
    assert (expected.argmax(1) == data.y).mean() >= 0.97
    net = import_keras(model, pixels=models.MNIST_PIXELS)
    scores = np.concatenate([reference.run(net, part) for part in np.split(data.x, 20)])
    assert np.array_equal(scores.argmax(1), expected.argmax(1))
    assert np.abs(scores - expected).max() < 1e-5
