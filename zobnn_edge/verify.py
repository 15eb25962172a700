"""The same network in every place: what each computes on the same images, held against the engine on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters import keras_interpreter, lce, lce_interpreter
from zobnn_edge import reference
from zobnn_edge.campaign.outcome import top1
from zobnn_edge.datasets import Dataset
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.engine import Engine
from zobnn_edge.errors import ZobnnError
from zobnn_edge.faults.statistics import Estimate, proportion
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.targets import open_target

SCORE_TOLERANCE = 1e-5
"""Largest difference of scores, relative to the largest score, that arithmetic in another order may make."""


@dataclass(frozen=True)
class Agreement:
    """One place against the host engine, on `images` images.

    `top1`: how many get the same class; `bits`: how many get bit-identical scores; `difference`: the largest
    difference of a score, relative to the largest score; `accuracy`: in percent, with its interval. Of a place that
    could not be run, `problem` says why and the rest is empty.
    """

    place: str
    images: int
    top1: int
    bits: int
    difference: float
    accuracy: Estimate
    must_be_identical: bool
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Bit-identical where the design says so (reference and boards), else the same classes but for near ties."""
        if self.problem:
            return False
        if self.must_be_identical:
            return self.bits == self.images
        return self.top1 >= self.images - max(1, self.images // 2000) or self.difference <= SCORE_TOLERANCE


@dataclass(frozen=True)
class Place:
    """Somewhere a network runs: its name, how to run it on inputs, how many images it is given."""

    name: str
    run: Callable[[InputArray], FloatArray]
    images: int
    must_be_identical: bool


@dataclass(frozen=True)
class Source:
    """What a network was imported from, to run it as well: a Keras model, or the contents of a TFLite file."""

    keras: Any = None
    tflite: bytes | None = None


def places(model: Model, source: Source, boards: tuple[str, ...], images: int, few: int) -> Iterator[Place]:
    """Every place there is on this machine; the slow ones (reference, boards) get `few` images.

    LCE's interpreter runs the file that the network was imported from, or the one that is written of it; but not of
    networks that compute in 8-bit integers, where its kernels round otherwise than TensorFlow Lite's reference ones.
    """
    engine, net = Engine(model.plan), model.network
    yield Place("host engine", lambda x: engine.run(model.image.data, x), images, True)
    yield Place("NumPy reference", lambda x: reference.run(net, x), few, True)
    for board in boards:
        yield Place(f"qemu:{board}", lambda x, b=board: _on_board(model, b, x), few, True)  # type: ignore[misc]
    blob = source.tflite
    if lce_interpreter.installed() and lce.writable(net):
        yield Place("LCE interpreter", lambda x: lce_interpreter.run(blob or lce.write(net), x), images, False)
    if blob is not None and not lce.writable(net) and keras_interpreter.installed():
        yield Place("TFLite reference", lambda x: keras_interpreter.run(blob, x), images, False)
    if source.keras is not None:
        yield Place("Keras", lambda x: _in_keras(source.keras, net, x), images, False)


def _on_board(model: Model, board: str, x: InputArray) -> FloatArray:
    with open_target(f"qemu:{board}", model) as target:
        target.put_inputs(x)
        return target.run().scores


def _in_keras(keras: Any, net: Network, x: InputArray) -> FloatArray:
    """Keras's scores of inputs rounded as the network's input tensor holds them."""
    scores = keras.predict(reference.as_held(net, x).reshape(-1, *keras.input_shape[1:]), verbose=0)
    return np.asarray(scores, np.float32).reshape(len(x), -1)


def compare(model: Model, data: Dataset, wanted: Iterator[Place]) -> Iterator[Agreement]:
    """Run each place in turn, the host engine first, and hold it against that one."""
    x = data.x if data.x.dtype == np.float32 else model.network.pixels.apply(data.x)
    ours: FloatArray | None = None
    for place in wanted:
        n = min(place.images, len(data))
        try:
            scores = place.run(x[:n])
        except ZobnnError as error:
            yield Agreement(place.name, n, 0, 0, float("nan"), Estimate(0, 0, 0), place.must_be_identical, str(error))
            continue
        ours = scores if ours is None else ours
        yield _agreement(place, ours[:n], scores, data.y[:n])


def _agreement(place: Place, ours: FloatArray, theirs: FloatArray, labels: InputArray) -> Agreement:
    identical = (ours.view(np.uint32) == theirs.view(np.uint32)).all(axis=1)
    largest = max(float(np.abs(ours).max(initial=0)), 1e-30)
    correct, low, high = proportion(int((top1(theirs) == labels).sum()), len(labels))
    return Agreement(
        place.name,
        len(labels),
        int((top1(ours) == top1(theirs)).sum()),
        int(identical.sum()),
        float(np.abs(ours - theirs).max(initial=0)) / largest,
        Estimate(100 * correct, 100 * low, 100 * high),
        place.must_be_identical,
    )
