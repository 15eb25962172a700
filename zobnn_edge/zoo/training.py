"""Training: recipes, and one loop that can be stopped at any time and goes on where it was.

TensorFlow is imported when training begins.
"""

from __future__ import annotations

import csv
import io
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.larq import keras
from zobnn_edge import datasets
from zobnn_edge.datasets import Dataset
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes, write_atomic
from zobnn_edge.network import Pixels

Progress = Callable[[int, int, float], None]
"""Called after each epoch with its number (from 1), the number of epochs and the training accuracy (0..1)."""

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """How a network of the zoo is made: its Keras model, the data set, and how it is trained on that with Adam.

    `build`: the untrained model. `batch`: images a step. `rate`: the learning rate; with `decay` it falls linearly
    from that, to reach zero after the last step. `shift`: images are moved by up to so many pixels in each direction,
    and `mirror`ed half of the time, anew in each epoch. `minutes`: it takes some minutes on a CPU, not hours.
    """

    build: Callable[[], Any]
    dataset: str
    pixels: Pixels
    epochs: int
    batch: int = 64
    rate: float = 1e-3
    decay: bool = False
    shift: int = 0
    mirror: bool = False
    minutes: bool = True

    def train(
        self, seed: int = 0, epochs: int | None = None, progress: Progress | None = None, folder: Path | None = None
    ) -> Any:
        """The trained Keras model.

        `epochs`: by default the recipe's. `progress`: called after each epoch. `folder`: where a checkpoint and the
        log are kept after each epoch, and where training goes on from when they are there; the test accuracy is
        measured for the log only.
        """
        check_seed(seed)
        epochs = epochs or self.epochs
        data = datasets.load(self.dataset, "train")
        run = _Run(self, seed, epochs, len(data))
        done = run.restore(folder) if folder else []
        test = datasets.load(self.dataset, "test") if folder else None
        for epoch in range(len(done), epochs):
            row = run.epoch(epoch, data, test)
            done.append(row)
            if folder:
                run.keep(folder, done)
            if progress:
                progress(epoch + 1, epochs, row.accuracy)
        return run.model


@dataclass(frozen=True)
class Row:
    """One line of the log: an epoch, how long it took, and what came of it. Accuracies are 0..1."""

    epoch: int
    seconds: float
    learning_rate: float
    loss: float
    accuracy: float
    test_accuracy: float | None


class _Run:
    """One training in progress: model, optimizer and their checkpoint."""

    def __init__(self, recipe: Recipe, seed: int, epochs: int, images: int) -> None:
        tf, _ = keras()
        seed_everything(seed)
        self.recipe, self.seed = recipe, seed
        self.model = recipe.build()
        steps = epochs * -(-images // recipe.batch)
        rate = tf.keras.optimizers.schedules.PolynomialDecay(recipe.rate, steps, 0.0) if recipe.decay else recipe.rate
        self.optimizer = tf.keras.optimizers.Adam(rate)
        self.model.compile(self.optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)

    def epoch(self, number: int, data: Dataset, test: Dataset | None) -> Row:
        """Train epoch `number` (from 0), in an order and with shifts that follow from it and the seed alone."""
        start = time.monotonic()
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(data))
        images = augmented(np.asarray(data.x[order]), self.recipe.shift, self.recipe.mirror, rng)
        pixels = self.recipe.pixels
        fit = self.model.fit(
            pixels.apply(images), data.y[order], batch_size=self.recipe.batch, shuffle=False, verbose=0
        )
        accuracy = None
        if test:
            scores = self.model.predict(pixels.apply(test.x), batch_size=EVALUATION_BATCH, verbose=0)
            accuracy = float((scores.argmax(axis=1) == test.y).mean())
        rate = float(self.optimizer.learning_rate.numpy())
        loss, train = fit.history["loss"][0], fit.history["accuracy"][0]
        return Row(number + 1, round(time.monotonic() - start, 1), rate, loss, train, accuracy)

    def keep(self, folder: Path, rows: list[Row]) -> None:
        """Write the checkpoint of the last row's epoch, then the log."""
        self._manager(folder).save(rows[-1].epoch)
        out = io.StringIO()
        writer = csv.DictWriter(out, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
        write_atomic(folder / "log.csv", out.getvalue())

    def restore(self, folder: Path) -> list[Row]:
        """Go back to the last checkpoint in the folder; returns the log's rows up to it, [] when there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        latest = self._manager(folder).latest_checkpoint
        if latest is None:
            return []
        self.checkpoint.restore(latest).expect_partial()  # the optimizer's slots are made by its first step
        return _rows(folder / "log.csv")[: int(latest.rsplit("-", 1)[1])]

    def _manager(self, folder: Path) -> Any:
        tf, _ = keras()
        return tf.train.CheckpointManager(self.checkpoint, str(folder), max_to_keep=2)


def _rows(log: Path) -> list[Row]:
    try:
        lines = csv.DictReader(io.StringIO(read_bytes(log).decode()))
        return [
            Row(
                int(r["epoch"]),
                *(float(r[k]) for k in ("seconds", "learning_rate", "loss", "accuracy", "test_accuracy")),
            )
            for r in lines
        ]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{log}: not a training log; remove the folder to train anew") from None


def augmented(images: NDArray[np.uint8], shift: int, mirror: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images (N, height, width, channels), each moved by up to `shift` pixels and, with `mirror`, mirrored or not.

    What is moved in from outside is the image's own border, reflected.
    """
    n, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect") if shift else images
    rows = rng.integers(0, 2 * shift + 1, (n, 1)) + np.arange(h)
    columns = rng.integers(0, 2 * shift + 1, (n, 1)) + np.arange(w)
    if mirror:
        columns = np.where(rng.random((n, 1)) < 0.5, columns[:, ::-1], columns)
    moved: NDArray[np.uint8] = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def check_seed(seed: int) -> None:
    """Raise InputError unless training can start from this seed."""
    if not 0 <= seed < 1 << 32:
        raise InputError(f"seed {seed}: training takes seeds from 0 to 2^32 - 1")


def seed_everything(seed: int) -> None:
    """Make what follows repeatable: initial weights, dropout.

    (`tf.keras.utils.set_random_seed` of Keras 2 fails on Python 3.12: it asks `random.randint` for a float.)
    """
    tf, _ = keras()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Keras draws from NumPy's global generator
    tf.random.set_seed(seed)


def folder_of(name: str, seed: int) -> Path:
    """Where the training of a network of the zoo is kept."""
    return datasets.cache_folder() / "training" / f"{name}-{seed}"
