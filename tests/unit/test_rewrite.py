"""Rewrites change the form of a network and nothing that it computes: scores stay bit-identical, ties included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.lce_lowering import as_tflite_knows
from tests.networks import DYADIC, NETWORKS, Author, dyadic_inputs
from zobnn_edge import layout, reference, rewrite
from zobnn_edge.encoding import Binary, Uniform
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Network, Pixels, rebuilt
from zobnn_edge.operations import Conv
from zobnn_edge.tensor import Quantization

INPUTS = 6
SMALL = 0.25  # biases that leave signs undecided


def same(before: Network, after: Network, seed: int = 0) -> bool:
    """Bit-identical scores on inputs whose sums are exact, so that ties are common."""
    x = dyadic_inputs(before, INPUTS, seed)
    return reference.run(before, x).tobytes() == reference.run(after, x).tobytes()


def kinds(net: Network) -> list[str]:
    return [type(op).__name__ for op in net.ops]


def with_scales(net: Network, name: str, values: object) -> Network:
    """The network with other values of a parameter."""
    p = net.parameters[name]
    values = np.broadcast_to(np.asarray(values, np.float32), p.shape).copy()
    return replace(net, parameters={**net.parameters, name: replace(p, values=values)})


def pooled(seed: int = 0, pool: tuple[int, int] = (2, 2)) -> Network:
    """Convolution, real max-pool, batch norm, sign, dense: as Larq's tutorial orders them."""
    a = Author((7, 7, 2), seed)
    a.conv(5, 3, weight=None).max_pool(*pool).affine().sign().dense(4, weight="binary")
    return a.affine().network()


def flattened(seed: int = 0) -> Network:
    """Batch norm, flatten, sign, binary dense."""
    a = Author((4, 3, 5), seed)
    a.affine().reshape((1, 1, 60)).sign().conv(6, 1).affine()
    return a.network()


# --- max-pool ---


@pytest.mark.parametrize("scale", [0.125, 0.0, [0.125, 0, 1, 0.5, 2]])
def test_pool_of_real_sums_becomes_pool_of_bits(scale: object) -> None:
    net = with_scales(pooled(), "affine3/scale", scale)
    better = rewrite.simplify(net)
    assert kinds(better)[:4] == ["Conv", "Affine", "Sign", "MaxPool"]
    assert better.tensors[better.ops[3].input].kind == "binary"
    assert same(net, better)


@pytest.mark.parametrize("bias", [None, 0.0])
def test_negative_scales_are_moved_into_the_weights_behind_the_sign(bias: float | None) -> None:
    """Also where sums are exactly 0, which is positive: scales of both signs meet every kind of tie."""
    net = with_scales(pooled(), "affine3/scale", [0.125, 0, -0.125, 0.25, -0.125])
    if bias is not None:
        net = with_scales(net, "affine3/bias", bias)
    better = rewrite.simplify(net)
    assert kinds(better)[:4] == ["Conv", "Affine", "Sign", "MaxPool"]
    assert (better.parameters["affine3/scale"].values >= 0).all()
    assert all(same(net, better, seed) for seed in range(5))


def test_negative_scales_and_zero_padding_behind_the_sign() -> None:
    a = Author((8, 8, 2), 3).conv(5, 3, weight=None).max_pool().affine().sign()
    net = a.conv(6, 3, padding="same", pad_value=0).network()
    assert (net.parameters["affine3/scale"].values < 0).any()
    better = rewrite.simplify(net)
    assert kinds(better)[:4] == ["Conv", "Affine", "Sign", "MaxPool"]
    assert same(net, better)


def test_negative_scales_stay_before_a_padded_one() -> None:
    """Outside, the weights would meet a 1 that nobody negated."""
    a = Author((8, 8, 2), 3).conv(5, 3, weight=None).max_pool().affine().sign()
    net = a.conv(6, 3, padding="same", pad_value=1).network()
    assert rewrite.simplify(net).ops == net.ops


def test_negative_scales_stay_when_the_sign_has_another_reader() -> None:
    a = Author((6, 6, 2), 3).conv(5, 3, weight=None).max_pool().affine().sign()
    bits = a.x
    unpacked = a.unpack().x
    a.x = bits
    net = a.conv(5, 1).add(unpacked).network()
    assert kinds(rewrite.simplify(net)) == kinds(net)


