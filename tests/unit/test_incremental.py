"""Incremental runs: whatever the fault set, the same bits as computing everything anew, with less work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import NETWORKS, dyadic_inputs
from zobnn_edge.engine import Engine, instruction_sets
from zobnn_edge.faults.models import FaultSet
from zobnn_edge.faults.space import Filter
from zobnn_edge.harden import harden
from zobnn_edge.incremental import Incremental
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

MODELS = {name: Model.of(make()) for name, make in NETWORKS.items()}
INPUTS = {name: dyadic_inputs(model.network, 4).reshape(4, -1) for name, model in MODELS.items()}


def assert_identical(name: str, image: bytes, again: Incremental) -> float:
    scores, work = again.run(image)
    expected = Engine(MODELS[name].plan).run(image, INPUTS[name])
    assert np.array_equal(scores.view(np.uint32), expected.view(np.uint32))
    return work


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("instructions", instruction_sets())
@pytest.mark.parametrize("budget", [1 << 30, 9000, 0])
def test_bit_identical_whatever_is_hit(name: str, instructions: str, budget: int) -> None:
    """Every parameter by itself, many at once, one after the other on one object; with all, some and nothing kept."""
    model = MODELS[name]
    again = Incremental(model, INPUTS[name], budget, instructions)
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
    """The later the fault, the less; one that no activation shows costs a block of channels of its own stage."""
    name = "binary_chain-float32"
    model = MODELS[name]
    again = Incremental(model, INPUTS[name])
    last = model.image.regions[-1]
    sign = model.image.flipped([model.image.address(last.name, (0,), 31)]).data
    everything = model.image.flipped(FaultSet("rate", 0.5, 1).addresses(Filter().of(model.image)).tolist()).data
    assert assert_identical(name, everything, again) == pytest.approx(1)
    assert 0 < assert_identical(name, sign, again) < 0.05
    first = next(r for r in model.image.regions if r.layer == "affine2" and r.role == "bias")
    mantissas = [model.image.flipped([model.image.address(first.name, (i,), 0)]).data for i in range(first.count)]
    assert 0 < min(assert_identical(name, image, again) for image in mantissas) < 0.2


@pytest.mark.parametrize("ways", [{}, {"by_blocks": False}, {"leave": False}])
def test_every_input_of_many_blocks(ways: dict[str, bool]) -> None:
    """Inputs that leave and join again in any order; whatever is left out."""
    model = MODELS["residual-8"]
    x = dyadic_inputs(model.network, 75).reshape(75, -1)
    again = Incremental(model, x, **ways)
    for seed in range(20):
        flips = FaultSet("count", 1 + seed % 3, seed).addresses(Filter().of(model.image))
        image = model.image.flipped(flips.tolist()).data
        scores, _ = again.run(image)
        assert np.array_equal(scores.view(np.uint32), Engine(model.plan).run(image, x).view(np.uint32))


@pytest.mark.parametrize(
    "policy", [Policy(protection="secded"), Policy(12, scales="tmr"), Policy(6, protection="voted:3")]
)
@pytest.mark.parametrize("instructions", dict.fromkeys((instruction_sets()[0], "portable")))
def test_every_stored_bit_of_protected_parameters_counts(policy: Policy, instructions: str) -> None:
    """Two flips in one place, which no code corrects, and flips in what is stored beside the codes."""
    model = Model.of(harden(NETWORKS["binary_chain-float32"](), policy))
    x = dyadic_inputs(model.network, 3).reshape(3, -1)
    again, engine = Incremental(model, x, instructions=instructions), Engine(model.plan)
    for region in model.image.regions:
        part = Filter(parameters=(region.name,)).of(model.image)
        for seed, rate in enumerate((0.01, 0.3)):
            image = model.image.flipped(FaultSet("rate", rate, seed).addresses(part).tolist()).data
            assert again.run(image)[0].tobytes() == engine.run(image, x).tobytes(), region.name


def test_pixels_are_inputs_as_well() -> None:
    model = MODELS["real-12"]
    x = np.random.default_rng(0).integers(0, 256, (3, int(np.prod(model.network.input_shape))), np.uint8)
    image = model.image.flipped([model.image.regions[0].first_bit + 11]).data
    scores, _ = Incremental(model, x).run(image)
    assert np.array_equal(scores, Engine(model.plan).run(image, x))
