"""Shifts that the importer merges: fewer parameters, the same scores but for roundings."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.keras_shifts import merge_shifts
from tests.networks import Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.operations import Affine


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.lists(st.sampled_from(["shift", "affine", "prelu", "add", "gain"]), max_size=8))
def test_any_chain_keeps_its_scores_and_no_two_shifts_follow_each_other(seed: int, steps: list[str]) -> None:
    a = Author((2, 2, 3), seed).affine()
    shortcut = a.x
    for step in steps:
        if step == "shift":
            a.affine(scale=False)
        elif step == "add":
            a.add(shortcut)
        elif step == "gain":
            a.gain(0.5)
        else:
            getattr(a, step)()
    net = a.network()
    merged = merge_shifts(net)
    x = dyadic_inputs(net, 3)
    np.testing.assert_allclose(reference.run(merged, x), reference.run(net, x), rtol=1e-5, atol=1e-4)
    for op in merged.ops:
        before = merged.producer(op.input)
        is_shift = isinstance(op, Affine) and op.scale is None and op.gain == 1
        if is_shift and isinstance(before, Affine) and before.bias:
            assert len(merged.consumers(before.output)) > 1


def test_rprelu_before_a_shortcut_and_a_norm_leaves_two_affines() -> None:
    """FracBNN's block: norm, shift, slope, shift, sum, norm."""
    a = Author((2, 2, 3), 0)
    x = a.x
    a.affine().affine(scale=False).prelu().affine(scale=False).add(x).affine()
    assert [type(op).__name__ for op in merge_shifts(a.network()).ops] == ["Affine", "PRelu", "Add", "Affine"]
