"""Fault models: the worked examples of the specification, and what each model promises."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import binary_chain, thresholds
from zobnn_edge.encoding import Float32
from zobnn_edge.engine import fault_set, random_order
from zobnn_edge.errors import InputError
from zobnn_edge.faults.models import MODELS, FaultSet
from zobnn_edge.faults.space import FaultSpace, Filter, stratum_of
from zobnn_edge.image import ParameterImage, Region

SPEC = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
ONES = ParameterImage((Region("p", "l", "scale", "S", (32,), Float32(), 0),), np.ones(32, "<f4").tobytes())
IMAGE = ParameterImage.of(binary_chain(1, 12))


def whole(image: ParameterImage = IMAGE) -> FaultSpace:
    return Filter().of(image)


EXAMPLES = re.findall(
    r"\| `(\w+)` \| ([\d.]+) \| (\d*) \| (all|bit positions 30 and 31) "
    r"\| <!-- example: [\w-]+ -->`([\d ]*)`<!-- end --> \|",
    SPEC,
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e[0]}-{e[2]}-{e[3]}")
def test_the_examples_of_the_specification(example: tuple[str, ...]) -> None:
    model, amount, index, where, addresses = example
    space = Filter(bits=None if where == "all" else (30, 31)).of(ONES)
    got = FaultSet(model, float(amount), 7, int(index or 0)).addresses(space)
    assert " ".join(map(str, got)) == addresses


def test_every_model_has_an_example() -> None:
    assert {example[0] for example in EXAMPLES} == set(MODELS)


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1))
def test_random_orders_hold_every_number_once(count: int, seed: int) -> None:
    order = random_order(0, count, count, seed)
    assert np.array_equal(np.sort(order), np.arange(count))
    part = random_order(count // 2, count - count // 2, count, seed)
    assert np.array_equal(part, order[count // 2 :])


@pytest.mark.parametrize("count", [2**32 - 1, 2**16 + 1, 65536, 1])
def test_random_orders_of_any_length(count: int) -> None:
    n = min(count, 500)
    order = random_order(count - n, n, count, 5)
    assert len(set(order.tolist())) == n
    assert 0 <= order.min() <= order.max() < count


def test_random_orders_are_uniform() -> None:
    """Chi-square, over seeds: each first element, and each pair of first two, as often as any other."""
    n, seeds = 7, 8400
    orders = np.array([random_order(0, 2, n, seed) for seed in range(seeds)])
    first = np.bincount(orders[:, 0], minlength=n)
    assert ((first - seeds / n) ** 2 / (seeds / n)).sum() < 22.5, "chi-square, 6 degrees of freedom, 99.9 %"
    pairs = Counter(map(tuple, orders.tolist()))
    expected = seeds / (n * (n - 1))
    assert len(pairs) == n * (n - 1)
    assert sum((k - expected) ** 2 / expected for k in pairs.values()) < 74.7, "41 degrees of freedom, 99.9 %"


def test_an_order_has_no_more_elements() -> None:
    with pytest.raises(InputError, match="elements 5 to 8 of a random order of 8; there are not so many"):
        random_order(5, 4, 8, 0)


def test_numbers_of_a_space_are_its_addresses_in_order() -> None:
    """Of any filter: ascending, all different, each one's location is what the filter asks for."""
    net_image = ParameterImage.of(thresholds(2, 8))
    for image in (IMAGE, net_image):
        for chosen in (
            Filter(),
            Filter(bits=(0, 3)),
            Filter(types=("binary",)),
            Filter(types=("S",), bits=(7,)),
            Filter(roles=("weight",), bits=(0,)),
            Filter(layers=(image.regions[1].layer,)),
        ):
            space = chosen.of(image)
            addresses = space.addresses(np.arange(space.size))
            assert np.all(np.diff(addresses) > 0)
            assert space.contains(addresses).all()
            assert space.contains(np.arange(8 * len(image.data))).sum() == space.size
            for address in addresses.tolist():
                at = image.locate(address)
                assert chosen.types is None or at.region.type in chosen.types
                assert chosen.roles is None or at.region.role in chosen.roles
                assert chosen.layers is None or at.region.layer in chosen.layers
                assert chosen.bits is None or at.bit in chosen.bits
    assert whole().size == IMAGE.bits


