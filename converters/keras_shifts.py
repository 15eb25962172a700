"""Shifts of channels that another shift can carry: fewer parameters to store, to compute with and to protect.

`scale * x + a + b` needs one parameter for `a + b`, and `scale * ((x + a) + other) + b` one for `scale * a + b`. The
sums are taken in double precision and rounded once, so scores change by roundings only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.network import Network, rebuilt
from zobnn_edge.operations import Add, Affine, Op


def merge_shifts(net: Network) -> Network:
    """The network with each shift by constants of one channel merged into the affine before it or after it."""
    merged: Network | None = net
    while merged is not None:
        net = merged
        merged = next((m for op in net.ops if (m := _into_the_one_before(net, op) or _behind_a_sum(net, op))), None)
    return net


def _into_the_one_before(net: Network, shift: Op) -> Network | None:
    """affine, shift -> affine"""
    before = net.producer(shift.input)
    if not _is_shift(net, shift) or not isinstance(before, Affine) or before.bias is None:
        return None
    if not _private(net, before) or not _has_own_bias(net, before):
        return None
    assert isinstance(shift, Affine)
    assert shift.bias
    total = net.parameters[before.bias].values.astype(np.float64) + net.parameters[shift.bias].values
    return _without(net, shift, {before.name: replace(before, output=shift.output)}, before.bias, total)


def _behind_a_sum(net: Network, shift: Op) -> Network | None:
    """shift, sum with another tensor, affine -> sum, affine"""
    if not _is_shift(net, shift) or not _private(net, shift):
        return None
    (total,) = net.consumers(shift.output)
    if not isinstance(total, Add) or not _private(net, total):
        return None
    (after,) = net.consumers(total.output)
    if not isinstance(after, Affine) or after.bias is None or not _has_own_bias(net, after):
        return None
    assert isinstance(shift, Affine)
    assert shift.bias
    scale = net.parameters[after.scale].values.astype(np.float64) if after.scale else after.gain
    value = scale * net.parameters[shift.bias].values + net.parameters[after.bias].values
    changed = replace(
        total,
        input=shift.input if total.input == shift.output else total.input,
        other=shift.input if total.other == shift.output else total.other,
    )
    return _without(net, shift, {total.name: changed}, after.bias, value)


def _is_shift(net: Network, op: Op) -> bool:
    return isinstance(op, Affine) and op.scale is None and op.gain == 1 and op.bias is not None


def _private(net: Network, op: Op) -> bool:
    """One operation reads its output, once."""
    readers = net.consumers(op.output)
    return len(readers) == 1 and readers[0].inputs.count(op.output) == 1 and op.output != net.output


def _has_own_bias(net: Network, op: Affine) -> bool:
    return sum(op.bias in other.parameters for other in net.ops) == 1


def _without(net: Network, shift: Op, changes: dict[str, Op], bias: str, value: NDArray[np.float64]) -> Network:
    """`net` without a shift, with other operations of the same names, and with another value of a bias."""
    parameters = dict(net.parameters)
    parameters[bias] = replace(parameters[bias], values=np.asarray(value, np.float32))
    ops = [changes.get(op.name, op) for op in net.ops if op != shift]
    return rebuilt(net, ops, parameters)
