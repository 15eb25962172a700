"""The search for the worst bits: what it judges by, and that it finds what is worst."""

from __future__ import annotations

import numpy as np

from tests.networks import binary_chain, dyadic_inputs
from zobnn_edge.faults.space import Addresses, Filter
from zobnn_edge.faults.worst_case import Harm, Judge, search
from zobnn_edge.model_file import Model
from zobnn_edge.targets.host import HostTarget

NAN = float("nan")


def test_harm_is_bounded_and_nan_is_the_worst() -> None:
    golden = np.array([[3, 1, 0], [0, 2, 1]], np.float32)
    judge = Judge.of(golden, np.array([0, 1]))
    fine = judge(golden)
    close = judge(np.array([[1.1, 1, 0], [0, 2, 1]], np.float32))
    wrong = judge(np.array([[0, 1, 0], [0, 2, 1]], np.float32))
    huge = judge(np.array([[0, np.inf, 0], [0, 2, 1]], np.float32))
    lost = judge(np.array([[NAN, NAN, NAN], [NAN, 2, 1]], np.float32))
    assert fine < close < wrong < huge < lost == Harm(1.0, 2)
    assert (fine.wrong, close.wrong, wrong.wrong, huge.wrong) == (0, 0, 1, 1)


def test_each_bit_is_the_worst_together_with_those_before() -> None:
    """With harms that add up: the worst bits in order, whatever the order in which they are tried."""
    space = Filter().of(Model.of(binary_chain(1)).image)
    rng = np.random.default_rng(0)
    weight = dict(zip(space.addresses(np.arange(space.size)).tolist(), rng.random(space.size), strict=True))

    def harm_of(addresses: Addresses) -> Harm:
        return Harm(sum(weight[a] for a in addresses.tolist()), 0)

    worst = sorted(weight, key=lambda a: -weight[a])
    assert [step.address for step in search(space, harm_of, 6, space.size)] == worst[:6]
    few = list(search(space, harm_of, 3, 100, seed=4))
    assert len({step.address for step in few}) == 3
    assert [s.address for s in search(space, harm_of, 3, 100, seed=4)] == [s.address for s in few]
    assert len(list(search(space, harm_of, 9, 4))) == 4


def test_the_worst_bit_of_a_float_network_is_worse_than_all_others_tried() -> None:
    model = Model.of(binary_chain(1))
    target = HostTarget(model)
    x = dyadic_inputs(model.network, 8)
    target.put_inputs(x)
    golden = target.run().scores
    judge = Judge.of(golden, golden.argmax(axis=1))
    target.expect_many_runs()

    def harm_of(addresses: Addresses) -> Harm:
        target.invert(addresses)
        scores = target.run().scores
        target.restore()
        return judge(scores)

    space = Filter(types=("S",), bits=(30, 31)).of(model.image)
    (step,) = search(space, harm_of, 1, space.size)
    everything = [harm_of(np.array([a])) for a in space.addresses(np.arange(space.size)).tolist()]
    assert step.harm == max(everything)
    assert step.harm.wrong >= 2
