"""Which parts of the engine a network runs.

A *feature* is what a firmware's plan needs of the engine: an operation, or a kernel (`plan.needs`). The engine is
compiled for these alone. Stored sizes (`prediction`) are by feature; the worst case of the stack leaves out functions
that belong to features which the network does not have.
"""

from __future__ import annotations

from zobnn_edge import format as fmt
from zobnn_edge import plan as planner
from zobnn_edge.model_file import Model

_BYTES = ("code_conv", "sign_conv")
ENTERED_BY: dict[str, tuple[str, ...]] = {
    "zob_conv_binary": ("count",),
    "zob_conv_gated": ("gated_conv",),
    "zob_block_table": ("table",),
    "zob_conv_real": ("real_conv",),
    "zob_conv_bytes": _BYTES,
    "zob_block_of_signs": ("sign_conv",),
    "zob_block_of_codes": ("code_conv",),
    "zob_decides": _BYTES,
    "zob_find_intervals": _BYTES,
    "read_int8": ("int8", *_BYTES),
    "decode_codes": ("codes",),
    "limits_of_codes": ("coded_limits",),
    "fixed_ceilings": ("coded_limits",),
    "zob_int8": ("int8",),
    "zob_pool_binary": ("max_pool",),
    "zob_pool_real": ("max_pool", "average_pool"),
    "zob_softmax": ("softmax",),
    "zob_thermometer": ("thermometer",),
    "zob_dynamic_range": ("dynamic_range",),
    "zob_concat": ("concat",),
    "zob_pad": ("pad",),
}
"""Functions of the engine that are entered only for networks with one of some features."""
NEEDS = {"table": "count", "gated_conv": "count", "coded_limits": "count"}
"""A feature that comes with another."""
FEATURES = (*fmt.OPCODES, *fmt.KERNELS)


def features(model: Model) -> frozenset[str]:
    """What a network needs of the engine."""
    ops, kernels = planner.needs(model.plan)
    found = {name for name, code in fmt.OPCODES.items() if ops >> code & 1}
    return frozenset(found | {name for name, bit in fmt.KERNELS.items() if kernels & bit})


def without(wanted: frozenset[str]) -> frozenset[str]:
    """Functions of the engine that networks with these features do not enter."""
    return frozenset(function for function, needed in ENTERED_BY.items() if not wanted & set(needed))
