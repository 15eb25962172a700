"""The float emulations that campaigns are measured beside are the same network, with and without faults."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from tests import networks
from tools.emulation import Emulation, PyTorch, TensorFlow, fastest
from zobnn_edge import datasets, reference, zoo
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Network

LIBRARIES = [
    pytest.param(emulated, marks=pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"no {module}"))
    for emulated, module in ((TensorFlow, "tensorflow"), (PyTorch, "torch"))
]


def mixed() -> Network:
    """Borders that differ from side to side, of zeros and of ones; both pools; slopes of elements; concatenation."""
    a = networks.Author((8, 8, 3)).conv(16, 3, 2, "same", weight=None).affine().prelu(by_element=True)
    left = a.x
    a.sign().conv(16, 3, padding="same", pad_value=1).affine().add(left).clip(-9, 9).concat(left)
    return a.max_pool().sign().conv(8, 2, padding="same", pad_value=1).average_pool().dense(5, None).network()


@pytest.mark.parametrize("emulated", LIBRARIES)
@pytest.mark.parametrize("make", [networks.binary_chain, networks.two_bits, mixed])
def test_emulations_compute_the_network(make: Callable[[], Network], emulated: type[Emulation]) -> None:
    net = make()
    image, x = ParameterImage.of(net), networks.dyadic_inputs(net, 60)
    emulation = emulated(net)
    scores = emulation.run(x)
    assert_close(scores, reference.run(net, x))
    addresses = np.random.default_rng(0).choice(8 * len(image.data), 12, replace=False).tolist()
    faulty = image.flipped([a for a in addresses if "padding" not in str(image.locate(a))])
    emulation.put(faulty)
    assert_close(emulation.run(x), reference.run(net, x, faulty))
    emulation.put(image)
    assert np.array_equal(emulation.run(x), scores)


def test_the_fastest_way_keeps_the_order_of_inputs() -> None:
    def slow(x: np.ndarray) -> np.ndarray:
        return np.linalg.matrix_power(np.eye(300), 99)[0, : len(x)]

    x = np.arange(100, dtype=np.float32)
    assert np.array_equal(fastest([slow, np.negative], x)(x), -x)


@pytest.mark.needs_data
@pytest.mark.parametrize("emulated", LIBRARIES)
@pytest.mark.parametrize("name", ["fracbnn_cifar10", "cnv_cifar10"])
def test_published_networks(name: str, emulated: type[Emulation]) -> None:
    net, x = zoo.load(name), datasets.load(zoo.dataset(name), limit=16).x
    assert_close(emulated(net).run(x), reference.run(net, x))


def assert_close(scores: np.ndarray, expected: np.ndarray) -> None:
    """Of nearly all images: a sum in another order may fall on the other side of a threshold."""
    close = np.isclose(scores, expected, rtol=1e-4, atol=1e-4, equal_nan=True).all(axis=1)
    assert close.mean() > 0.9
