"""Incremental runs: whatever the fault set, the same bits as computing everything anew, with less work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import NETWORKS, dyadic_inputs
from zobnn_edge.engine import Engine
from zobnn_edge.faults.models import FaultSet
from zobnn_edge.faults.space import Filter
from zobnn_edge.incremental import Incremental, Shortcut, groups
from zobnn_edge.model_file import Model

MODELS = {name: Model.of(make()) for name, make in NETWORKS.items()}
INPUTS = {name: dyadic_inputs(model.network, 4).reshape(4, -1) for name, model in MODELS.items()}


def assert_identical(name: str, image: bytes, again: Incremental) -> float:
    scores, work = again.run(image)
    expected = Engine(MODELS[name].plan).run(image, INPUTS[name])
    assert np.array_equal(scores.view(np.uint32), expected.view(np.uint32))
    return work


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("budget", [1 << 30, 3000, 0])
def test_bit_identical_whatever_is_hit(name: str, budget: int) -> None:
    """Every parameter by itself, many at once, one after the other on one object; with all, some and nothing kept."""
    model = MODELS[name]
    again = Incremental(model, INPUTS[name], budget)
    space = Filter().of(model.image)
    for seed, rate in enumerate((1e-4, 1e-3, 1e-2, 0.3)):
        flips = FaultSet("rate", rate, seed).addresses(space)
        assert_identical(name, model.image.flipped(flips.tolist()).data, again)
    for region in model.image.regions:
        part = Filter(parameters=(region.name,)).of(model.image)
        for seed in range(3):
            flips = FaultSet("single", 1, seed).addresses(part)
            assert_identical(name, model.image.flipped(flips.tolist()).data, again)
    assert assert_identical(name, model.image.data, again) == 0


@settings(max_examples=60)
@given(
    name=st.sampled_from(list(NETWORKS)),
    model=st.sampled_from(["single", "count", "adjacent", "burst"]),
    amount=st.integers(1, 30),
    seed=st.integers(0, 2**63),
)
def test_bit_identical_under_every_fault_model(name: str, model: str, amount: int, seed: int) -> None:
    image = MODELS[name].image
    amount = 1 if model == "single" else amount
    flips = FaultSet(model, amount, seed).addresses(Filter().of(image))
    assert_identical(name, image.flipped(flips.tolist()).data, Incremental(MODELS[name], INPUTS[name]))


def test_only_what_a_fault_reaches_is_computed() -> None:
    """A fault in the last layer costs the last group; one that no activation shows costs a channel of its group."""
    name = "binary_chain-float32"
    model = MODELS[name]
    costs = [work for *_, work, _ in groups(model)]
    again = Incremental(model, INPUTS[name])
    last = model.image.regions[-1]
    sign = model.image.flipped([model.image.address(last.name, (0,), 31)]).data
    assert assert_identical(name, sign, again) <= (costs[-1] + costs[-2]) / sum(costs)
    first = next(r for r in model.image.regions if r.layer == "affine2" and r.role == "bias")
    mantissas = [model.image.flipped([model.image.address(first.name, (i,), 0)]).data for i in range(first.count)]
    assert min(assert_identical(name, image, again) for image in mantissas) == pytest.approx(costs[0] / sum(costs) / 33)


def test_pixels_are_inputs_as_well() -> None:
    model = MODELS["real-12"]
    x = np.random.default_rng(0).integers(0, 256, (3, int(np.prod(model.network.input_shape))), np.uint8)
    image = model.image.flipped([model.image.regions[0].first_bit + 11]).data
    scores, _ = Incremental(model, x).run(image)
    assert np.array_equal(scores, Engine(model.plan).run(image, x))


def test_all_networks_need_less_than_everything() -> None:
    """What is live before a group is part of the arena, and each group's parameters are its own."""
    for name, model in MODELS.items():
        listed = groups(model)
        assert [op for op, *_ in listed] == sorted({op for op, *_ in listed}), name
        for _, live, parameters, work, _ in listed:
            assert all(first + size <= model.arena_bytes for first, size in live), name
            assert all(first + size <= len(model.image.data) for first, size in parameters), name
            assert work > 0


def test_the_shortcut_is_left_where_it_is_longer() -> None:
    """Judged by runs before: faults in the first layer reach everything, those in the last one hardly anything."""
    name = "binary_chain-float32"
    model = MODELS[name]
    incremental = Incremental(model, INPUTS[name])
    early, late = (
        model.image.flipped(
            FaultSet("rate", 0.5, 1).addresses(Filter(parameters=(r.name,)).of(model.image)).tolist()
        ).data
        for r in (model.image.regions[0], model.image.regions[-1])
    )
    assert incremental.changed(early) == (0,)
    assert incremental.changed(late) == (len(model.image.regions) - 1,)
    assert incremental.changed(model.image.data) == ()
    shortcut = Shortcut(incremental, 0.5 * incremental.seconds)
    taken = [shortcut.run(early) is not None for _ in range(5)]
    assert taken == [True, True, True, False, False]
    assert all(shortcut.run(late) is not None for _ in range(5))
