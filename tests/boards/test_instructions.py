"""What first layers over bytes cost on a Cortex-M4: exact counts of an emulated core, printed (pytest -s)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.networks import Author
from zobnn_edge import reference
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels
from zobnn_edge.operations import Conv
from zobnn_edge.targets import open_target
from zobnn_edge.tensor import Quantization


def of_codes() -> Network:
    """The zoo's SmallCifar: 5x5, 32 filters of 8-bit codes, slopes and batch norm before the sign."""
    a = Author((32, 32, 3), 1, Pixels(1 / 64, -2.0)).conv(32, 5, padding="same", weight=None).prelu().affine().sign()
    return harden(a.dense(1).network())


def of_signs() -> Network:
    """CNV: 3x3, 64 filters of one bit, thresholds."""
    a = (
        Author((32, 32, 3), 1, Pixels(float(np.float32(2 / 255)), -1.0), Quantization(1 / 128, 0))
        .conv(64, 3)
        .threshold(None, 1.0)
    )
    return a.dense(1).network()


@pytest.mark.parametrize(("make", "most"), [(of_codes, 1.20), (of_signs, 1.46)])
def test_instructions_a_product(make, most: float) -> None:
    """Whole inferences; the dense layer behind takes about 50,000."""
    net = make()
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    with open_target("qemu:mps2-an386", Model.of(net)) as target:
        target.put_inputs(x)
        result = target.run()
    np.testing.assert_array_equal(result.scores.view("u4"), reference.run(net, x).view("u4"))
    first = next(op for op in net.ops if isinstance(op, Conv))
    ratio = result.instructions / net.macs(first)
    print(f"\n{make.__name__}: {result.instructions:,} instructions, {net.macs(first):,} products: {ratio:.3f}")
    assert ratio < most