def test_negative_scales_stay_when_the_weights_are_used_elsewhere() -> None:
    a = Author((6, 6, 2), 3).conv(5, 3, weight=None).max_pool().affine().sign().conv(5, 1)
    weight = a.b.ops[-1].parameters[0]
    a.sign()
    a.x = a.b.add(Conv("again", a.x, "again", weight))
    net = a.network()
    assert kinds(rewrite.simplify(net)) == kinds(net)


def test_one_negative_slope_forbids_it() -> None:
    net = Author((6, 6, 2)).max_pool().prelu().affine().sign().dense(3).network()
    net = with_scales(with_scales(net, "affine3/scale", 1), "prelu2/slope", [0.5, -0.125])
    assert kinds(rewrite.simplify(net)) == kinds(net)


def test_reordering_a_negative_scale_would_be_wrong() -> None:
    """The guard guards something: the same reordering with a negative scale changes scores."""
    net = with_scales(pooled(), "affine3/scale", 1.0)
    wrong = with_scales(rewrite.simplify(net), "affine3/scale", -1.0)
    assert not same(with_scales(net, "affine3/scale", -1.0), wrong)


def test_scale_that_is_not_finite_forbids_it() -> None:
    net = with_scales(pooled(), "affine3/scale", np.inf)
    assert rewrite.sign_before_pool(net) is None


def test_pool_with_a_second_reader_stays() -> None:
    a = Author((6, 6, 2))
    pool = a.conv(4, 3, weight=None).max_pool().x
    a.sign().unpack().add(pool)
    assert kinds(rewrite.simplify(a.network())) == ["Conv", "MaxPool", "Sign", "Unpack", "Add"]


def test_pool_before_the_output_stays() -> None:
    net = Author((4, 4, 2)).conv(3, 3, weight=None).max_pool().affine().network()
    assert rewrite.sign_before_pool(net) is None


def test_two_pools_and_rising_functions_between_them() -> None:
    a = Author((9, 9, 1), 3).conv(4, 2, weight=None).max_pool(2, 1).clip(-1, 2).prelu().max_pool(2, 2).affine().sign()
    net = a.dense(3).network()
    for name in ("affine6/scale", "prelu4/slope"):
        net = with_scales(net, name, np.abs(net.parameters[name].values))
    better = rewrite.simplify(net)
    assert kinds(better) == ["Conv", "Clip", "PRelu", "Affine", "Sign", "MaxPool", "MaxPool", "Conv"]
    assert same(net, better)


def test_pool_stays_before_slopes_of_its_pixels() -> None:
    net = Author((4, 4, 2)).max_pool().prelu(by_element=True).sign().dense(3).network()
    net = with_scales(net, "prelu2/slope", 0.5)
    assert kinds(rewrite.simplify(net)) == kinds(net)


def test_threshold_is_moved_like_a_sign() -> None:
    net = Author((6, 6, 2), 4).conv(4, 3, weight=None).max_pool().threshold().dense(3).network()
    better = rewrite.simplify(net)
    assert kinds(better) == ["Conv", "Threshold", "MaxPool", "Conv"]
    assert same(net, better)


# --- flatten ---


def test_flatten_before_a_binary_dense_layer_is_absorbed() -> None:
    net = flattened()
    better = rewrite.simplify(net)
    assert kinds(better) == ["Affine", "Sign", "Conv", "Affine"]
    weight = better.parameters["conv4/weight"]
    assert (weight.shape, weight.encoding) == ((6, 4, 3, 5), Binary(row=5))
    assert same(net, better)


def test_flatten_before_a_real_dense_layer_is_absorbed() -> None:
    """Sums are not exact here: they must run in the same order."""
    net = Author((4, 3, 5), 1).reshape((1, 1, 60)).clip().conv(6, 1, weight=None).network()
    better = rewrite.simplify(net)
    assert kinds(better) == ["Clip", "Conv"]
    x = np.random.default_rng(0).normal(size=(INPUTS, 4, 3, 5)).astype(np.float32)
    assert reference.run(net, x).tobytes() == reference.run(better, x).tobytes()


