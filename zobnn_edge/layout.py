"""Laying a network out for the engine: which operations are fused, and where each tensor lies in the arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zobnn_edge import format as fmt
from zobnn_edge.encoding import Binary, Protected
from zobnn_edge.errors import ModelError
from zobnn_edge.network import Network
from zobnn_edge.operations import (
    Add,
    Affine,
    Clip,
    Conv,
    LowBit,
    Mul,
    Op,
    PRelu,
    Reshape,
    Sign,
    Softmax,
    Threshold,
)
from zobnn_edge.tensor import Parameter, Tensor
from zobnn_edge.work import Work, candidates, is_binary_conv, least

_STEPS = (Affine, PRelu, Clip, Sign, LowBit, Threshold, Add, Mul)
_TO_BINARY = (Sign, LowBit, Threshold)
_NO_STEPS_AFTER = (Softmax, Reshape, *_TO_BINARY)
_MORE = 4  # without a limit, tables may take the arena a quarter above the least possible


@dataclass(frozen=True)
class Block:
    """A piece of the arena: a stored tensor (with those that later take its place) or a group's scratch.

    It is in use from group `born` to group `dies`; the network's output outlives the last group.
    """

    name: str
    offset: int
    bytes: int
    born: int
    dies: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies: groups of fused operations, byte offsets of stored tensors and of scratch, arena size.

    `work` has the binary convolutions by name; `blocks` is what the arena is divided into.
    """

    groups: tuple[tuple[Op, ...], ...]
    offsets: dict[str, int]
    scratch: dict[str, int]
    arena_bytes: int
    work: Mapping[str, Work]
    blocks: tuple[Block, ...]


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in the arena."""
    h, w, c = tensor.shape
    return h * w * {"real": 4 * c, "binary": 4 * -(-c // 32), "int8": c}[tensor.kind]


def scratch_bytes(net: Network, group: tuple[Op, ...], work: Mapping[str, Work]) -> tuple[int, ...]:
    """Bytes that each operation of a group needs while it runs: decoded parameters, or what a convolution works in."""
    head, *steps = (_op_scratch(net, op, work) for op in group)
    if not decides(net, group):
        return head, *steps
    return head + _INTERVAL_BYTES * net.tensors[group[0].output].shape[2], *(0 for _ in steps)


def decides(net: Network, group: tuple[Op, ...]) -> bool:
    """Whether integers alone decide a group's bits (docs/spec.md, "Operations").

    So it is with a convolution over int8, a PReLU of one slope a channel or none, at most one affine, clips, and the
    sign or threshold.
    """
    head, *steps = group
    if not isinstance(head, Conv) or net.tensors[head.input].kind != "int8":
        return False
    if net.tensors[group[-1].output].kind != "binary" or sum(isinstance(op, Affine) for op in steps) > 1:
        return False
    channels = net.tensors[head.output].shape[2]
    if isinstance(steps[0], PRelu) and net.parameters[steps[0].slope].values.size == channels:
        steps = steps[1:]
    return all(isinstance(op, (Affine, Clip, Sign, Threshold)) for op in steps)


_INTERVAL_BYTES = 8


def _op_scratch(net: Network, op: Op, work: Mapping[str, Work]) -> int:
    if op.name in work:
        return work[op.name].bytes
    if isinstance(op, Conv):
        weight = net.parameters[op.weight]
        _, height, width, channels = weight.shape
        kind = net.tensors[op.input].kind
        if kind == "int8":
            quads = -(-height * width * channels // 4)
            # Of four pixels, in 16 bits: four taps and the sums of all signs of them; or four taps, and of the filter.
            per_quad = 8 * (4 + 16) if isinstance(weight.encoding, Binary) else 8 * (4 + 1)
            return quads * per_quad + _corrected_bytes(weight)
        return 4 * height * width * channels
    if net.tensors[op.input].kind == "int8":
        return 0  # integers are used as they are stored
    return sum(4 * net.parameters[p].values.size for p in op.parameters)


def _corrected_bytes(weight: Parameter) -> int:
    """Of protected codes that convolutions over int8 read: room for them as they would be stored without protection,
    in whole words, and a word behind them."""
    if not isinstance(weight.encoding, Protected):
        return 0
    return 4 * (-(-weight.values.size * weight.encoding.bits // 32) + 1)


def fuse(net: Network) -> tuple[tuple[Op, ...], ...]:
    """Group operations: one that works element by element joins the one before it, when nobody else reads that."""
    groups: list[list[Op]] = []
    for op in net.ops:
        last = groups[-1] if groups else []
        if last and _joins(net, last, op):
            if isinstance(op, (Add, Mul)) and op.other == last[-1].output:
                op = replace(op, input=op.other, other=op.input)
            last.append(op)
        else:
            groups.append([op])
    return tuple(tuple(group) for group in groups)


def _joins(net: Network, group: list[Op], op: Op) -> bool:
    before = group[-1]
    if not isinstance(op, _STEPS) or isinstance(before, _NO_STEPS_AFTER) or len(group) >= fmt.MAX_STEPS:
        return False
    if net.tensors[group[0].output].kind != "real":
        return False
    tensor = before.output
    if tensor == net.output or op.inputs.count(tensor) != 1:
        return False
    if op.input != tensor and net.tensors[op.input].shape != net.tensors[tensor].shape:
        return False  # a factor a channel cannot be the chain
    return len(net.consumers(tensor)) == 1


def choose(net: Network, arena_limit: int | None = None) -> dict[str, Work]:
    """The work of every binary convolution: the quickest with which the arena stays within `arena_limit` bytes.

    Without a limit that is a quarter more than the least arena with which the network runs. Where even that exceeds
    the limit, every convolution takes the least.
    """
    work = {op.name: least(net, op) for op in net.ops if is_binary_conv(op, net)}
    frugal = lay_out(net, work).arena_bytes
    room = allowed = frugal + frugal // _MORE if arena_limit is None else arena_limit
    while room > 0:
        chosen = _quickest(net, work, room)
        excess = lay_out(net, chosen).arena_bytes - allowed
        if excess <= 0:
            return chosen
        room -= excess  # blocks do not lie without gaps
    return work


def _quickest(net: Network, frugal: Mapping[str, Work], room: int) -> dict[str, Work]:
    """For each binary convolution the quickest work that fits `room` beside all that is live while it runs."""
    groups = fuse(net)
    born, dies, size = _lifetimes(net, groups, _owners(net, groups), frugal)
    chosen = dict(frugal)
    for step, group in enumerate(groups):
        op = group[0]
        if op.name in frugal and is_binary_conv(op, net):
            live = sum(size[b] for b in size if born[b] <= step <= dies[b]) - _aligned(frugal[op.name].bytes)
            fitting = (w for w in candidates(net, op) if live + w.bytes <= room)
            chosen[op.name] = next(fitting, frugal[op.name])
    return chosen


def lay_out(net: Network, work: Mapping[str, Work] | None = None) -> Layout:
    """Plan the arena: greedy by size, each block at the lowest offset free during its lifetime.

    `work` is that of the binary convolutions, by default what `choose` chooses.
    """
    work = choose(net) if work is None else work
    _check(net, work)
    groups = fuse(net)
    owner = _owners(net, groups)
    born, dies, size = _lifetimes(net, groups, owner, work)
    offsets: dict[str, int] = {}
    for name in sorted(size, key=lambda n: (-size[n], born[n])):
        busy = sorted(
            (offsets[o], offsets[o] + size[o]) for o in offsets if born[o] <= dies[name] and born[name] <= dies[o]
        )
        at = 0
        for start, end in busy:
            if at + size[name] <= start:
                break
            at = max(at, end)
        offsets[name] = at
    arena = max((offsets[n] + size[n] for n in size), default=0)
    scratch = {}
    for group in groups:
        at = offsets.get(f"scratch of {group[0].name}", 0)
        for op, need in zip(group, scratch_bytes(net, group, work), strict=True):
            scratch[op.name] = at if need else 0
            at += _aligned(need)
    blocks = tuple(Block(n, offsets[n], size[n], born[n], dies[n]) for n in offsets)
    return Layout(groups, {tensor: offsets[owner[tensor]] for tensor in owner}, scratch, arena, work, blocks)


def _check(net: Network, work: Mapping[str, Work]) -> None:
    """Every binary convolution, and nothing else, has work, and enough memory to count in."""
    convs = {op.name: op for op in net.ops if is_binary_conv(op, net)}
    for name in convs.keys() ^ work.keys():
        raise ModelError(f"{name}: {'no way to compute it' if name in convs else 'is no binary convolution'}")
    for name, op in convs.items():
        if work[name].bytes < least(net, op).bytes:
            raise ModelError(f"{name}: {work[name].bytes} bytes to work in; it needs {least(net, op).bytes}")


def _aligned(size: int) -> int:
    return -(-size // fmt.ALIGN) * fmt.ALIGN


def _owners(net: Network, groups: tuple[tuple[Op, ...], ...]) -> dict[str, str]:
    """For each stored tensor, the tensor in whose storage it lies: its own, or an earlier one's.

    A reshape stays where its input is. A group works in place where it reads, element by element, a tensor of the
    output's size that nobody reads later.
    """
    last = {t: step for step, group in enumerate(groups) for op in group for t in op.inputs}
    last[net.output] = len(groups)
    owner = {net.input: net.input}
    tenants = {net.input: [net.input]}
    for step, group in enumerate(groups):
        out = group[-1].output
        free = [t for t in _read_by_element(net, group) if all(last.get(x, 0) <= step for x in tenants[owner[t]])]
        if isinstance(group[0], Reshape):
            owner[out] = owner[group[0].input]
        else:
            taken = set() if isinstance(group[0], _STEPS) else {owner[t] for t in group[0].inputs}
            owner[out] = next((owner[t] for t in free if owner[t] not in taken), out)
        tenants.setdefault(owner[out], []).append(out)
    return owner


def _read_by_element(net: Network, group: tuple[Op, ...]) -> list[str]:
    """Real tensors, of the shape of the group's real output, that it reads at the element it writes."""
    out = net.tensors[group[-1].output]
    read = [group[0].input] if isinstance(group[0], _STEPS) else []
    read += [op.other for op in group if isinstance(op, (Add, Mul))]
    if out.kind != "real":
        return []
    return [t for t in read if net.tensors[t].kind == "real" and net.tensors[t].shape == out.shape]


def _lifetimes(
    net: Network, groups: tuple[tuple[Op, ...], ...], owner: dict[str, str], work: Mapping[str, Work]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """First group, last group and bytes of every block: stored tensors and each group's scratch."""
    born, dies, size = {net.input: 0}, {net.input: 0}, {net.input: _aligned(tensor_bytes(net.tensors[net.input]))}
    for step, group in enumerate(groups):
        for op in group:
            for tensor in op.inputs:
                if tensor in owner:
                    dies[owner[tensor]] = step
        out = group[-1].output
        dies[owner[out]] = step
        if owner[out] == out:
            born[out], dies[out], size[out] = step, step, _aligned(tensor_bytes(net.tensors[out]))
        need = sum(map(_aligned, scratch_bytes(net, group, work)))
        if need:
            name = f"scratch of {group[0].name}"
            born[name], dies[name], size[name] = step, step, need
    dies[owner[net.output]] = len(groups)
    return born, dies, size
