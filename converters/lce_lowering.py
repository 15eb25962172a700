"""Operations that TFLite and LCE do not know, as ones that they do. The scores stay the same, bit for bit."""

from __future__ import annotations

from dataclasses import replace

from zobnn_edge.errors import ModelError
from zobnn_edge.network import Network, rebuilt
from zobnn_edge.operations import Add, Affine, Clip, Conv, GatedConv, LowBit, MaxPool, Mul, Op, Sign, Threshold, Unpack
from zobnn_edge.shapes import extent


def as_tflite_knows(net: Network) -> Network:
    """The network without `GatedConv`, `LowBit` and "half" padding; raises ModelError for what cannot be written."""
    ops: list[Op] = []
    for op in net.ops:
        if isinstance(op, LowBit):
            ops += _low_bit(op)
        elif isinstance(op, GatedConv):
            for part in _gated(op):
                ops += _padded(net, part)
        else:
            ops += _padded(net, op)
    return net if tuple(ops) == net.ops else rebuilt(net, ops, net.parameters)


def covered(net: Network, op: Conv) -> tuple[int, int]:
    """(height, width) that a window covers."""
    _, height, width, _ = net.parameters[op.weight].shape
    return extent((height, width), op.dilation)


def _low_bit(op: LowBit) -> list[Op]:
    """sign(x - bound * sign(x))"""
    at = op.output
    return [
        Sign(f"{op.name}/step/high", op.input, f"{at}/step/high"),
        Unpack(f"{op.name}/step/unpack", f"{at}/step/high", f"{at}/step/unpack"),
        Affine(f"{op.name}/step/bound", f"{at}/step/unpack", f"{at}/step/bound", gain=-op.bound),
        Add(f"{op.name}/step/rest", op.input, f"{at}/step/rest", f"{at}/step/bound"),
        Sign(op.name, f"{at}/step/rest", at),
    ]


def _gated(op: GatedConv) -> list[Op]:
    """2 h + l * (0 or 1)"""
    at, window = op.output, {"stride": op.stride, "padding": op.padding}
    return [
        Conv(f"{op.name}/step/high", op.input, f"{at}/step/high", op.weight, **window),  # type: ignore[arg-type]
        Affine(f"{op.name}/step/double", f"{at}/step/high", f"{at}/step/double", gain=2.0),
        Threshold(f"{op.name}/step/exceeds", f"{at}/step/high", f"{at}/step/exceeds", op.threshold),
        Unpack(f"{op.name}/step/unpack", f"{at}/step/exceeds", f"{at}/step/unpack"),
        Clip(f"{op.name}/step/gate", f"{at}/step/unpack", f"{at}/step/gate"),
        Conv(f"{op.name}/step/low", op.other, f"{at}/step/low", op.weight, **window),  # type: ignore[arg-type]
        Mul(f"{op.name}/step/gated", f"{at}/step/low", f"{at}/step/gated", f"{at}/step/gate"),
        Add(op.name, f"{at}/step/double", at, f"{at}/step/gated"),
    ]


def _padded(net: Network, op: Op) -> list[Op]:
    """ "half" padding as "same" with stride 1 and a 1x1 pool that keeps every n-th: it computes more than it keeps."""
    if getattr(op, "padding", "") != "half":
        return [op]
    if not isinstance(op, Conv) or any(k % 2 == 0 for k in covered(net, op)):
        raise ModelError(f"{op.name}: half padding of an even kernel or of a pool has no counterpart in TFLite")
    if op.stride == (1, 1):
        return [replace(op, padding="same")]
    whole = replace(op, output=f"{op.output}/whole", stride=(1, 1), padding="same")
    return [whole, MaxPool(f"{op.name}/strided", whole.output, op.output, (1, 1), op.stride)]