def test_flatten_before_two_dense_layers_is_absorbed_by_both() -> None:
    a = Author((2, 3, 4), 2)
    sign = a.reshape((1, 1, 24)).sign().x
    left = a.conv(5, 1).x
    a.x = sign
    net = a.conv(5, 1).add(left).network()
    better = rewrite.simplify(net)
    assert "Reshape" not in kinds(better)
    assert same(net, better)


@pytest.mark.parametrize("after", ["affine", "prelu"])
def test_flatten_stays_before_parameters_of_its_channels(after: str) -> None:
    a = getattr(Author((2, 3, 4)).reshape((1, 1, 24)), after)()
    net = a.sign().conv(3, 1).network()
    assert kinds(rewrite.simplify(net)) == kinds(net)


def test_flatten_stays_when_its_weights_are_used_elsewhere() -> None:
    a = Author((1, 2, 3), 5)
    a.reshape((1, 1, 6)).conv(6, 1, weight=None)
    again = Conv("again", a.x, "again", "conv2/weight")
    a.x = a.b.add(again)
    assert kinds(rewrite.simplify(a.network())) == ["Reshape", "Conv", "Conv"]


def test_reshape_to_another_map_stays() -> None:
    net = Author((2, 6, 3)).reshape((3, 4, 3)).conv(2, 1, weight=None).network()
    assert kinds(rewrite.simplify(net)) == ["Reshape", "Conv"]


# --- clutter ---


def test_operations_nobody_reads_are_dropped_with_their_parameters() -> None:
    a = Author((3, 3, 2))
    start = a.x
    a.affine().sign()
    a.x = start
    net = a.conv(2, 3, weight=None).network()
    better = rewrite.simplify(net)
    assert kinds(better) == ["Conv"]
    assert list(better.parameters) == ["conv3/weight"]


def test_reshapes_that_change_nothing_are_dropped() -> None:
    a = Author((1, 1, 12), 1).reshape((1, 1, 12)).affine().reshape((2, 3, 2)).reshape((3, 2, 2)).conv(2, (3, 2))
    net = a.network()
    assert kinds(rewrite.simplify(net)) == ["Affine", "Reshape", "Conv"]
    assert same(net, rewrite.simplify(net))


def test_output_survives_when_its_last_operation_is_an_identity() -> None:
    net = Author((1, 1, 4)).affine().reshape((1, 1, 4)).network()
    better = rewrite.simplify(net)
    assert better.output == net.output
    assert same(net, better)


def test_sign_of_an_unpacked_tensor_is_the_tensor() -> None:
    net = Author((3, 3, 2)).sign().unpack().sign().conv(4, 3).network()
    better = rewrite.simplify(net)
    assert kinds(better) == ["Sign", "Conv"]
    assert same(net, better)


@pytest.mark.parametrize("join", ["add", "mul", "concat"])
def test_reader_of_two_tensors_follows_when_its_second_goes(join: str) -> None:
    """A reshape that changes nothing is the second input of a sum, a product, a concatenation."""
    a = Author((2, 2, 3), 2)
    start = a.x
    same_shape = a.reshape((2, 2, 3)).x
    a.x = start
    net = getattr(a.affine(), join)(same_shape).network()
    better = rewrite.simplify(net)
    assert "Reshape" not in kinds(better)
    assert same(net, better)


# --- order ---


def test_every_function_of_an_element_follows_what_it_continues() -> None:
    """Two branches, listed layer by layer as importers do: every batch norm, and the addition, end up fused."""
    a = Author((6, 6, 3), 7)
    start = a.x
    left = a.conv(4, 3, padding="same", weight=None).x
    a.x = start
    right = a.conv(4, 1, weight=None).x
    a.x = left
    left = a.affine().x
    a.x = right
    a.affine().add(left).sign().dense(3)
    net = a.network()
    assert len(layout.fuse(net)) > 3
    better = rewrite.in_chains(net)
    assert [len(group) for group in layout.fuse(better)] == [2, 4, 1]
    assert sorted(op.name for op in better.ops) == sorted(op.name for op in net.ops)
    assert same(net, better)


