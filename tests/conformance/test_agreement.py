"""The same network everywhere: reference, emulated boards and the LCE interpreter, also under faults.

Every test network, 200 inputs, and 100 fault sets: bit-identical scores on the boards; in LCE the same classes and
scores within 1e-5, with the same bits flipped in the flatbuffer as in the image. On all boards but two that is a study,
since it takes a build for each network and board; some networks run there in every test.
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
from zobnn_edge.errors import ToolError
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.targets import open_target

INPUTS, FAULT_SETS, FAULTY_INPUTS = 200, 100, 3
RATES = (1e-4, 1e-3, 1e-2)
EMULATED = [name for name, board in boards().items() if board.emulator]
ALWAYS = ("mps2-an386", "netduinoplus2")
SMALL = ("microbit", "nrf51-dk", "stm32vldiscovery")
OTHERS = ["native", *(name for name in EMULATED if name not in ALWAYS)]


def fault_sets(image: ParameterImage, count: int = FAULT_SETS) -> Iterator[tuple[float, int, ParameterImage]]:
    """(rate, seed, image with the bits flipped)."""
    for seed in range(count):
        rate = RATES[seed % len(RATES)]
        yield rate, seed, image.flipped(fault_set(len(image.data), image.ranges(), rate, seed).tolist())


@pytest.mark.parametrize("board", [*ALWAYS, *(pytest.param(name, marks=pytest.mark.study) for name in OTHERS)])
@pytest.mark.parametrize("name", NETWORKS)
def test_boards(name: str, board: str) -> None:
    try:
        assert_board_agrees(board, Model.of(NETWORKS[name]()), INPUTS, FAULT_SETS)
    except ToolError as error:
        if board not in SMALL:
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("board", [name for name in OTHERS if name not in SMALL])
@pytest.mark.parametrize("name", ["residual-hardened-12", "gated-float32", "integer"])
def test_other_boards_on_few_inputs(name: str, board: str) -> None:
    assert_board_agrees(board, Model.of(NETWORKS[name]()), 5, 6)


SMALL_CODE = ("residual-hardened-12", "thresholds-hardened-8", "two_bits-hardened-8", "bytes_in-hardened-8")
REST = (pytest.param(name, marks=pytest.mark.study) for name in NETWORKS if name not in SMALL_CODE)


@pytest.mark.parametrize("name", [*SMALL_CODE, *REST])
def test_boards_where_size_is_preferred(name: str) -> None:
    assert_board_agrees("mps2-an386", Model.of(NETWORKS[name](), prefer="size"), 20, 12)


def assert_board_agrees(board: str, model: Model, inputs: int, faults: int) -> None:
    """Scores of so many inputs, and of a few of them under so many fault sets, are the bits of the reference's."""
    x = dyadic_inputs(model.network, inputs)
    with open_target("native" if board == "native" else f"qemu:{board}", model) as target:
        assert target.read() == model.image.data
        target.put_inputs(x)
        np.testing.assert_array_equal(target.run().scores.view("u4"), reference.run(model.network, x).view("u4"))
        few = x[:FAULTY_INPUTS]
        target.put_inputs(few)
        for rate, seed, image in fault_sets(model.image, faults):
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
