"""LCE flatbuffers: bits flipped in the file and in the image of parameters have the same effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from tests.conformance.lce_checks import BITS, CHANNELS, assert_close, every_dot, interpreted, pointwise
from tests.networks import NETWORKS, WRITTEN, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.encoding import Float32, unpack
from zobnn_edge.errors import InputError
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Network
from zobnn_edge.operations import Add, Affine, Conv, Sign, Unpack

pytestmark = interpreted


def coded_networks() -> list[str]:
    """Those whose flips stay finite; of flipped floats a sum may overflow in one order and not in another."""
    return [name for name in WRITTEN if not name.endswith("float32")]


@pytest.mark.parametrize("name", coded_networks())
@pytest.mark.parametrize("rate", [0.001, 0.02])
def test_the_same_flips_in_file_and_image_give_the_same_scores(name: str, rate: float) -> None:
    net = NETWORKS[name]()
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 4)
    rng = np.random.default_rng(5)
    for _ in range(4):
        flips = [first + int(i) for first, bits in image.ranges() for i in np.flatnonzero(rng.random(bits) < rate)]
        flipped = image.flipped(flips)
        damaged = lce.flip(blob, image, flips)
        for region in image.regions:
            stored = lce.read_codes(damaged, region.name)
            if region.encoding.bits == 1:
                bits = np.unpackbits(np.frombuffer(flipped.raw(region.name), np.uint8), bitorder="little")
                np.testing.assert_array_equal(stored[: bits.size], bits)
            else:
                codes = unpack(flipped.raw(region.name), region.encoding, region.count)
                np.testing.assert_array_equal(stored, codes)
        assert lce.flip(damaged, image, flips) == blob
        assert_close(lce_interpreter.run(damaged, x), reference.run(net, x, flipped))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), CHANNELS, BITS, st.data())
def test_any_single_flip_in_a_hardened_network_is_bit_identical(
    seed: int, channels: int, bits: int, data: st.DataObject
) -> None:
    a = Author((4, 4, 2), seed)
    a.conv(channels, 2).threshold(bits).conv(5, 2, padding="same", pad_value=1).threshold(bits)
    net = a.dense(3).affine(bits).network()
    image, x = ParameterImage.of(net), dyadic_inputs(net, 3, seed)
    name = data.draw(st.sampled_from([region.name for region in image.regions]))
    ((first, count),) = image.ranges([name])
    flips = [first + data.draw(st.integers(0, count - 1))]
    damaged = lce.flip(lce.write(net), image, flips)
    np.testing.assert_array_equal(lce_interpreter.run(damaged, x), reference.run(net, x, image.flipped(flips)))


def test_flips_in_weights_negated_by_folding_are_bit_identical() -> None:
    a = Author((4, 4, 33), 3)
    net = a.sign().conv(32, 3).affine(None).sign().dense(5).network()
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 6)
    weight = next(iter(net.parameters.values()))
    assert lce.parameter_offsets(blob)[weight.name].negated
    flips = [image.address(weight.name, tuple(i % n for n in weight.shape), 0) for i in range(40)]
    scores = reference.run(net, x, image.flipped(flips))
    assert not np.array_equal(scores, reference.run(net, x))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(blob, image, flips), x), scores)
    with pytest.raises(InputError, match="conv2/weight, row padding: no counterpart"):
        lce.flip(blob, image, [image.region(weight.name).first_bit + 33])
    with pytest.raises(InputError, match="conv2/weight is stored with the channels negated"):
        lce.read_codes(blob, weight.name)


def test_bits_that_fill_up_rows_count_behind_a_folded_batch_norm_too() -> None:
    b, dot = pointwise(33, 3)
    b.parameter("conv/bias", "conv", "bias", np.array([-31.0, 1.0, 35.5]), Float32())
    signs = b.add(Sign("sign2", b.add(Affine("affine", dot, "affine", None, "conv/bias")), "signs"))
    net = b.network(b.add(Unpack("unpack", signs, "y")))
    image, x = ParameterImage.of(net), every_dot(33)
    flips = [64 * row + 33 + bit for row in range(3) for bit in range(4)]
    scores = reference.run(net, x, image.flipped(flips))
    assert not np.array_equal(scores, reference.run(net, x))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(lce.write(net), image, flips), x), scores)


def test_bits_that_fill_up_rows_count_as_they_do_in_the_engine() -> None:
    a = Author((4, 4, 33), 3)
    net = a.sign().conv(8, 3, padding="same", pad_value=1).threshold(8).dense(5).affine(8).network()
    image, x = ParameterImage.of(net), dyadic_inputs(net, 6)
    first = image.region("conv2/weight").first_bit
    flips = [first + 64 * row + 33 + row % 31 for row in range(72)]
    damaged = lce.flip(lce.write(net), image, flips)
    np.testing.assert_array_equal(lce_interpreter.run(damaged, x), reference.run(net, x, image.flipped(flips)))


def shared_weight() -> Network:
    """Two convolutions with one weight, followed by batch norms of opposite sign; thresholds shared by two kernels."""
    b, dot = pointwise(32, 32)
    b.parameter("a/scale", "a", "scale", np.ones(32), Float32())
    b.parameter("b/scale", "b", "scale", -np.ones(32), Float32())
    left = b.add(Sign("sign a", b.add(Affine("a", dot, "a", "a/scale")), "left"))
    right = b.add(Conv("conv b", left, "dot b", "conv/weight"))
    signs = b.add(Sign("sign b", b.add(Affine("b", right, "b", "b/scale")), "right"))
    return b.network(b.add(Unpack("unpack", signs, "y")))


def test_a_weight_of_two_layers_flips_in_both() -> None:
    net = shared_weight()
    blob, image, x = lce.write(net), ParameterImage.of(net), every_dot(32)
    assert len(lce.parameter_offsets(blob)["conv/weight"].offsets) == 2
    flips = [image.address("conv/weight", (i, 0, 0, (7 * i) % 32), 0) for i in range(32)]
    np.testing.assert_array_equal(
        lce_interpreter.run(lce.flip(blob, image, flips), x), reference.run(net, x, image.flipped(flips))
    )


def test_two_convolutions_with_one_kernel_share_its_bits() -> None:
    """As precision gating does: once on the signs, once on other bits of the same activations."""
    a = Author((5, 5, 32), 7)
    stem, weight = a.x, "conv2/weight"
    high = a.sign().conv(8, 3, padding="same").x
    a.x = stem
    low = a.affine(None).sign().x
    both = a.b.add(Conv("low", low, "low", weight, padding="same"))
    net = a.b.network(a.b.add(Add("sum", high, "sum", both)))
    blob, image, x = lce.write(net), ParameterImage.of(net), dyadic_inputs(net, 4)
    assert len(lce.parameter_offsets(blob)[weight].offsets) == 1
    assert blob.count(image.raw(weight)) == 1
    flips = [image.address(weight, (i, 1, 2, 5 * i % 32), 0) for i in range(8)]
    scores = reference.run(net, x, image.flipped(flips))
    np.testing.assert_array_equal(lce_interpreter.run(lce.flip(blob, image, flips), x), scores)
