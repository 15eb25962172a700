"""Which parts of the engine a network needs: the features by which stored sizes are kept (`prediction`).

A *feature* is an operation of a firmware's plan or a kernel (`plan.needs`). The engine is compiled for these alone.
"""

from __future__ import annotations

from zobnn_edge import format as fmt
from zobnn_edge import plan as planner
from zobnn_edge.model_file import Model

FEATURES = (*fmt.OPCODES, *fmt.KERNELS)


def features(model: Model) -> frozenset[str]:
    """What a network needs of the engine."""
    ops, kernels = planner.needs(model.plan)
    found = {name for name, code in fmt.OPCODES.items() if ops >> code & 1}
    return frozenset(found | {name for name, bit in fmt.KERNELS.items() if kernels & bit})


def masks(wanted: frozenset[str]) -> tuple[int, int]:
    """The masks of operations and of kernels (ZOB_OPS, ZOB_KERNELS) that stand for features."""
    ops = sum(1 << code for name, code in fmt.OPCODES.items() if name in wanted)
    return ops, sum(bit for name, bit in fmt.KERNELS.items() if name in wanted)
