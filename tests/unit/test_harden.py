"""Hardening: thresholds decide as batch norm and sign did; codes and scales are what the policy says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import Author, binary_chain, dyadic_inputs, real, residual
from zobnn_edge import reference
from zobnn_edge.encoding import Binary, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.harden import Policy, fold_thresholds, harden
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels
from zobnn_edge.operations import Affine, Conv, Sign, Threshold


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([1, 31, 32, 33, 64]),
    out=st.sampled_from([1, 7, 32, 33]),
    padding=st.sampled_from([("valid", 0), ("same", 0), ("same", 1)]),
    scale=st.booleans(),
)
def test_folding_is_exact_for_binary_convolutions(seed, channels, out, padding, scale) -> None:
    """Negative and zero scales, ties: every activation stays what it was, and so do the scores, bit for bit."""
    a = Author((5, 5, channels), seed).sign().conv(out, 3, 1, *padding).affine(scale=scale).sign()
    net = a.dense(4).affine().network()
    folded = fold_thresholds(net)
    assert [type(op) for op in folded.ops].count(Threshold) == 1
    assert not any(isinstance(op, Sign) for op in folded.ops[1:])
    x = dyadic_inputs(net, 8, seed)
    np.testing.assert_array_equal(reference.run(folded, x).view("u4"), reference.run(net, x).view("u4"))


def test_eight_bits_lose_nothing_where_thresholds_span_less_than_510() -> None:
    """Thresholds lie between sums, which are 2 apart: codes less than 2 apart decide the same, in a range no wider."""
    a = Author((5, 5, 32), 5).sign().conv(64, 3).affine(scale=False, spread=40.0).sign()
    net = a.unpack().network()
    hardened = harden(net)
    x = dyadic_inputs(net, 20)
    np.testing.assert_array_equal(reference.run(hardened, x), reference.run(net, x))
    threshold = next(p for p in hardened.parameters.values() if p.role == "threshold")
    exact = next(p for p in fold_thresholds(net).parameters.values() if p.role == "threshold").values
    low, high = threshold.encoding.range
    assert high - low == pytest.approx(float(np.ptp(exact)), rel=0.01)
    assert 0 < np.ptp(exact) < 510


@pytest.mark.parametrize("net", [binary_chain(3), residual(3), real(3, None)], ids=["chain", "residual", "real"])
@pytest.mark.parametrize("bits", [2, 8, 12, 16])
def test_everything_real_becomes_codes(net, bits) -> None:
    hardened = harden(net, Policy(bits))
    for p in hardened.parameters.values():
        assert isinstance(p.encoding, Binary) or (isinstance(p.encoding, Uniform) and p.encoding.bits == bits), p.name
    assert ParameterImage.of(hardened).bits < ParameterImage.of(net).bits


def test_sixteen_bits_hardly_change_the_scores() -> None:
    net = residual(3)
    x = dyadic_inputs(net, 50)
    np.testing.assert_allclose(reference.run(harden(net, Policy(16)), x), reference.run(net, x), atol=2e-3)


def test_weight_scales_move_to_where_they_cost_nothing() -> None:
    """Weights of the first and last layer become integers; their scale is in the affine's scale, gain or threshold."""
    net = Author((4, 4, 2), 1).conv(8, 3, weight=None).affine().sign().unpack().dense(3, None).affine(scale=False)
    hardened = harden(net.network())
    for op in hardened.ops:
        if isinstance(op, Conv):
            assert hardened.parameters[op.weight].encoding.scale == 1.0
    affine = next(op for op in hardened.ops if isinstance(op, Affine))
    assert affine.gain != 1.0
    x = dyadic_inputs(net.network(), 30)
    before, after = reference.run(net.network(), x), reference.run(hardened, x)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


def small_cifar(weight: str | None = None) -> Network:
    """Like the zoo's SmallCifar up to its first bits: 5x5 convolution of pixels, slopes, batch norm, sign, pool."""
    a = Author((32, 32, 3), 1, Pixels(1 / 64, -2.0)).conv(32, 5, padding="same", weight=weight).prelu().affine().sign()
    return a.max_pool().dense(10).affine().network()


def test_the_first_layer_of_pixels_works_on_bytes() -> None:
    """Weight scales pass the slopes; scores of pixels are those of a real first layer; working memory is below 8 KB."""
    net = small_cifar()
    bytes_in, floats_in = harden(net), harden(net, Policy(byte_inputs=False))
    assert (bytes_in.tensors["input"].kind, floats_in.tensors["input"].kind) == ("int8", "real")
    x = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(reference.run(bytes_in, x).view("u4"), reference.run(floats_in, x).view("u4"))
    assert Model.of(bytes_in).arena_bytes < 8192
    assert harden(small_cifar("binary")).tensors["input"].kind == "int8"


def test_shared_weights_are_left_in_place() -> None:
    """A kernel that two convolutions use is neither negated nor rescaled for one of them."""
    a = Author((3, 3, 4), 2).sign().conv(4, 1).affine().sign()
    shared = a.b.ops[1]
    a.x = a.b.add(Conv("again", a.x, "again", shared.weight))
    net = a.affine().network()
    assert fold_thresholds(net).parameters.keys() == net.parameters.keys()
    x = dyadic_inputs(net, 20)
    np.testing.assert_array_equal(reference.run(fold_thresholds(net), x), reference.run(net, x))


def test_hardening_again_changes_nothing() -> None:
    once = harden(residual(3))
    assert ParameterImage.of(harden(once)).data == ParameterImage.of(once).data


@pytest.mark.parametrize("bits", [1, 17, 0, -3])
def test_impossible_bits(bits: int) -> None:
    with pytest.raises(InputError, match="a code has 2 to 16"):
        Policy(bits)
