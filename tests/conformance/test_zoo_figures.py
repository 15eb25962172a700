"""What the networks of the zoo reach: accuracy, flatbuffer, hardening, size, and the same bits on a Cortex-M4."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters import lce, lce_interpreter
from zobnn_edge import datasets, zoo
from zobnn_edge.datasets import Dataset
from zobnn_edge.engine import Engine
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy
from zobnn_edge.targets import open_target

pytestmark = [
    pytest.mark.study,
    pytest.mark.needs_data,
]

ACCURACIES = {
    "fracbnn_cifar10": (88.51, 88.61),
    "cnv_cifar10": (79.52, 79.52),
    "resnet8": (87.19, 87.19),
    "dscnn": (91.3, 91.3),
    "dscnn_hybrid": (90.5, 90.5),
    "mnist_bnn": (98.5, 100),
    "cifar10_bnn": (82, 100),
}
"""Least and most percent of the whole test set: as published, or as asked of the project's own."""

HARDENED_BYTES = {"mnist_bnn": 25_000, "cifar10_bnn": 100_000}


@cache
def data(name: str) -> Dataset:
    return datasets.load(zoo.dataset(name))


@cache
def scores(name: str, bits: int | None = None) -> np.ndarray:
    """Scores of the host engine on the whole test set, as trained or hardened."""
    deployed = Model.of(variant(name, bits))
    return Engine(deployed.plan).run(deployed.image.data, data(name).x)


def variant(name: str, bits: int | None) -> Network:
    return harden(zoo.load(name), Policy(bits)) if bits else zoo.load(name)


def accuracy(name: str, made: np.ndarray) -> float:
    """Percent, to two places."""
    return round(100 * float((made.argmax(1) == data(name).y).mean()), 2)


@pytest.mark.parametrize("name", ACCURACIES)
def test_accuracy(name: str) -> None:
    low, high = ACCURACIES[name]
    measured = accuracy(name, scores(name))
    print(f"\n{name}: {measured:.2f} % of {len(data(name)):,} in the host engine")
    assert low <= measured <= high


@pytest.mark.parametrize("name", ACCURACIES)
def test_hardening_loses_little(name: str) -> None:
    """8-bit codes lose at most 0.3 points, 12-bit codes at most 0.1."""
    whole, eight, twelve = (accuracy(name, scores(name, bits)) for bits in (None, 8, 12))
    print(f"\n{name}: float32 {whole:.2f} %, 12 bits {twelve:.2f} %, 8 bits {eight:.2f} %")
    assert eight >= whole - 0.3 - 1e-9
    assert twelve >= whole - 0.1 - 1e-9


@pytest.mark.parametrize("name", HARDENED_BYTES)
def test_the_projects_own_are_small(name: str) -> None:
    model = Model.of(variant(name, 8))
    print(f"\n{name}: {len(model.image.data):,} bytes of parameters, arena {model.arena_bytes:,} bytes")
    assert len(model.image.data) < HARDENED_BYTES[name]
    assert model.arena_bytes < 128 * 1024


@pytest.mark.parametrize(("name", "same"), [("fracbnn_cifar10", 9995), ("cnv_cifar10", 10_000)])
def test_the_flatbuffer_decides_alike(name: str, same: int) -> None:
    """In LCE's interpreter, on the whole test set."""
    net = zoo.load(name)
    theirs = lce_interpreter.run(lce.write(net), net.pixels.apply(data(name).x), exact=False)
    agree = int((theirs.argmax(1) == scores(name).argmax(1)).sum())
    print(f"\n{name}: {accuracy(name, theirs):.2f} % in LCE's interpreter, the same class on {agree:,}")
    low, high = ACCURACIES[name]
    assert low <= accuracy(name, theirs) <= high
    assert agree >= same


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("name", [*ACCURACIES, "resnet8_int8", "dscnn_int8"])
def test_an_emulated_cortex_m4_gives_the_host_engines_scores(name: str, bits: int | None) -> None:
    model = Model.of(variant(name, bits))
    x = datasets.load(zoo.dataset(name), limit=50).x
    expected = Engine(model.plan).run(model.image.data, x)
    with open_target("qemu:mps2-an386", model) as target:
        target.put_inputs(x)
        made = target.run().scores
    same = int((made.view("u4") == expected.view("u4")).all(1).sum())
    print(f"\n{name}, {bits or 32} bits: bit-identical on {same} of {len(x)}")
    assert made.tobytes() == expected.tobytes()
