"""Which parts of the engine a network needs: its *features*, the operations of its plan and the kernels for them.

Firmware is compiled for these alone (ZOB_OPS, ZOB_KERNELS), and its sizes are stored by them (`audit.prediction`).
"""

from __future__ import annotations

from zobnn_edge import format as fmt
from zobnn_edge import plan as planner
from zobnn_edge.encoding import Binary, Encoding, Float32, Int32, Uniform
from zobnn_edge.image import ParameterImage
from zobnn_edge.layout import decides, fuse
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.operations import (
    Add,
    Affine,
    AveragePool,
    Clip,
    Conv,
    Dequantize,
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    PRelu,
    Sign,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import window_geometry
from zobnn_edge.work import Work, counts_ones, never_counts

FEATURES = (*fmt.OPCODES, *fmt.KERNELS)
_COPIED = (Affine, PRelu, Clip, Sign, LowBit, Threshold, Add, Mul, Unpack, Dequantize)
_HALF_WORD = 16
_BYTE = 8


def features(model: Model) -> frozenset[str]:
    """What a network needs of the engine."""
    net, work = model.network, model.work
    found = {planner.opcode(op) for op in net.ops} | _of_parameters(net, model.prefer)
    for group in fuse(net):
        found |= _of_group(net, group, work.get(group[0].name), model.image)
        if model.prefer == "speed" and group[0].name in work and _scales_sums(net, group):
            found.add("coded_scales")
    return frozenset(found)


def masks(wanted: frozenset[str]) -> tuple[int, int]:
    """The masks of operations and of kernels (ZOB_OPS, ZOB_KERNELS) that stand for features."""
    ops = sum(1 << code for name, code in fmt.OPCODES.items() if name in wanted)
    return ops, sum(bit for name, bit in fmt.KERNELS.items() if name in wanted)


def _is_plain(encoding: Encoding) -> bool:
    """Whether codes are decoded without corrections, and with a scale that lies in the plan."""
    return isinstance(encoding, (Float32, Binary, Int32)) or _is_coded(encoding)


def _is_coded(encoding: Encoding) -> bool:
    return isinstance(encoding, Uniform) and encoding.scales == "flash"


def _of_parameters(net: Network, prefer: planner.Preference) -> set[str]:
    encodings = [p.encoding for p in net.parameters.values()]
    coded = [encoding for encoding in encodings if isinstance(encoding, Uniform) and _is_coded(encoding)]
    found = {"codes"} if coded else set()
    if any(encoding.bits != _BYTE for encoding in coded):
        found.add("codes_any")
    if prefer == "speed":
        found |= {f"codes_{encoding.bits}" for encoding in coded} & set(fmt.KERNELS)
    return found if all(map(_is_plain, encodings)) else found | {"protected"}


def _of_group(net: Network, group: tuple[Op, ...], work: Work | None, image: ParameterImage) -> set[str]:
    """The kernels that compute a group of fused operations; `work`: of a binary convolution."""
    head = group[0]
    source, target = (net.tensors[name].kind for name in (head.input, head.output))
    if target == "int8":
        return {"int8"}
    if work:
        return _of_bits(net, group, work)
    if isinstance(head, (MaxPool, AveragePool)):
        return {"real_pool"} if source == "real" else set()
    if not isinstance(head, Conv):
        return {"copy"} if isinstance(head, _COPIED) else set()
    if source == "real":
        return {"dense"} if _is_dense(net, head) else {"real_conv"}
    found = {"bytes_apart"} if head.groups != 1 or head.dilation[1] != 1 else set()
    found.add("intervals" if decides(net, group) else "code_sums")
    if isinstance(net.parameters[head.weight].encoding, Binary):
        return found | {"sign_conv"}
    return found | ({"code_conv"} if _are_bytes(image, head.weight) else {"code_conv", "code_fields"})


def _is_dense(net: Network, op: Conv) -> bool:
    """Whether a convolution has one output pixel, for which every filter reads all of the input."""
    _, *kernel, _ = net.parameters[op.weight].shape
    (height, width, _), out = net.tensors[op.input].shape, net.tensors[op.output].shape
    _, pad = window_geometry((height, width), (height, width), op.stride, op.padding)
    covers = kernel == [height, width] and op.groups == 1 and op.dilation == (1, 1)
    return covers and pad == (0, 0) and out[:2] == (1, 1)


def _scales_sums(net: Network, group: tuple[Op, ...]) -> bool:
    """Whether the first thing done to a convolution's sums is a multiplication by values of codes."""
    step = group[1] if len(group) > 1 else None
    return isinstance(step, Affine) and step.scale is not None and _is_coded(net.parameters[step.scale].encoding)


def _are_bytes(image: ParameterImage, weight: str) -> bool:
    """Whether weights are plain bytes that can be read four at a time from any one on."""
    region = image.region(weight)
    plain = _is_coded(region.encoding) and region.encoding.bits == 8
    return plain and region.offset + region.count + 3 <= len(image.data)


def _of_bits(net: Network, group: tuple[Op, ...], work: Work) -> set[str]:
    """The kernels of a binary convolution."""
    head, *steps = group
    assert isinstance(head, (Conv, GatedConv))
    found = {"bits_conv"} if never_counts(net, head, work) else {"bits_conv", "count"}
    if work.algorithm == "table":
        found |= {"table", "halves"} if net.parameters[head.weight].shape[3] <= _HALF_WORD else {"table"}
        if isinstance(head, GatedConv) or len(steps) != 1 or not isinstance(steps[0], (Sign, Threshold)):
            found.add("table_sums")
    if head.padding != "valid":
        found.add("ones_outside" if isinstance(head, Conv) and head.pad_value else "none_outside")
    if counts_ones(net, head, work):
        found.add("ones_counted")
    limits = (
        [head.threshold] if isinstance(head, GatedConv) else [s.threshold for s in steps if isinstance(s, Threshold)]
    )
    if any(_is_coded(net.parameters[name].encoding) for name in limits):
        found.add("coded_limits")
    if isinstance(head, Conv) and len(steps) > 1 and net.tensors[group[-1].output].kind == "binary":
        found |= {"limits", "searched_limits"}
    if isinstance(head, GatedConv) or (len(steps) == 1 and isinstance(steps[0], (Sign, Threshold))):
        found.add("limits")
    return found
