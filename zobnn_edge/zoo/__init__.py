"""Networks with their training recipes, by name: what `zoo:NAME` stands for on the command line.

A network is trained once (which needs the extra `larq`) and kept in the cache folder as a model file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.larq import import_keras
from zobnn_edge import __version__, datasets, model_file
from zobnn_edge.errors import InputError, ZobnnError
from zobnn_edge.network import Network, Pixels
from zobnn_edge.zoo import models
from zobnn_edge.zoo.models import Progress


@dataclass(frozen=True)
class Recipe:
    """How a network of the zoo is made: `train(seed, epochs, progress)` gives the Keras model."""

    train: Callable[[int, int, Progress | None], Any]
    epochs: int
    dataset: str
    pixels: Pixels


RECIPES = {
    "digits": Recipe(models.train_digits, 40, "digits", models.DIGITS_PIXELS),
    "mnist_tutorial": Recipe(models.train_mnist_tutorial, 6, "mnist", models.MNIST_PIXELS),
}


def recipe(name: str) -> Recipe:
    """The recipe of a network; raises InputError when there is none of that name."""
    if name not in RECIPES:
        raise InputError(f"there is no zoo:{name}; there are {', '.join(f'zoo:{n}' for n in RECIPES)}")
    return RECIPES[name]


def load(name: str, seed: int = 0, progress: Progress | None = None) -> Network:
    """The trained network, from the cache when it was trained before; raises ZobnnError when it cannot be had.

    `seed`: what training starts from, 0 to 2^32 - 1. `progress`: called after each epoch of training.
    """
    path = cached(name, seed)
    try:
        return model_file.load(path).network
    except ZobnnError:  # not trained yet, or kept by a version with another file format
        model = recipe(name).train(seed, recipe(name).epochs, progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        return model_file.save(import_keras(model, name, recipe(name).pixels), path).network


def cached(name: str, seed: int = 0) -> Path:
    """Where a trained network is kept; the file is there once it was trained."""
    recipe(name)
    if not 0 <= seed < 1 << 32:
        raise InputError(f"seed {seed}: training takes seeds from 0 to 2^32 - 1")
    return datasets.cache_folder() / "zoo" / f"{name}-{seed}-{__version__}.zob"
