"""Hardening: thresholds decide as batch norm and sign did; codes and scales are what the policy says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import Author, binary_chain, dyadic_inputs, real, residual
from zobnn_edge import reference
from zobnn_edge.encoding import Binary, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.harden import fold_thresholds, harden
from zobnn_edge.image import ParameterImage
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels, rebuilt
from zobnn_edge.operations import Affine, Conv, PRelu, Sign, Threshold
from zobnn_edge.policy import Policy


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


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_a_factor_that_all_scores_share_vanishes(biased: bool) -> None:
    """Scores keep their order and lose their unit; nothing is multiplied at the end."""
    a = Author((4, 4, 2), 1).sign().conv(8, 3).affine().dense(5, None)
    net = (a.affine(scale=False) if biased else a).network()
    kept, ranked = harden(net), harden(net, Policy(scores="ranked"))
    last, conv = ranked.ops[-1], [op for op in ranked.ops if isinstance(op, Conv)][-1]
    assert last.gain == 1.0 if isinstance(last, Affine) else last is conv
    assert ranked.parameters[conv.weight].encoding.scale == 1.0
    x = dyadic_inputs(net, 30)
    before, after = reference.run(kept, x), reference.run(ranked, x)
    factor = float(np.median(after / before))
    assert factor != pytest.approx(1.0)
    np.testing.assert_allclose(after, before * factor, rtol=1e-4, atol=1e-4 * float(np.abs(after).max()))
    assert ParameterImage.of(harden(kept, Policy(scores="ranked"))).data == ParameterImage.of(kept).data, (
        "the same codes"
    )


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


def test_thresholds_of_binary_sums_move_half_way_and_decide_alike() -> None:
    """A code that is off by less than half a step then changes nothing."""
    a = Author((4, 4, 8), 0).sign().conv(6, 2).threshold(None, 4.0)
    net = a.conv(6, 2, padding="same").threshold(None, 4.0).unpack().network()
    coded = harden(net, Policy(8))
    assert any((p.values % 2 == 0).any() for p in net.parameters.values() if p.role == "threshold"), "some equal sums"
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(reference.run(coded, x), reference.run(net, x))


def test_filters_of_real_weights_get_one_size() -> None:
    """Without it, filters a hundred times smaller than the largest one would be a few codes each."""
    a = Author((6, 6, 3), 4).conv(8, 3, weight=None).affine(spread=0.1)
    net = a.prelu(None).network()
    name = next(n for n in net.parameters if n.endswith("conv1/weight"))
    weight = net.parameters[name]
    sizes = np.float32(10.0) ** -np.arange(8, dtype=np.float32)[:, None, None, None]
    small = replace(weight, values=weight.values * sizes)
    net = rebuilt(net, list(net.ops), {**net.parameters, name: small})
    coded = harden(net, Policy(12)).parameters[name]
    assert (np.abs(coded.values).reshape(8, -1).max(axis=1) > 0.7 * np.abs(coded.values).max()).all()
    x = dyadic_inputs(net, 20)
    np.testing.assert_allclose(reference.run(harden(net, Policy(16)), x), reference.run(net, x), atol=2e-3)


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_range_of_least_error_is_never_worse_than_the_whole_one(seed: int, bits: int) -> None:
    net = Author((2, 2, 40), seed).affine(spread=3.0).network()
    net = rebuilt(net, list(net.ops), {n: replace(p, values=p.values**3) for n, p in net.parameters.items()})
    whole, least = (harden(net, Policy(bits, range)) for range in ("minmax", "error"))
    for name, p in net.parameters.items():
        errors = [np.square(v.parameters[name].values.astype(np.float64) - p.values).sum() for v in (whole, least)]
        assert errors[1] <= errors[0]
        narrow, wide = least.parameters[name].encoding, whole.parameters[name].encoding
        assert isinstance(narrow, Uniform)
        assert isinstance(wide, Uniform)
        assert narrow.scale <= wide.scale


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(
        InputError, match="there is no range 'middle'; there are error, minmax, symmetric, percentile, damage and power"
    ):
        Policy(8, "middle")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.2])
def test_values_of_one_sign_have_a_range(sign: int, spread: float) -> None:
    """Ends of the range must not be pulled past each other."""
    net = Author((1, 1, 9), 0).affine().network()
    values = (sign * (1 + spread * np.arange(9) / 9)).astype(np.float32)
    net = rebuilt(net, list(net.ops), {n: replace(p, values=values) for n, p in net.parameters.items()})
    for p in harden(net, Policy(8)).parameters.values():
        np.testing.assert_allclose(p.values, values, atol=0.01)


def test_slopes_before_a_sign_go_into_thresholds() -> None:
    """Where all are positive: sums of bits decide as before, pixels but for rounding."""
    a = Author((5, 5, 4), 2).conv(9, 3, weight=None).prelu(values=np.linspace(0.1, 2.0, 9)).affine(spread=0.3).sign()
    a.conv(16, 2, padding="same").prelu(values=np.linspace(0.05, 1.5, 16)).affine(spread=0.7).sign()
    net = a.conv(6, 2).prelu(values=np.array([0.5, 1, 2, -1, 1, 1.0])).affine().sign().unpack().network()
    folded = fold_thresholds(net)
    assert [type(op) for op in folded.ops].count(Threshold) == 2
    kept = [op.name for op in folded.ops if isinstance(op, PRelu)]
    assert kept == [op.name for op in net.ops if isinstance(op, PRelu)][-1:]
    x = np.random.default_rng(0).normal(size=(40, 5, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(reference.run(folded, x), reference.run(net, x))
