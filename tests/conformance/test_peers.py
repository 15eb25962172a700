"""The PyTorch module that fault injectors are measured on is FracBNN; they invert as many of its weights as told."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from zobnn_edge import datasets, reference, zoo

pytest.importorskip("torch")

import torch

from tools.peers import Mrfi, Plain, PyTorchFi, trained

pytestmark = pytest.mark.needs_data
RATE = 1e-2
INJECTORS = [
    pytest.param(injector, marks=pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"no {module}"))
    for injector, module in ((Mrfi, "mrfi"), (PyTorchFi, "pytorchfi"))
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several that wait for each other take minutes where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def kernels(module: torch.nn.Module) -> np.ndarray:
    """All binary weights of a module."""
    convolutions = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    return np.concatenate([c.weight.numpy(force=True).ravel() for c in convolutions])


def test_the_module_is_the_network() -> None:
    net, x = zoo.load("fracbnn_cifar10"), datasets.load("cifar10", limit=200).x
    expected, scores = reference.run(net, x), Plain(x).trial(0)
    assert np.mean(scores.argmax(axis=1) == expected.argmax(axis=1)) >= 0.99
    assert np.isclose(scores, expected, rtol=1e-4, atol=1e-4).all(axis=1).mean() > 0.9


@pytest.mark.parametrize("injector", INJECTORS)
def test_injectors_invert_other_weights_every_trial(injector: type[Plain]) -> None:
    peer, golden = injector(datasets.load("cifar10", limit=4).x), kernels(trained())
    assert set(golden) == {-1, 1}
    places = []
    for _ in range(2):
        peer.trial(RATE)
        faulty = kernels(peer.faulty)
        places.append(np.flatnonzero(faulty != golden))
        assert np.array_equal(faulty[places[-1]], -golden[places[-1]])
        assert len(places[-1]) == pytest.approx(RATE * golden.size, rel=0.1)
    assert len(np.intersect1d(*places)) < 100
    peer.trial(0)
    assert np.array_equal(kernels(peer.faulty), golden)


@pytest.mark.parametrize("injector", INJECTORS)
def test_the_faults_of_a_trial_are_those_of_all_its_batches(injector: type[Plain]) -> None:
    x = datasets.load("cifar10", limit=4).x
    peer = injector(x)
    peer.draw(RATE)
    assert np.allclose(peer.run(x)[2:], peer.run(x[2:]), rtol=1e-4, atol=1e-4)
