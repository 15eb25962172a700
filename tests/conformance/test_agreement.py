"""The same network everywhere: reference, host engine, both emulated boards and the LCE interpreter, also under faults.

Every test network, 200 inputs, and 100 fault sets: bit-identical scores in the first four; in LCE the same classes and
scores within 1e-5, with the same bits flipped in the flatbuffer as in the image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from converters import lce, lce_interpreter
from tests.networks import NETWORKS, WRITTEN, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.boards import boards
from zobnn_edge.engine import fault_set
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.targets import open_target

INPUTS, FAULT_SETS, FAULTY_INPUTS = 200, 100, 3
RATES = (1e-4, 1e-3, 1e-2)
EMULATED = [name for name, board in boards().items() if board.emulator]


def fault_sets(image: ParameterImage) -> Iterator[tuple[float, int, ParameterImage]]:
    """(rate, seed, image with the bits flipped)."""
    for seed in range(FAULT_SETS):
        rate = RATES[seed % len(RATES)]
        yield rate, seed, image.flipped(fault_set(len(image.data), image.ranges(), rate, seed).tolist())


@pytest.mark.parametrize("board", EMULATED)
@pytest.mark.parametrize("name", NETWORKS)
def test_boards(name: str, board: str) -> None:
    model = Model.of(NETWORKS[name]())
    x = dyadic_inputs(model.network, INPUTS)
    with open_target(f"qemu:{board}", model) as target:
        assert target.read() == model.image.data
        target.put_inputs(x)
        np.testing.assert_array_equal(target.run().scores.view("u4"), reference.run(model.network, x).view("u4"))
        few = x[:FAULTY_INPUTS]
        target.put_inputs(few)
        for rate, seed, image in fault_sets(model.image):
            target.inject(rate, seed)
            scores = target.run().scores
            np.testing.assert_array_equal(scores.view("u4"), reference.run(model.network, few, image).view("u4"))
            assert target.restore() == model.image.crc
        assert target.read() == model.image.data


@pytest.mark.skipif(not lce_interpreter.installed(), reason="larq-compute-engine is not installed")
@pytest.mark.parametrize("name", WRITTEN)
def test_lce(name: str) -> None:
    net = NETWORKS[name]()
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, INPUTS)
    assert_agree(lce_interpreter.run(blob, x), reference.run(net, x))
    if "float32" in name:
        return  # batch norm before sign is folded at export: no one bit of the file stands for one of the image
    for parameter in net.parameters:
        stored = np.unique(lce.read_codes(blob, parameter)).tolist()
        assert stored, parameter
    few = x[:FAULTY_INPUTS]
    for rate, seed, faulty in fault_sets(image):
        addresses = fault_set(len(image.data), image.ranges(), rate, seed).tolist()
        assert_agree(lce_interpreter.run(lce.flip(blob, image, addresses), few), reference.run(net, few, faulty))


def assert_agree(theirs: np.ndarray, ours: np.ndarray) -> None:
    """Scores within 1e-5 relative, and the same class wherever the two best scores are not that close."""
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6 * float(np.abs(ours).max()))
    differ = theirs.argmax(axis=1) != ours.argmax(axis=1)
    assert not differ.any()