def test_strata_share_out_every_bit() -> None:
    space = Filter(types=("binary", "S")).of(IMAGE)
    seen: list[int] = []
    for stratum, part in space.strata():
        addresses = part.addresses(np.arange(part.size)).tolist()
        assert {stratum_of(IMAGE, a) for a in addresses} == {stratum}
        seen += addresses
    assert sorted(seen) == space.addresses(np.arange(space.size)).tolist()
    assert any("other bits" in str(stratum) for stratum, _ in space.strata())


def test_a_filter_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="there is no layer nobody; there are conv1"):
        Filter(layers=("nobody",)).of(IMAGE)
    with pytest.raises(InputError, match="no stored bit"):
        Filter(types=("binary",), bits=(5,)).of(IMAGE)


@given(model=st.sampled_from(["rate", "stuck0", "stuck1"]), rate=st.floats(0, 0.3), seed=st.integers(0, 2**63))
def test_a_restricted_space_is_hit_where_the_whole_would_be(model: str, rate: float, seed: int) -> None:
    some = Filter(types=("S",), bits=(11, 2)).of(IMAGE)
    everywhere = FaultSet(model, rate, seed).addresses(whole())
    assert FaultSet(model, rate, seed).addresses(some).tolist() == everywhere[some.contains(everywhere)].tolist()


def test_stuck_cells_are_those_of_the_rate_that_hold_the_other_value() -> None:
    hit = fault_set(len(IMAGE.data), IMAGE.ranges(), 0.05, 3)
    zero, one = (FaultSet(m, 0.05, 3).addresses(whole()) for m in ("stuck0", "stuck1"))
    assert sorted([*zero, *one]) == hit.tolist()
    for value, inverted in ((0, zero), (1, one)):
        faulty = IMAGE.flipped(inverted.tolist()).data
        assert all(faulty[a // 8] >> (a % 8) & 1 == value for a in inverted.tolist())


@given(n=st.integers(0, 400), seed=st.integers(0, 2**63))
def test_counts_are_exact(n: int, seed: int) -> None:
    addresses = FaultSet("count", n, seed).addresses(whole())
    assert len(set(addresses.tolist())) == n
    assert whole().contains(addresses).all()


def test_single_faults_hit_every_bit_once() -> None:
    space = Filter(types=("S",), bits=(11,)).of(IMAGE)
    hit = [int(FaultSet("single", 1, 9, i).addresses(space)[0]) for i in range(space.size)]
    assert sorted(hit) == space.addresses(np.arange(space.size)).tolist()
    with pytest.raises(InputError, match="not so many"):
        FaultSet("single", 1, 9, space.size).addresses(space)


@given(
    model=st.sampled_from(["adjacent", "burst"]),
    n=st.integers(2, 300),
    seed=st.integers(0, 2**63),
    index=st.integers(0, 50),
)
def test_neighbours_stay_in_their_parameter(model: str, n: int, seed: int, index: int) -> None:
    addresses = FaultSet(model, n, seed, index).addresses(whole())
    assert len({IMAGE.locate(a).region.name for a in addresses.tolist()}) == 1
    assert addresses[-1] - addresses[0] == n - 1
    assert len(addresses) == n if model == "adjacent" else 2 <= len(addresses) <= n


def test_neighbours_need_room() -> None:
    longest = max(r.bits for r in IMAGE.regions)
    assert len(FaultSet("adjacent", longest, 0).addresses(whole())) == longest
    assert MODELS["adjacent"].places(whole(), longest) == 1
    with pytest.raises(InputError, match=f"no parameter of the fault space has {longest + 1} bits in a row"):
        FaultSet("adjacent", longest + 1, 0).addresses(whole())
    starts = whole().starts(40)
    for address in starts.addresses(np.arange(starts.size)).tolist():
        assert IMAGE.locate(address).region == IMAGE.locate(address + 39).region
    assert starts.size == sum(max(0, r.bits - 39) for r in IMAGE.regions)


def test_inner_bits_of_bursts_are_hit_half_the_time() -> None:
    hits = sum(len(FaultSet("burst", 202, 4, i).addresses(whole())) - 2 for i in range(100))
    assert abs(hits - 100 * 100) < 5 * np.sqrt(100 * 200 / 4)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="no fault model cosmic; use rate, single"):
        FaultSet("cosmic", 1, 0).addresses(whole())
