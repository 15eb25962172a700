"""ZOBNN hardening: real-valued parameters become few-bit codes of a deliberately restricted range (docs/method.md).

Reciprocity is carried out here, once, so that the plan has no work left for it:
- batch norm before a sign becomes a threshold, with a rising PReLU before it (`fold_thresholds`): one comparison, no
  multiplication;
- filters of real weights get one size, so that their codes are equally fine; the factor moves into what follows;
- the scale of coded weights moves into the affine or threshold behind them: weights are the integers `q - zero_point`;
- a factor that all scores share at the end vanishes, if the policy lets their unit go (`scores = "ranked"`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zobnn_edge import ranges
from zobnn_edge.encoding import Float32, FloatArray, Uniform
from zobnn_edge.errors import InputError
from zobnn_edge.network import Network, rebuilt
from zobnn_edge.operations import Affine, Clip, Conv, GatedConv, MaxPool, Op, PRelu, Reshape, Sign, Threshold
from zobnn_edge.policy import Coding, Policy
from zobnn_edge.rewrite import on_bytes
from zobnn_edge.tensor import Parameter


def harden(net: Network, policy: Policy | None = None) -> Network:
    """The hardened network: parameters still stored as float32 become codes; binary weights stay what they are."""
    policy = policy or Policy()
    policy.check([p.layer for p in net.parameters.values()])
    places = _places(net)

    def coding(p: Parameter) -> Coding:
        return policy.coding(p, places.get(p.name, "inner"))

    folded = prepared(net, coding)
    parameters = {name: coded(p, coding(p)) for name, p in folded.parameters.items()}
    absorbed = _absorb_weight_scales(rebuilt(folded, list(folded.ops), parameters))
    if policy.scores == "ranked":
        absorbed = _without_last_factor(absorbed)
    stored = {
        name: coding(p).stored(p) if folded.parameters[name].encoding == Float32() else p
        for name, p in absorbed.parameters.items()
    }
    hardened = rebuilt(absorbed, list(absorbed.ops), stored)
    return (on_bytes(hardened) if policy.byte_inputs else None) or hardened


def prepared(net: Network, coding: Callable[[Parameter], Coding]) -> Network:
    """The network before its parameters get codes: thresholds in place of batch norm and sign, filters of one size."""
    return _equalised(_centred(fold_thresholds(net)), coding)


def _places(net: Network) -> dict[str, str]:
    """Of the weights of the first and of the last convolution or dense layer, which of both they are."""
    convs = [op for op in net.ops if isinstance(op, (Conv, GatedConv))]
    return {convs[-1].weight: "last", convs[0].weight: "first"} if convs else {}


def coded(p: Parameter, coding: Coding) -> Parameter:
    """A parameter that is still float32 in the codes that its coding says."""
    if p.encoding != Float32() or coding.encoding != "uniform":
        return p
    if not np.isfinite(p.values).all():
        raise InputError(f"{p.name} holds NaN or infinity, which no code stands for; train anew, or leave it float32")
    return p.encoded(ranges.choose(p.values, coding))


def fold_thresholds(net: Network) -> Network:
    """Replace convolution, affine, sign by convolution, threshold; filters of negative scales are negated. A PReLU of
    positive slopes before the affine goes as well, as it keeps the order of numbers.

    Exact for binary convolutions: every possible sum is on the side of the threshold where float32 arithmetic puts it.
    For one that reads the network's input the threshold is the number of which PReLU makes `-bias / scale`, pulled in
    to what sums of 8-bit pixels can reach. Left alone are other real convolutions, tensors with other readers and
    weights shared with another operation.
    """
    ops: list[Op] = []
    parameters = dict(net.parameters)
    folded: set[str] = set()
    for op in net.ops:
        if op.name in folded:
            continue
        chain = _affine_and_sign(net, op)
        if chain is None:
            ops.append(op)
            continue
        conv, prelu, affine, sign = chain
        scale, bias = _affine_values(net, affine)
        slope = net.parameters[prelu.slope].values if prelu else np.ones_like(scale)
        weight = net.parameters[conv.weight]
        flip = np.where(scale < 0, np.float32(-1), np.float32(1))
        parameters[weight.name] = replace(weight, values=weight.values * flip[:, None, None, None])
        name = f"{affine.name}/threshold"
        layer = net.parameters[affine.parameters[0]].layer if affine.parameters else affine.name
        values = _thresholds(net, conv, slope, scale, bias)
        parameters[name] = Parameter(name, layer, "threshold", values, Float32())
        ops += [conv, Threshold(affine.name, conv.output, sign.output, name)]
        folded |= {step.name for step in (prelu, affine, sign) if step}
    return rebuilt(net, ops, parameters)


def _affine_and_sign(net: Network, op: Op) -> tuple[Conv, PRelu | None, Affine, Sign] | None:
    """The chain convolution, PReLU or none, affine, sign that begins with `op`, if it can be folded."""
    if not isinstance(op, Conv) or sum(op.weight in other.parameters for other in net.ops) != 1:
        return None
    affine = prelu = _only_reader(net, op.output)
    if isinstance(prelu, PRelu) and _is_rising(net, prelu):
        affine = _only_reader(net, prelu.output)
    if not isinstance(affine, Affine):
        return None
    sign = _only_reader(net, affine.output)
    if not isinstance(sign, Sign):
        return None
    if net.tensors[op.input].kind != "binary" and op.input != net.input:
        return None
    if isinstance(net.parameters[op.weight].encoding, Uniform):
        return None
    return op, prelu if isinstance(prelu, PRelu) else None, affine, sign


def _is_rising(net: Network, op: PRelu) -> bool:
    """Whether a PReLU has one slope a channel, all of them positive."""
    slopes = net.parameters[op.slope].values
    return slopes.shape == net.tensors[op.input].shape[2:] and bool((np.isfinite(slopes) & (slopes > 0)).all())


def _only_reader(net: Network, tensor: str) -> Op | None:
    readers = net.consumers(tensor)
    return readers[0] if len(readers) == 1 and tensor != net.output else None


def _affine_values(net: Network, op: Affine) -> tuple[FloatArray, FloatArray]:
    """(scale, bias) a channel."""
    channels = net.tensors[op.input].shape[2]
    scale = net.parameters[op.scale].values if op.scale else np.full(channels, op.gain, np.float32)
    bias = net.parameters[op.bias].values if op.bias else np.zeros(channels, np.float32)
    return scale, bias


def _thresholds(net: Network, conv: Conv, slope: FloatArray, scale: FloatArray, bias: FloatArray) -> FloatArray:
    """Per channel the threshold of the sums of its filter (negated where its scale is).

    For a binary convolution it lies half-way between the largest sum that gives -1 and the smallest that gives +1, so
    that a code which is off by less than half the distance of sums decides the same.
    """
    weights = net.parameters[conv.weight].values
    flip = np.where(scale < 0, np.float32(-1), np.float32(1))
    if net.tensors[conv.input].kind != "binary":
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = -bias.astype(np.float64) / np.abs(scale.astype(np.float64))
            exact = np.where(exact * flip < 0, exact / slope, exact)
        pixels = net.pixels.apply(np.array([0, 255]))
        reach = np.abs(weights).sum(axis=(1, 2, 3), dtype=np.float64) * max(1.0, float(np.abs(pixels).max()))
        # 0 / 0: a channel whose scale and bias vanish is always +1.
        return np.clip(np.where(np.isnan(exact), -reach, exact), -reach, 1.01 * reach).astype(np.float32)
    sums, step = _sums(net, conv)
    sloped = np.where(sums * flip < 0, sums * slope, sums)
    return _half_way(sums, step, ~(sloped * flip * scale + bias < 0))


def _equalised(net: Network, coding: Callable[[Parameter], Coding]) -> Network:
    """Divide each filter of real weights by its largest one; what follows multiplies by it.

    One range of codes serves all filters of a layer: that of the largest would be coarse for the others. Weights that
    get no codes are left alone.
    """
    parameters = dict(net.parameters)
    for conv in net.ops:
        if not isinstance(conv, Conv) or parameters[conv.weight].encoding != Float32():
            continue
        if coding(parameters[conv.weight]).encoding != "uniform":
            continue
        taker = _scale_taker(net, conv)
        name = taker.threshold if isinstance(taker, Threshold) else taker.scale if taker else None
        if name is None or sum(conv.weight in op.parameters for op in net.ops) != 1:
            continue
        weight, factor = parameters[conv.weight], parameters[name]
        if factor.encoding != Float32():
            continue
        size = np.abs(weight.values).max(axis=(1, 2, 3), keepdims=True)
        size = np.where(size > 0, size, np.float32(1))
        flat = size.reshape(-1)
        parameters[weight.name] = replace(weight, values=weight.values / size)
        moved = factor.values / flat if isinstance(taker, Threshold) else factor.values * flat
        parameters[name] = replace(factor, values=moved)
    return rebuilt(net, list(net.ops), parameters)


def _centred(net: Network) -> Network:
    """Move each threshold of a binary convolution half-way between the sums that it parts: it decides as before."""
    parameters = dict(net.parameters)
    for op in net.ops:
        conv = net.producer(op.input) if isinstance(op, Threshold) else None
        if not isinstance(op, Threshold) or not isinstance(conv, Conv) or net.tensors[conv.input].kind != "binary":
            continue
        threshold = net.parameters[op.threshold]
        if threshold.encoding == Float32() and sum(op.threshold in other.parameters for other in net.ops) == 1:
            sums, step = _sums(net, conv)
            values = _half_way(sums, step, ~(sums < threshold.values))
            parameters[threshold.name] = replace(threshold, values=values)
    return rebuilt(net, list(net.ops), parameters)


def _sums(net: Network, conv: Conv) -> tuple[FloatArray, int]:
    """The sums (n, 1) that a binary convolution can give, and the distance from one to the next."""
    products = net.parameters[conv.weight].values[0].size
    step = 1 if conv.padding != "valid" and conv.pad_value == 0 else 2
    return np.arange(-products, products + 1, step, dtype=np.float32)[:, None], step


def _half_way(sums: FloatArray, step: int, positive: NDArray[np.bool_]) -> FloatArray:
    """Thresholds (channels,) half-way between the last sum that gives -1 and the first that gives +1."""
    first = np.where(positive.any(axis=0), positive.argmax(axis=0), len(sums))
    thresholds: FloatArray = (sums[0] + step * (first - 0.5)).astype(np.float32)
    return thresholds


def _absorb_weight_scales(net: Network) -> Network:
    """Move the scale of coded weights into the affine or threshold that follows: the weights become integers."""
    parameters, ops = dict(net.parameters), list(net.ops)
    for conv in net.ops:
        if not isinstance(conv, Conv):
            continue
        encoding = parameters[conv.weight].encoding
        if not isinstance(encoding, Uniform) or sum(conv.weight in op.parameters for op in net.ops) != 1:
            continue
        taker = _scale_taker(net, conv)
        if taker is None:
            continue
        at = next(i for i, op in enumerate(ops) if op.name == taker.name)
        if isinstance(taker, Threshold):
            _rescale(parameters, taker.threshold, 1 / encoding.scale)
        elif taker.scale is not None:
            _rescale(parameters, taker.scale, encoding.scale)
        else:
            ops[at] = replace(taker, gain=float(np.float32(taker.gain * encoding.scale)))
        _rescale(parameters, conv.weight, 1 / encoding.scale)
    return rebuilt(net, ops, parameters)


def _without_last_factor(net: Network) -> Network:
    """Leave out a positive factor that all scores share: of the last affine's constant gain, or of the last weights."""
    op = net.producer(net.output)
    while isinstance(op, Reshape):
        op = net.producer(op.input)
    parameters, ops = dict(net.parameters), list(net.ops)
    if isinstance(op, Affine) and op.scale is None and op.gain > 0:
        name, factor = op.bias, op.gain
        ops[ops.index(op)] = replace(op, gain=1.0)
    elif isinstance(op, Conv) and isinstance(encoding := parameters[op.weight].encoding, Uniform):
        name, factor = op.weight, encoding.scale
    else:
        return net
    if name is not None:
        if sum(name in other.parameters for other in net.ops) != 1:
            return net
        _rescale(parameters, name, 1 / factor)
    return rebuilt(net, ops, parameters)


def _rescale(parameters: dict[str, Parameter], name: str, factor: float) -> None:
    """The same codes, standing for `factor` times as much; or the values themselves, where they are not coded."""
    p = parameters[name]
    if not isinstance(p.encoding, Uniform):
        parameters[name] = replace(p, values=p.values * np.float32(factor))
        return
    encoding = p.encoding.scaled(factor)
    values = encoding.decode(p.encoding.encode(p.values)).reshape(p.shape)
    parameters[name] = replace(p, encoding=encoding, values=values)


def _scale_taker(net: Network, conv: Conv) -> Affine | Threshold | None:
    """The affine or threshold that a positive factor on the convolution's output can be moved to, if it is its own."""
    op = _only_reader(net, conv.output)
    while isinstance(op, (MaxPool, Reshape, PRelu)) or (isinstance(op, Clip) and (op.low, op.high) == (0, np.inf)):
        op = _only_reader(net, op.output)
    if not isinstance(op, (Affine, Threshold)):
        return None
    name = op.threshold if isinstance(op, Threshold) else op.scale
    shared = name is not None and sum(name in other.parameters for other in net.ops) != 1
    return None if shared else op