# --- all of it ---


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_keep_their_scores(name: str) -> None:
    net = NETWORKS[name]()
    better = rewrite.simplify(net)
    assert same(net, better)
    assert (better.input_shape, better.outputs, better.pixels) == (net.input_shape, net.outputs, net.pixels)


def rising(a: Author) -> None:
    """An affine whose scales are not negative."""
    a.affine(spread=SMALL)
    scale = a.b.parameters[f"{a.x}/scale"]
    a.b.parameters[scale.name] = replace(scale, values=np.abs(scale.values))


def random_network(seed: int) -> Network:
    """Blocks of what the rules look for: pool, flatten or neither, up to two functions, sign, then a convolution.

    Ends in a sign whose every bit is seen: a dense layer would hide differences.
    """
    rng = np.random.default_rng(seed)
    a = Author((int(rng.integers(4, 10)), int(rng.integers(4, 10)), int(rng.integers(1, 5))), seed)
    for block in range(rng.integers(1, 4)):
        if block:
            weight = None if rng.random() < 0.3 else "binary"
            if weight is None:
                a.unpack()
            a.conv(int(rng.integers(2, 7)), int(rng.integers(1, min(*a.shape[:2], 2) + 1)), weight=weight)
        h, w, c = a.shape
        kind = rng.choice(["pool", "flatten", "none"])
        if kind == "pool":
            padding = "same" if rng.random() < 0.5 else "valid"
            a.max_pool(int(rng.integers(1, min(h, w, 3) + 1)), int(rng.integers(1, 3)), padding)
        elif kind == "flatten":
            a.reshape((1, 1, h * w * c))
        for function in rng.choice(["affine", "rising", "clip", "prelu", "residual"], rng.integers(0, 3)):
            before = a.x
            if function == "rising":
                rising(a)
            elif function == "residual":
                a.affine(spread=SMALL).add(before)
            else:
                a.affine(spread=SMALL) if function == "affine" else getattr(a, function)()
        a.sign()
    return a.unpack().network()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_networks_keep_their_scores(seed: int) -> None:
    net = random_network(seed)
    better = rewrite.simplify(net)
    assert same(net, better, seed)
    assert rewrite.simplify(better).ops == better.ops


@pytest.mark.parametrize(
    ("kernel", "padding", "joins"), [(3, "same", 1), (1, "half", 1), (2, "same", 0), (3, "valid", 0)]
)
def test_every_second_pixel_of_a_convolution_is_one_of_stride_2(kernel: int, padding: str, joins: int) -> None:
    net = Author((7, 6, 3), 0).sign().conv(5, kernel, 1, padding).max_pool(1, 2).affine().network()
    better = rewrite.simplify(net)
    assert len(net.ops) - len(better.ops) == joins
    assert same(net, better, 0)


@pytest.mark.parametrize("padding", ["valid", "half"])
def test_gates_and_low_bits_are_found_again(padding: str) -> None:
    """In what a flatbuffer holds of them; thresholds that sums equal included."""
    net = Author((6, 7, 5), 1).gated_conv(9, 3, 2, padding).affine().network()
    spelled = as_tflite_knows(net)
    assert "GatedConv" not in kinds(spelled)
    assert "LowBit" not in kinds(spelled)
    assert same(net, spelled)
    found = rewrite.simplify(spelled)
    assert kinds(found) == kinds(net)
    assert same(net, found)


def test_a_gate_of_other_weights_stays_as_it_is() -> None:
    spelled = as_tflite_knows(Author((6, 7, 5), 1).gated_conv(9).affine().network())
    conv = next(op for op in spelled.ops if op.name.endswith("/step/low") and isinstance(op, Conv))
    weight = spelled.parameters[conv.weight]
    parameters = {**spelled.parameters, "other": replace(weight, name="other", values=-weight.values)}
    ops = [replace(op, weight="other") if op == conv else op for op in spelled.ops]
    net = rebuilt(spelled, ops, parameters)
    assert "GatedConv" not in kinds(rewrite.simplify(net))


# --- inputs in bytes ---


