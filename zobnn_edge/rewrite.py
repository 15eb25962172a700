"""Rewrites of a network that do not change what it computes: its fault-free scores stay the same, bit for bit.

Every rule takes a network and returns an equivalent one, or None where it finds nothing to do; `simplify` applies them
until none does. They are for importers: networks as people train them pool real sums before batch norm and flatten
before dense layers, which keeps float32 activations where one bit an element is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from zobnn_edge.encoding import Binary, Float32
from zobnn_edge.network import Network, Pixels, rebuilt
from zobnn_edge.operations import (
    Add,
    Affine,
    Clip,
    Concat,
    Conv,
    Dequantize,
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    PRelu,
    Quantize,
    Reshape,
    Sign,
    Threshold,
    Unpack,
)
from zobnn_edge.shapes import MAX_WHOLE_SUM, extent, is_whole, largest_sum
from zobnn_edge.tensor import Parameter, Quantization, Shape

Rule = Callable[[Network], "Network | None"]


def simplify(net: Network) -> Network:
    """The network after all rules, with its operations in the order in which they fuse best."""
    changed = True
    while changed:
        changed = False
        for rule in RULES:
            better = rule(net)
            if better is not None:
                net, changed = better, True
    return in_chains(net)


def without_dead_ops(net: Network) -> Network | None:
    """Drop an operation whose output nobody reads."""
    for op in net.ops:
        if op.output != net.output and not net.consumers(op.output):
            return rebuilt(net, [other for other in net.ops if other != op], net.parameters)
    return None


def without_identities(net: Network) -> Network | None:
    """Drop a reshape to the same shape, a reshape of a reshape, and the sign of an unpacked tensor."""
    for op in net.ops:
        before = net.producer(op.input)
        if isinstance(op, Reshape) and isinstance(before, Reshape):
            ops = [replace(op, input=before.input) if other == op else other for other in net.ops]
            return rebuilt(net, ops, net.parameters)
        same_shape = isinstance(op, Reshape) and op.shape == net.tensors[op.input].shape
        unpacked = isinstance(op, Sign) and isinstance(before, Unpack)
        if same_shape and op.output != net.output:
            return _bypassed(net, op, op.input)
        if unpacked and before is not None:
            return _bypassed(net, op, before.input)
    return None


def without_falling_scales(net: Network) -> Network | None:
    """max-pool, batch norm with negative scales, sign, binary convolutions -> the same with scales that are not.

    The channels of negative scales are negated before the sign and in the weights that read them: products of two signs
    stay what they are. `scale * x + bias < 0` is `-scale * x >= -next(bias)`, where next is the next float32 above.
    """
    for affine in net.ops:
        if not isinstance(affine, Affine) or not isinstance(net.producer(affine.input), MaxPool):
            continue
        signs = net.consumers(affine.output)
        if affine.scale is None or affine.bias is None or affine.output == net.output or len(signs) != 1:
            continue
        sign = signs[0]
        if not isinstance(sign, Sign) or sign.output == net.output:
            continue
        scale, bias = net.parameters[affine.scale], net.parameters[affine.bias]
        readers = net.consumers(sign.output)
        used = [*affine.parameters, *(name for conv in readers for name in conv.parameters)]
        if not all(_takes_negated_channels(op) for op in readers) or not all(_users(net, name) == 1 for name in used):
            continue
        falling = scale.values < 0
        if not falling.any() or (scale.encoding, bias.encoding) != (Float32(), Float32()):
            continue
        flip = np.where(falling, np.float32(-1), np.float32(1))
        parameters = dict(net.parameters)
        above = -np.nextafter(bias.values, np.float32(np.inf))
        parameters[scale.name] = replace(scale, values=scale.values * flip)
        parameters[bias.name] = replace(bias, values=np.where(falling, above, bias.values))
        for conv in readers:
            for name in conv.parameters:
                weight = parameters[name]
                parameters[name] = replace(weight, values=weight.values * flip)
        return rebuilt(net, list(net.ops), parameters)
    return None


def sign_before_pool(net: Network) -> Network | None:
    """max-pool, rising functions, sign -> rising functions, sign, max-pool of bits.

    The maximum commutes with every function that never falls, and float32 operations with a scale, or slope, that is
    not negative never fall, rounded or not. A single negative scale forbids it. Holds for finite sums and parameters.
    """
    for pool in net.ops:
        if not isinstance(pool, MaxPool) or net.tensors[pool.input].kind != "real":
            continue
        chain = _chain(net, pool.output, lambda op: _never_falls(net, op))
        ends = [i for i, op in enumerate(chain) if isinstance(op, (Sign, Threshold))]
        if not ends:
            continue
        chain = chain[: ends[0] + 1]
        final = chain[-1].output
        moved: list[Op] = []
        source = pool.input
        for op in chain:
            moved.append(replace(op, input=source, output=f"{op.output}/unpooled"))
            source = moved[-1].output
        return _spliced(net, [pool, *chain], [*moved, replace(pool, input=source, output=final)])
    return None


def without_flattening(net: Network) -> Network | None:
    """Flatten, 1x1 convolutions -> convolutions whose kernels cover the unflattened tensor.

    Signs, unpackings and clips between them see the unflattened tensor too, so that it can be one bit an element. The
    kernels keep their elements in order (a flattened tensor is row-major, as are kernels), so real sums keep theirs.
    """
    for flatten in net.ops:
        if not isinstance(flatten, Reshape) or flatten.shape[:2] != (1, 1):
            continue
        chain = _chain(net, flatten.output, lambda op: isinstance(op, (Sign, Unpack, Clip)))
        end = chain[-1].output if chain else flatten.output
        convs = net.consumers(end)
        if end == net.output or not convs or not all(_is_own_pointwise(net, op) for op in convs):
            continue
        shape = net.tensors[flatten.input].shape
        parameters = dict(net.parameters)
        changes: dict[Op, Op] = {}
        for conv in convs:
            assert isinstance(conv, Conv)
            parameters[conv.weight] = _unflattened(net.parameters[conv.weight], shape)
            changes[conv] = replace(conv, stride=(1, 1), padding="valid", pad_value=0)
        if chain:
            changes[chain[0]] = replace(chain[0], input=flatten.input)
        else:
            changes = {old: replace(new, input=flatten.input) for old, new in changes.items()}
        ops = [changes.get(op, op) for op in net.ops if op != flatten]
        return rebuilt(net, ops, parameters)
    return None


def strided(net: Network) -> Network | None:
    """A convolution of stride 1, then every n-th pixel of it (a 1x1 pool) -> a convolution of stride n.

    The kernel must be odd and the padding on every side, so that both look at the same windows.
    """
    for pool in net.ops:
        if not isinstance(pool, MaxPool) or pool.size != (1, 1) or pool.padding != "valid":
            continue
        conv = net.producer(pool.input)
        if not isinstance(conv, Conv) or len(net.consumers(conv.output)) != 1 or conv.stride != (1, 1):
            continue
        _, height, width, _ = net.parameters[conv.weight].shape
        if conv.padding == "valid" or not all(k % 2 for k in extent((height, width), conv.dilation)):
            continue
        joined = replace(conv, output=pool.output, stride=pool.stride, padding="half")
        return rebuilt(net, [joined if op == conv else op for op in net.ops if op != pool], net.parameters)
    return None


def low_bits(net: Network) -> Network | None:
    """sign(x - bound * sign(x)) -> LowBit. A difference of floats is below 0 just where the one is below the other."""
    for low in net.ops:
        rest = net.producer(low.input) if isinstance(low, Sign) else None
        if not isinstance(rest, Add):
            continue
        for x, other in (rest.inputs, rest.inputs[::-1]):
            chain = _producers(net, other, (Affine, Unpack, Sign))
            if chain is None or chain[2].input != x:
                continue
            step = chain[0]
            if isinstance(step, Affine) and not step.parameters and step.gain < 0:
                joined = LowBit(low.name, x, low.output, -step.gain)
                return rebuilt(net, [joined if op == low else op for op in net.ops], net.parameters)
    return None


def gates(net: Network) -> Network | None:
    """2 h + l * (h exceeds its threshold ? 1 : 0), h and l convolutions with the same weights -> GatedConv."""
    for total in net.ops:
        if not isinstance(total, Add):
            continue
        for double, gated in (total.inputs, total.inputs[::-1]):
            doubled, product = net.producer(double), net.producer(gated)
            if not isinstance(doubled, Affine) or doubled.parameters or doubled.gain != 2:
                continue
            if not isinstance(product, Mul):
                continue
            for fine, gate in (product.inputs, product.inputs[::-1]):
                joined = _gate(net, total, net.producer(doubled.input), net.producer(fine), gate)
                if joined is not None:
                    return rebuilt(net, [joined if op == total else op for op in net.ops], net.parameters)
    return None


def _gate(net: Network, total: Op, high: Op | None, low: Op | None, gate: str) -> GatedConv | None:
    chain = _producers(net, gate, (Clip, Unpack, Threshold))
    if chain is None or not isinstance(high, Conv) or not isinstance(low, Conv):
        return None
    clip, _, threshold = chain
    plain = high.groups == 1 and high.dilation == (1, 1) and (high.pad_value == 0 or high.padding == "valid")
    alike = replace(high, name=low.name, input=low.input, output=low.output) == low
    binary = net.tensors[high.input].kind == net.tensors[low.input].kind == "binary"
    if not (plain and alike and binary and isinstance(clip, Clip) and isinstance(threshold, Threshold)):
        return None
    if (clip.low, clip.high) not in ((0, 1), (0, np.inf)) or threshold.input != high.output:
        return None
    planes = (high.input, total.output, low.input)
    return GatedConv(total.name, *planes, high.weight, threshold.threshold, high.stride, high.padding)


def in_chains(net: Network) -> Network:
    """The same operations ordered so that one which works element by element directly follows what it continues.

    Only neighbours can be fused; of a residual addition, the branch that is computed last is the one it joins.
    """
    waiting = list(net.ops)
    ready = {net.input}
    ordered: list[Op] = []
    while waiting:
        runnable = [op for op in waiting if ready.issuperset(op.inputs)]
        follower = [op for op in runnable if ordered and ordered[-1].output in op.inputs and isinstance(op, _STEPS)]
        op = (follower or runnable)[0]
        waiting.remove(op)
        ordered.append(op)
        ready.add(op.output)
    return rebuilt(net, ordered, net.parameters)


def on_bytes(net: Network) -> Network | None:
    """A real input -> an int8 one, where only convolutions with whole weights read it.

    The scores of pixels are equal where float32 holds the sums, which are below 2^24 with codes of few bits; larger
    ones are rounded once instead of at every product. None where pixels stand for no numbers in steps of a power of
    two, where sums might not fit, and for a network with the default `Pixels()`: its inputs need not be pixels.
    Float32 inputs are rounded to pixels; hence no rule of `simplify`.
    """
    quantization = net.pixels.quantization()
    if net.tensors[net.input].kind != "real" or quantization is None or net.pixels == Pixels():
        return None
    if not all(_sums_bytes(net, op, quantization) for op in net.consumers(net.input)):
        return None
    return _reading_bytes(net, list(net.ops), quantization)


def rounded_input(net: Network) -> Network | None:
    """The input rounded to int8 and back, then convolutions with whole weights -> an int8 input.

    Its steps are a power of two; exact as `on_bytes` is. So a flatbuffer that was written of an int8 input comes back.
    """
    quantize = next(iter(net.consumers(net.input)), None)
    if not isinstance(quantize, Quantize) or np.frexp(quantize.to.scale)[0] != 0.5:
        return None
    chain = _chain(net, net.input, lambda op: isinstance(op, (Quantize, Dequantize)))
    convs = net.consumers(chain[-1].output) if len(chain) == 2 else []
    if not convs or chain[-1].output == net.output or not all(_sums_bytes(net, op, quantize.to) for op in convs):
        return None
    ops = [replace(op, input=net.input) if op in convs else op for op in net.ops if op not in chain]
    return _reading_bytes(net, ops, quantize.to)


def _sums_bytes(net: Network, op: Op, inputs: Quantization) -> bool:
    """Whether an operation is a convolution that could add up int8 inputs in integers."""
    if not isinstance(op, Conv) or op.pad_value != 0:
        return False
    weight = net.parameters[op.weight]
    return is_whole(weight.encoding) and largest_sum(inputs, weight) < MAX_WHOLE_SUM


def _reading_bytes(net: Network, ops: list[Op], inputs: Quantization) -> Network:
    """`net` with an int8 input and other operations."""
    source = replace(net.tensors[net.input], kind="int8", quantization=inputs)
    return rebuilt(replace(net, tensors={**net.tensors, net.input: source}), ops, net.parameters)


RULES: tuple[Rule, ...] = (
    rounded_input,
    without_dead_ops,
    without_identities,
    strided,
    low_bits,
    gates,
    without_falling_scales,
    sign_before_pool,
    without_flattening,
)
_STEPS = (Affine, PRelu, Clip, Sign, LowBit, Threshold, Add, Mul)


def _producers(net: Network, tensor: str, kinds: tuple[type, ...]) -> list[Op] | None:
    """The operations that make a tensor, one after the other from it upwards, if they are of these kinds."""
    chain: list[Op] = []
    for kind in kinds:
        op = net.producer(tensor)
        if not isinstance(op, kind):
            return None
        chain.append(op)  # type: ignore[arg-type]
        tensor = op.input  # type: ignore[union-attr]
    return chain


def _chain(net: Network, tensor: str, belongs: Callable[[Op], bool]) -> list[Op]:
    """The operations after `tensor`, each the only reader of the one before, as long as they belong."""
    chain: list[Op] = []
    while tensor != net.output:
        readers = net.consumers(tensor)
        if len(readers) != 1 or len(readers[0].inputs) != 1 or not belongs(readers[0]):
            break
        chain.append(readers[0])
        tensor = readers[0].output
    return chain


def _never_falls(net: Network, op: Op) -> bool:
    """True for a function of one element, the same for every pixel, that is monotone in float32."""
    if isinstance(op, (Clip, Sign)):
        return True
    channels = net.tensors[op.input].shape[2:]
    values = [net.parameters[name].values for name in op.parameters]
    if not all(np.isfinite(v).all() and v.shape == channels for v in values):
        return False
    if isinstance(op, Affine):
        return op.gain >= 0 and (op.scale is None or bool((net.parameters[op.scale].values >= 0).all()))
    if isinstance(op, PRelu):
        return bool((net.parameters[op.slope].values >= 0).all())
    return isinstance(op, Threshold)


def _users(net: Network, parameter: str) -> int:
    """How many operations use a parameter."""
    return sum(parameter in op.parameters for op in net.ops)


def _takes_negated_channels(op: Op) -> bool:
    """True for a convolution whose weights can be negated for some channels of its input: it never reads a padded 1."""
    return isinstance(op, Conv) and op.groups == 1 and (op.padding == "valid" or op.pad_value == 0)


def _is_own_pointwise(net: Network, op: Op) -> bool:
    """True for a 1x1 convolution whose weights no other operation uses."""
    if not isinstance(op, Conv) or net.parameters[op.weight].shape[1:3] != (1, 1):
        return False
    return _users(net, op.weight) == 1


def _unflattened(weight: Parameter, shape: Shape) -> Parameter:
    """Weights (out, 1, 1, h * w * c) as (out, h, w, c); packed rows become as long as the channels are many."""
    encoding = weight.encoding
    if isinstance(encoding, Binary) and encoding.row:
        encoding = Binary(row=shape[2])
    return replace(weight, values=weight.values.reshape(-1, *shape), encoding=encoding)


def _spliced(net: Network, old: list[Op], new: list[Op]) -> Network:
    """`net` with the operations `old` taken out and `new` put where the last of them was."""
    ops: list[Op] = []
    for op in net.ops:
        if op == old[-1]:
            ops += new
        elif op not in old:
            ops.append(op)
    return rebuilt(net, ops, net.parameters)


def _bypassed(net: Network, gone: Op, source: str) -> Network:
    """`net` without an operation; who read its output reads `source`."""
    ops: list[Op] = []
    for op in net.ops:
        if op == gone:
            continue
        if op.input == gone.output:
            op = replace(op, input=source)
        if isinstance(op, (Add, Mul, Concat, GatedConv)) and op.other == gone.output:
            op = replace(op, other=source)
        ops.append(op)
    return rebuilt(net, ops, net.parameters)
