"""Which parts of the engine a network runs: what its operations ask for, and what they never enter.

A *feature* is an operation on a kind of tensor, in one way of computing it. Stored sizes (`prediction`) are by feature;
the worst case of the stack leaves out the functions that belong to features the network does not have.
"""

from __future__ import annotations

from zobnn_edge.encoding import Binary
from zobnn_edge.layout import decides, fuse
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.operations import Conv, GatedConv, MaxPool, Op
from zobnn_edge.work import Work

ENTERED_BY = {
    "zob_conv_binary": "conv binary",
    "zob_conv_gated": "gatedconv",
    "zob_block_count": "count",
    "zob_block_table": "table",
    "zob_conv_real": "conv real",
    "zob_conv_bytes": "conv int8",
    "zob_block_of_signs": "conv int8 binary",
    "zob_block_of_codes": "conv int8 uniform",
    "zob_find_intervals": "intervals",
    "zob_int8": "int8 result",
    "zob_pool_binary": "maxpool binary",
    "zob_pool_real": "pool real",
    "zob_softmax": "softmax",
    "zob_thermometer": "thermometer",
    "zob_dynamic_range": "dynamicrange",
    "zob_concat": "concat",
    "zob_pad": "pad",
}
"""Functions of the engine that run only for networks with a feature."""


def features(model: Model) -> frozenset[str]:
    """What a network asks of the engine."""
    net, work = model.network, model.work
    found = {feature for op in net.ops for feature in _of_op(net, op, work)}
    if any(decides(net, group) for group in fuse(net)):
        found.add("intervals")
    return frozenset(found)


def never_entered(model: Model) -> frozenset[str]:
    """Functions of the engine that this network does not enter."""
    wanted = features(model)
    return frozenset(function for function, feature in ENTERED_BY.items() if feature not in wanted)


def _of_op(net: Network, op: Op, work: dict[str, Work]) -> set[str]:
    name, kind = type(op).__name__.lower(), net.tensors[op.input].kind
    found = {name}
    if name in ("conv", "maxpool", "averagepool"):
        found = {f"{name} {kind}"}
    if op.name in work:
        found.add(work[op.name].algorithm)
        # Tables that a core's memory does not do for are counted after all.
        found.add("count")
    if isinstance(op, Conv) and kind == "int8":
        found.add(f"conv int8 {'binary' if isinstance(net.parameters[op.weight].encoding, Binary) else 'uniform'}")
    if isinstance(op, GatedConv):
        found.add("gated " + work[op.name].algorithm)
    if name in ("maxpool", "averagepool") and kind == "real":
        found.add("pool real")
    if net.tensors[op.output].kind == "int8" and not (isinstance(op, MaxPool) and kind != "int8"):
        found.add("int8 result")
    return found