def whole_first_layer(pixels: Pixels = DYADIC, bits: int = 8, kernel: int = 3) -> Author:
    """Whole weights of a code over pixels, then batch norm and sign."""
    a = Author((6, 6, 3), 3, pixels)
    codes = a.rng.integers(0, 1 << bits, (5, kernel, kernel, 3))
    weight = a.b.parameter("w", "conv", "weight", codes - 100.0, Uniform(bits, 1.0, 100))
    a.x = a.b.add(Conv("conv", a.x, "conv", weight, padding="same"))
    return a.affine()


@pytest.mark.parametrize("pixels", [DYADIC, Pixels(1 / 64, -2.0), Pixels(2.0, -254.0), Pixels(1.0, -255.0)])
def test_bytes_are_exact_for_every_pixel(pixels: Pixels) -> None:
    """As int8 input, as an int8 tensor dequantized before a real convolution, and as float32 input: the same bits."""
    a = whole_first_layer(pixels)
    net = a.network()
    better = rewrite.on_bytes(net)
    assert better is not None
    assert better.tensors["input"].kind == "int8"
    x = np.random.default_rng(0).permutation(np.arange(6 * 6 * 3 * 20) % 256).astype(np.uint8).reshape(20, 6, 6, 3)
    expected = reference.run(net, x)
    assert reference.run(better, x).tobytes() == expected.tobytes()
    assert reference.run(better, pixels.apply(x)).tobytes() == expected.tobytes()
    b = Author((6, 6, 3), 3, pixels, better.tensors["input"].quantization).dequantize()
    b.b.parameters.update(net.parameters)
    ops = [replace(op, input=b.x) if op.input == "input" else op for op in net.ops]
    dequantized = rebuilt(b.network(), [*b.b.ops, *ops], net.parameters, net.output)
    assert reference.run(dequantized, x).tobytes() == expected.tobytes()


def test_large_sums_of_bytes_are_rounded_once() -> None:
    """Beyond 2^24 sums are those of integers, as floats; added up as floats they are rounded again and again."""
    a = whole_first_layer(bits=16, kernel=6)
    a.x = "conv"
    net = a.b.network(a.x)
    better = rewrite.on_bytes(net)
    assert better is not None
    x = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3)).astype(np.uint8)
    scores = reference.run(better, x)
    weight = net.parameters["w"].values.astype(np.int64)
    shifted = np.pad(x.astype(np.int64) - 128, ((0, 0), (2, 3), (2, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(shifted, (6, 6, 3), (1, 2, 3))[:, :, :, 0]
    sums = np.einsum("nyxijk,oijk->nyxo", windows, weight)
    assert np.abs(sums).max() > 2**24
    np.testing.assert_array_equal(scores, (sums.astype(np.float32) / np.float32(128)).reshape(4, -1))
    assert (scores != reference.run(net, x)).any()


def test_sums_of_bytes_must_fit() -> None:
    with pytest.raises(ModelError, match=r"sums up to \d+ over int8 inputs; they must stay below 1073741824"):
        Author((6, 6, 3), 3, DYADIC, Quantization(1 / 128, 0)).conv(5, 8, padding="same", weight=16).network()


@pytest.mark.parametrize(
    "net",
    [
        whole_first_layer(Pixels()).network(),
        whole_first_layer(Pixels(1 / 100, -1.0)).network(),
        whole_first_layer(Pixels(1 / 128, -1.001)).network(),
        whole_first_layer(Pixels(1 / 128, 1.0)).network(),
        whole_first_layer(bits=16, kernel=8).network(),
        whole_first_layer().global_pool().add(whole_first_layer().global_pool().x).network(),
        Author((4, 4, 3)).conv(5, 3, weight=8).affine().network(),
        Author((4, 4, 3)).conv(5, 3, 1, "same", 1).affine().network(),
        Author((4, 4, 3)).clip().conv(5, 3).affine().network(),
    ],
    ids=["no pixels", "thirds", "between", "beyond", "sums", "fine", "scaled", "ones outside", "another reader"],
)
def test_inputs_that_stay_real(net: Network, request: pytest.FixtureRequest) -> None:
    assert (rewrite.on_bytes(net) is not None) == ("fine" in request.node.name)
