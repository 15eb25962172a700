"""Networks by name: what `zoo:NAME` stands for on the command line. They come from three places:

- the project's own trained weights, which come with the package (`weights`), or a training (`RECIPES`), whose result is
  kept in the cache folder;
- networks that others trained and published (`PUBLISHED`), from the folder that ZOBNN_DATA names.

Most need the extra `larq`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.larq import import_keras
from converters.tflite import import_tflite
from zobnn_edge import __version__, datasets, model_file
from zobnn_edge.errors import InputError, ZobnnError
from zobnn_edge.network import Network, Pixels
from zobnn_edge.zoo import cnv, dorefa, fracbnn, micro, mlperf, models, weights
from zobnn_edge.zoo.training import Progress, Recipe, check_seed


def _cifar10(build: Callable[[], Any], epochs: int = 100) -> Recipe:
    """A recipe for CIFAR-10: some hours on a CPU."""
    return Recipe(
        build,
        "cifar10",
        models.CIFAR10_PIXELS,
        epochs,
        batch=128,
        rate=2e-3,
        decay=True,
        shift=2,
        mirror=True,
        minutes=False,
    )


def _probable(build: Callable[[], Any]) -> Callable[[], Any]:
    """A builder of the same network with a softmax behind its scores, as training needs it."""
    return lambda: models.with_softmax(build())


RECIPES = {
    "digits": Recipe(models.larq_digits, "digits", models.DIGITS_PIXELS, epochs=40),
    "mnist_tutorial": Recipe(models.mnist_tutorial, "mnist", models.MNIST_PIXELS, epochs=6),
    "mnist_bnn": Recipe(models.mnist_bnn, "mnist", models.MNIST_PIXELS, epochs=20, batch=128, rate=3e-3, decay=True),
    "cifar10_bnn": _cifar10(models.cifar10_bnn),
    "small_cifar": _cifar10(micro.small_cifar),
    "binarynet_micro": _cifar10(micro.binarynet_micro),
    "birealnet_micro": _cifar10(micro.birealnet_micro),
    "quicknet_micro": _cifar10(micro.quicknet_micro),
    "dorefanet_cifar10": _cifar10(dorefa.dorefanet_cifar10),
    "fracbnn_cifar10": replace(_cifar10(_probable(fracbnn.fracbnn_cifar10)), pixels=Pixels()),
    "cnv_cifar10": replace(_cifar10(_probable(cnv.cnv_keras)), pixels=cnv.PIXELS),
    "resnet8": replace(_cifar10(mlperf.resnet8), pixels=Pixels()),
}
"""Also of networks that others trained, to train them anew: `zoo:NAME` stays theirs, other seeds are one's own."""


@dataclass(frozen=True)
class Published:
    """A network that others trained: what data set it is for, and how to get it: as a network, as a Keras model, or
    from a TFLite file."""

    dataset: str
    pixels: Pixels
    keras: Callable[[], Any] | None = None
    network: Callable[[], Network] | None = None
    file: str | None = None

    def path(self) -> Path:
        """The TFLite file, in the folder that ZOBNN_DATA names."""
        assert self.file is not None
        return datasets.published(self.file)

    def load(self, name: str) -> Network:
        """The network; raises ZobnnError when it cannot be had."""
        if self.file is not None:
            return import_tflite(self.path(), name, self.pixels)
        if self.network is not None:
            return self.network()
        assert self.keras is not None
        return import_keras(self.keras(), name, self.pixels)


PUBLISHED = {
    "fracbnn_cifar10": Published("cifar10", Pixels(), keras=fracbnn.load_cifar10),
    "cnv_cifar10": Published("cifar10", cnv.PIXELS, keras=cnv.load_keras, network=cnv.load),
    "resnet8": Published("cifar10", Pixels(), keras=mlperf.load_resnet8),
    "resnet8_int8": Published("cifar10", Pixels(), file="mlperf_tiny/ic_resnet8_int8.tflite"),
    "dscnn": Published("kws", mlperf.DSCNN_PIXELS, keras=mlperf.load_dscnn),
    "dscnn_hybrid": Published("kws", mlperf.DSCNN_PIXELS, file="mlperf_tiny/kws_dscnn_float.tflite"),
    "dscnn_int8": Published("kws", mlperf.DSCNN_PIXELS, file="mlperf_tiny/kws_dscnn_int8.tflite"),
}


def names() -> list[str]:
    """Every network there is."""
    return [*dict.fromkeys((*RECIPES, *PUBLISHED))]


def recipe(name: str) -> Recipe:
    """The recipe of a network; raises InputError when there is none of that name."""
    if name in PUBLISHED and name not in RECIPES:
        raise InputError(f"zoo:{name} was trained by others; there is no recipe for it here")
    if name not in RECIPES:
        raise InputError(f"there is no zoo:{name}; there are {', '.join(f'zoo:{n}' for n in names())}")
    return RECIPES[name]


def dataset(name: str) -> str:
    """The data set that a network was trained for."""
    return PUBLISHED[name].dataset if name in PUBLISHED else recipe(name).dataset


def keras_model(name: str) -> Any:
    """The trained Keras model; None when there is none at hand (it became a network elsewhere, or is not trained)."""
    if name in PUBLISHED:
        make = PUBLISHED[name].keras
        return make() if make else None
    model = recipe(name).build
    return weights.load_shipped(model(), name) if weights.shipped(name) else None


def load(name: str, seed: int = 0, progress: Progress | None = None) -> Network:
    """The trained network; raises ZobnnError when it cannot be had.

    One that takes minutes to train is trained on first use. `seed`: what training starts from, 0 to 2^32 - 1; only
    seed 0 comes with the package or from others. `progress`: called after each epoch of training.
    """
    if name in PUBLISHED and (seed == 0 or name not in RECIPES):
        return PUBLISHED[name].load(name)
    path = cached(name, seed)
    if seed == 0 and weights.shipped(name):
        return import_keras(keras_model(name), name, recipe(name).pixels)
    try:
        return model_file.load(path).network
    except ZobnnError:  # not trained yet, or kept by a version with another file format
        if not recipe(name).minutes:
            raise InputError(
                f"zoo:{name} is not trained yet, which takes hours; run python -m zobnn_edge.zoo.train {name}"
            ) from None
        return keep(name, seed, recipe(name).train(seed, progress=progress))


def keep(name: str, seed: int, model: Any) -> Network:
    """Import a trained Keras model and keep it in the cache as the network of that name."""
    path = cached(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    return model_file.save(import_keras(model, name, recipe(name).pixels), path).network


def cached(name: str, seed: int = 0) -> Path:
    """Where a trained network is kept; the file is there once it was trained."""
    recipe(name)
    check_seed(seed)
    return datasets.cache_folder() / "zoo" / f"{name}-{seed}-{__version__}.zob"
