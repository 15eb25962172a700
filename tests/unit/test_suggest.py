"""Suggested policies: within memory, better where more of it is given, and what they say is what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from tests.networks import Author, dyadic_inputs
from zobnn_edge.errors import InputError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy
from zobnn_edge.suggest import Suggestion, suggest


@pytest.fixture(scope="module")
def net() -> Network:
    a = Author((5, 5, 3), 3).conv(8, 3, weight=None).affine().sign().conv(16, 2).affine().prelu()
    return a.dense(4, weight=None).affine().network()


def suggested(net: Network, memory: int) -> Suggestion:
    return suggest(net, dyadic_inputs(net, 40), 1e-2, memory)


def test_more_memory_less_harm_and_never_more_than_allowed(net: Network) -> None:
    plain = len(Model.of(harden(net, Policy(4))).image.data)
    harms = []
    for memory in (plain, 3 * plain):
        found = suggested(net, memory)
        model = Model.of(harden(net, found.policy))
        assert len(model.image.data) == found.bytes <= memory
        harms.append(sum(c.way.harm for c in found.choices))
        assert Policy.parse(found.policy.text()) == found.policy
    assert harms[0] > harms[1]


def test_the_policy_stores_each_group_as_the_table_says(net: Network) -> None:
    steps: list[tuple[int, int]] = []
    found = suggest(net, dyadic_inputs(net, 30), 1e-3, 10_000, lambda done, total: steps.append((done, total)))
    hardened = harden(net, found.policy)
    for choice in found.choices:
        p = next(p for p in hardened.parameters.values() if (p.layer, p.role) == (choice.layer, choice.role))
        assert p.encoding.bits == choice.way.changes["bits"]
    assert steps == [(i, len(found.choices)) for i in range(len(found.choices) + 1)]


def test_too_little_memory_is_named_with_the_least(net: Network) -> None:
    with pytest.raises(InputError, match=r"--memory 10: the parameters take at least [0-9]+ bytes"):
        suggested(net, 10)


def test_a_network_without_floats_is_refused() -> None:
    net = harden(Author((1, 1, 3)).affine().network())
    with pytest.raises(InputError, match="has no float32 parameter"):
        suggest(net, np.zeros((2, 1, 1, 3), np.float32), 1e-3, 1000)
