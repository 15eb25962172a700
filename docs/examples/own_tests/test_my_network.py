"""Tests of a network of one's own, the same on the host, on an emulated board and on a real one.

pytest
pytest --zobnn-target qemu:mps2-an386
pytest --zobnn-target host --zobnn-target qemu:microbit --zobnn-target serial:/dev/ttyACM0 -n 3
"""

import numpy as np
import pytest

from zobnn_edge import reference
from zobnn_edge.encoding import Binary, Float32
from zobnn_edge.harden import harden
from zobnn_edge.network import Builder, Pixels
from zobnn_edge.operations import Affine, Conv, Sign


@pytest.fixture(scope="session")
def network():
    """Two binary layers over 8x8 pixels. In a project of your own: `zobnn_edge.zoo`, `converters`, or a .zob file."""
    rng = np.random.default_rng(1)
    b = Builder("mine", (8, 8, 1), Pixels(1 / 8, -1.0))
    w1 = b.parameter("first/weight", "first", "weight", rng.choice([-1.0, 1.0], (16, 3, 3, 1)), Binary())
    x = b.add(Conv("first", b.input, "first", w1, (2, 2), "valid"))
    scale = b.parameter("norm/scale", "norm", "scale", rng.uniform(0.5, 2, 16), Float32())
    bias = b.parameter("norm/bias", "norm", "bias", rng.normal(size=16), Float32())
    x = b.add(Sign("sign", b.add(Affine("norm", x, "norm", scale, bias)), "sign"))
    w2 = b.parameter("last/weight", "last", "weight", rng.choice([-1.0, 1.0], (10, 3, 3, 16)), Binary(row=16))
    return b.network(b.add(Conv("last", x, "last", w2)))


@pytest.fixture(scope="session")
def digits():
    return np.random.default_rng(2).integers(0, 17, (8, 8, 8, 1)).astype(np.uint8)


def test_scores_are_those_of_the_reference(board, network, digits):
    target = board(network)
    target.put_inputs(digits)
    assert target.run().scores.tobytes() == reference.run(network, digits).tobytes()


def test_flipped_signs_of_scales_change_it_and_restore_brings_it_back(board, network, digits):
    target = board(network)
    target.put_inputs(digits)
    intact = target.run().scores
    scale = target.model.image.region("norm/scale")
    target.flip([scale.first_bit + 32 * k + 31 for k in range(16)])
    assert not np.array_equal(target.run().scores, intact)
    target.restore()
    assert np.array_equal(target.run().scores, intact)


def test_hardened_it_keeps_most_of_its_answers_under_faults(board, network, digits):
    target = board(harden(network))
    target.put_inputs(digits)
    intact = target.run().scores.argmax(1)
    kept = []
    for seed in range(10):
        target.inject(1e-3, seed)
        kept.append(np.mean(target.run().scores.argmax(1) == intact))
        target.restore()
    assert np.mean(kept) > 0.8


def test_it_is_fast_enough(board, network, digits):
    target = board(network)
    target.put_inputs(digits[:1])
    count = target.run().instructions
    if count is None:
        pytest.skip("nothing is counted here")
    assert count < 100_000
