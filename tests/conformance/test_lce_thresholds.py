"""LCE flatbuffers: codes are decoded and thresholds decide as in the reference interpreter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from converters.lce_thresholds import rounding
from tests.conformance.lce_checks import BITS, assert_same, every_dot, interpreted, pointwise
from zobnn_edge.encoding import Float32, Uniform
from zobnn_edge.network import Builder
from zobnn_edge.operations import Affine, Sign, Threshold, Unpack

pytestmark = interpreted

SCALES = st.floats(2.0**-20, 2.0**20, width=32)


@settings(max_examples=60, deadline=None)
@given(BITS, SCALES, st.integers(-(1 << 23), 1 << 23) | st.integers(-300, 70000))
def test_every_code_is_decoded_at_run_time_as_the_encoding_decodes_it(bits: int, scale: float, zero_point: int) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b = Builder("test", (1, 1, values.size))
    b.parameter("affine/bias", "affine", "bias", values, encoding)
    net = b.network(b.add(Affine("affine", b.input, "y", None, "affine/bias")))
    blob = lce.write(net)
    scores = lce_interpreter.run(blob, np.zeros((1, 1, 1, values.size)))
    np.testing.assert_array_equal(scores[0], net.parameters["affine/bias"].values)
    np.testing.assert_array_equal(lce.read_codes(blob, "affine/bias"), encoding.encode(values))


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 70),
    bits=st.integers(2, 10),
    scale=SCALES | st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    zero_point=st.integers(-1100, 2000),
)
def test_coded_thresholds_decide_alike_for_every_code_and_every_dot_product(
    channels: int, bits: int, scale: float, zero_point: int
) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b, dot = pointwise(channels, values.size)
    b.parameter("conv/threshold", "conv", "threshold", values, encoding)
    bits_out = b.add(Threshold("threshold", dot, "signs", "conv/threshold"))
    assert_same(b.network(b.add(Unpack("unpack", bits_out, "y"))), every_dot(channels))


def test_every_way_of_rounding_a_threshold_is_used_and_none_only_where_all_are_wrong() -> None:
    assert rounding(Uniform(8, 2.0, 100), 64, 64) == "none"
    assert rounding(Uniform.of_range(-16.0, 19.0, 8), 576, 576) == "ceil"
    assert rounding(Uniform(8, 0.75, 100), 27, 32) == "floor"
    assert rounding(Uniform(8, 1.0 + 2.0**-23, 0), 27, 32) is None
    assert rounding(Uniform(8, 2.0**30, 0), 32, 32) is None


@st.composite
def batch_norms(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """(channels in, scales, biases): any signs, zeros, and biases that make a dot product decide by a rounding."""
    channels = draw(st.integers(1, 70))
    numbers = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, -0.0, 1e-30, -1e30, 0.1, -0.3])
    scales = np.array(draw(st.lists(numbers, min_size=1, max_size=40)), np.float32)
    dots = np.array(draw(st.lists(st.integers(-channels, channels), min_size=scales.size, max_size=scales.size)))
    ties = -(dots.astype(np.float32) * scales)
    nudge = np.array([np.nextafter(t, np.float32(np.inf)) if i % 3 else t for i, t in enumerate(ties)], np.float32)
    return channels, scales, np.where(draw(st.booleans()), ties, nudge).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(batch_norms())
def test_uncoded_batch_norm_and_sign_fold_into_thresholds_without_changing_a_decision(
    case: tuple[int, np.ndarray, np.ndarray],
) -> None:
    channels, scales, biases = case
    b, dot = pointwise(channels, scales.size, np.where(np.arange(scales.size) % 2, -1.0, 1.0))
    b.parameter("conv/scale", "conv", "scale", scales, Float32())
    b.parameter("conv/bias", "conv", "bias", biases, Float32())
    affine = b.add(Affine("affine", dot, "affine", "conv/scale", "conv/bias"))
    net = b.network(b.add(Unpack("unpack", b.add(Sign("sign2", affine, "signs")), "y")))
    assert set(lce.parameter_offsets(lce.write(net))) == {"conv/weight"}
    assert_same(net, every_dot(channels))


def test_batch_norm_that_is_not_finite_folds_to_the_same_decisions() -> None:
    numbers = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, 1.0], np.float32)
    scales, biases = (grid.reshape(-1) for grid in np.meshgrid(numbers, numbers))
    b, dot = pointwise(9, scales.size)
    b.parameter("conv/scale", "conv", "scale", scales, Float32())
    b.parameter("conv/bias", "conv", "bias", biases, Float32())
    signs = b.add(Sign("sign2", b.add(Affine("affine", dot, "affine", "conv/scale", "conv/bias")), "signs"))
    assert_same(b.network(b.add(Unpack("unpack", signs, "y"))), every_dot(9))
