"""Training: it goes on where it was stopped as if it had not been, and images are moved as the recipe says."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters.larq import keras
from zobnn_edge import datasets, model_file, zoo
from zobnn_edge.datasets import Dataset
from zobnn_edge.errors import InputError
from zobnn_edge.network import Pixels
from zobnn_edge.zoo import train
from zobnn_edge.zoo.training import Recipe, augmented

RNG = np.random.default_rng(0)


def tiny() -> Any:
    tf, lq = keras()
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((6, 6, 2)),
            layers.Flatten(),
            lq.layers.QuantDense(16, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(4, activation="softmax"),
        ]
    )


RECIPE = Recipe(tiny, "quarters", Pixels(1 / 128, -1.0), 4, batch=16, rate=1e-2, decay=True, shift=1, mirror=True)


@pytest.fixture(autouse=True)
def quarters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Images that are brighter in one quarter, and an empty cache."""
    y = np.arange(200) % 4
    x = RNG.integers(0, 128, (200, 6, 6, 2))
    for image, label in zip(x, y, strict=True):
        image[3 * (label // 2) :, 3 * (label % 2) :] += 60
    data = Dataset("quarters", x.astype(np.uint8), y.astype(np.int64))
    monkeypatch.setattr(datasets, "load", lambda name, split="test": data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(zoo.RECIPES, "quarters", RECIPE)


def log(folder: Path) -> list[dict[str, str]]:
    """The rows of a log, without the seconds."""
    with (folder / "log.csv").open() as lines:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def interrupted(folder: Path, epochs: int, **options: Any) -> None:
    def stop(epoch: int, *_: Any) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RECIPE.train(progress=stop, folder=folder, **options)


def test_stopped_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """Epochs done stay done, and the optimizer's count of steps, which sets the rate, is that of an unbroken training.

    (Weights cannot be compared: TensorFlow's threads add up in any order, and binary kernels amplify the difference.)
    """
    RECIPE.train(folder=tmp_path / "whole")
    interrupted(tmp_path / "parts", 1)
    interrupted(tmp_path / "parts", 3)
    before = log(tmp_path / "parts")
    RECIPE.train(folder=tmp_path / "parts")
    whole, parts = log(tmp_path / "whole"), log(tmp_path / "parts")
    assert parts[:3] == before
    assert [(row["epoch"], row["learning_rate"]) for row in parts] == [
        (row["epoch"], row["learning_rate"]) for row in whole
    ]


def test_another_seed_trains_another_network() -> None:
    one, other = (RECIPE.train(seed, 1) for seed in (0, 1))
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


def test_the_rate_falls_to_zero_with_the_last_epoch_and_follows_a_new_number_of_epochs(tmp_path: Path) -> None:
    interrupted(tmp_path, 2)
    RECIPE.train(epochs=3, folder=tmp_path)
    rates = [float(row["learning_rate"]) for row in log(tmp_path)]
    steps = -(-200 // RECIPE.batch)  # an epoch; the log has the rate of each epoch's last step
    planned = ((4, 1), (4, 2), (3, 3))
    assert rates == pytest.approx([1e-2 * (1 - (epoch * steps - 1) / (of * steps)) for of, epoch in planned])


def test_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = RECIPE.train(folder=tmp_path)
    epochs: list[int] = []
    again = RECIPE.train(folder=tmp_path, progress=lambda epoch, *_: epochs.append(epoch))
    assert not epochs
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_a_log_that_is_none_is_refused(tmp_path: Path) -> None:
    RECIPE.train(epochs=1, folder=tmp_path)
    (tmp_path / "log.csv").write_text("epoch,seconds\n1,2\n")
    with pytest.raises(InputError, match=r"log\.csv: not a training log; remove the folder"):
        RECIPE.train(epochs=2, folder=tmp_path)


def test_the_command_trains_shows_progress_and_keeps_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["quarters", "--epochs", "2", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "epoch 1/2: " in out
    assert "epoch 2/2: " in out
    assert out.splitlines()[-1].endswith("training/quarters-1/quarters.keras")
    assert Path(out.splitlines()[-1]).exists()
    assert model_file.load(zoo.cached("quarters", 1)).network.pixels == RECIPE.pixels


def test_the_command_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["nobody"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no zoo:nobody; there are ")
    assert error.count("\n") == 1


# --- augmentation ---

IMAGES = RNG.integers(0, 256, (400, 5, 7, 3)).astype(np.uint8)


def test_images_stay_as_they_are_without_shift_and_mirror() -> None:
    assert np.array_equal(augmented(IMAGES, 0, False, np.random.default_rng(0)), IMAGES)


def test_mirrored_images_are_half_of_them() -> None:
    made = augmented(IMAGES, 0, True, np.random.default_rng(0))
    same = (made == IMAGES).all(axis=(1, 2, 3))
    assert np.array_equal(made[~same], IMAGES[~same][:, :, ::-1])
    assert 140 < same.sum() < 260


def test_shifted_images_are_windows_of_the_reflected_image_in_every_position() -> None:
    made = augmented(IMAGES, 2, False, np.random.default_rng(0))
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    counts = np.zeros((5, 5), int)
    for image, wide in zip(made, padded, strict=True):
        hits = [(r, c) for r in range(5) for c in range(5) if np.array_equal(wide[r : r + 5, c : c + 7], image)]
        assert hits
        counts[hits[0]] += 1
    assert counts.min() > 0
