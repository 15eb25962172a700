"""Running a network again and again with few parameters changed: only what a change can reach is computed anew.

The C++ side (firmware/host/incremental.hpp) keeps what the fault-free run held between groups of operations and
compares bytes; this side tells it which bytes count.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from zobnn_edge import _engine
from zobnn_edge.encoding import Encoding, FloatArray, InputArray, Protected, scales_bits
from zobnn_edge.image import Region
from zobnn_edge.layout import Layout, lay_out, tensor_bytes
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, Clip, Conv, Op, PRelu, Quantize, Sign, Threshold, Unpack
from zobnn_edge.protection import Secded

Ranges = list[tuple[int, int]]
BUDGET = 1 << 29
"""Bytes that one Incremental keeps at most."""


class Incremental:
    """A model, its fault-free image, and inputs. Scores are bit-identical to those of `engine.Engine`."""

    def __init__(self, model: Model, inputs: InputArray, budget: int = BUDGET) -> None:
        """Run the inputs, (N, elements) float32 or uint8, without faults and keep what is between the operations."""
        self._outputs = model.network.outputs
        self._inputs = len(inputs)
        self._golden = np.frombuffer(model.image.data, np.uint8)
        self._starts = np.array([r.offset for r in model.image.regions])
        engine = _engine.Engine(np.frombuffer(model.plan, np.uint8), "portable")
        self._rerunner = _engine.Rerunner(engine, self._golden, groups(model), budget)
        put = self._rerunner.put_floats if inputs.dtype == np.float32 else self._rerunner.put_pixels
        started = time.thread_time()
        put(np.ascontiguousarray(inputs))
        self.seconds = time.thread_time() - started
        """Processor time of everything, once."""

    def changed(self, image: bytes | bytearray) -> tuple[int, ...]:
        """The numbers of the parameters, in the image's order, that are not as in the fault-free image."""
        at = np.flatnonzero(self._golden != np.frombuffer(image, np.uint8))
        return tuple(np.unique(np.searchsorted(self._starts, at, side="right") - 1).tolist())

    def run(self, image: bytes | bytearray) -> tuple[FloatArray, float]:
        """Scores (N, outputs) with the parameters in `image`, and the share of a whole run's work that it took."""
        scores = np.empty((self._inputs, self._outputs), np.float32)
        work = self._rerunner.run(np.frombuffer(image, np.uint8), scores)
        return scores, work / max(self._rerunner.plain_work, 1.0)


class Shortcut:
    """Whether an incremental run is worth while.

    Computing everything with this processor's vector instructions may cost less than what a fault reaches does without
    them. What it reaches shows afterwards only; it is foretold by runs before with the same first parameter changed
    and as many others. Either way gives the same bits.
    """

    LEAST = 3
    """Incremental runs that are tried before one is judged by them."""

    def __init__(self, incremental: Incremental, plain_seconds: float) -> None:
        """`plain_seconds`: processor time of computing everything as fast as can be."""
        self._incremental = incremental
        self._break_even = plain_seconds / max(incremental.seconds, 1e-9)
        self._seen: dict[tuple[int, ...], tuple[int, float]] = {}  # runs, their work

    def run(self, image: bytes | bytearray) -> tuple[FloatArray, float] | None:
        """What `Incremental.run` gives, or None where computing everything is expected to cost less."""
        changed = self._incremental.changed(image)
        key = (*changed[:1], min(len(changed), 4))
        runs, total = self._seen.get(key, (0, 0.0))
        if runs >= self.LEAST and total / runs > self._break_even:
            return None
        scores, work = self._incremental.run(image)
        self._seen[key] = (runs + 1, total + work)
        return scores, work


def groups(model: Model) -> list[tuple[int, Ranges, Ranges, float, _engine.ChannelPlan | None]]:
    """Of every group of fused operations: the index of its first one; the bytes of the arena that it or a later group
    reads from earlier ones; the bytes of the image that it reads; its work, in multiply-adds and elements written; and
    how a single channel of it is computed, if it can be."""
    net, layout = model.network, lay_out(model.network)
    written = {net.input: -1}
    read = {net.output: len(layout.groups)}
    for step, group in enumerate(layout.groups):
        written[group[-1].output] = step
        for tensor in (t for op in group for t in op.inputs):
            read[tensor] = max(step, read.get(tensor, 0))
    out, first = [], 0
    for step, group in enumerate(layout.groups):
        alive = [t for t, at in written.items() if at < step <= read.get(t, -1)]
        live = _merged([(layout.offsets[t], tensor_bytes(net.tensors[t])) for t in alive])
        regions = [model.image.region(name) for op in group for name in op.parameters]
        elements = net.tensors[group[-1].output].size
        work = float(sum(net.macs(op) for op in group) + elements * len(group))
        parameters = [(r.offset, r.bytes) for r in regions]
        out.append((first, live, parameters, work, channel_plan(model, layout, group)))
        first += len(group)
    return out


def channel_plan(model: Model, layout: Layout, group: tuple[Op, ...]) -> _engine.ChannelPlan | None:
    """A plan that computes one output channel of a group; None where its channels are not independent of each other.

    It is that of a network of its own: the group with the first channel's parameters, behind what makes its input
    binary or int8 of a real one, and before what makes its output real.
    """
    net, head = model.network, group[0]
    channels = net.tensors[group[-1].output].shape[2]
    if not isinstance(head, Conv) or head.groups > 1 or not all(_by_channel(net, op, channels) for op in group[1:]):
        return None
    b = Builder("channel", net.tensors[head.input].shape)
    x = b.input
    if net.tensors[head.input].kind == "binary":
        x = b.add(Sign("bits", x, "bits"))
    elif net.tensors[head.input].kind == "int8":
        x = b.add(Quantize("bytes", x, "bytes", net.tensors[head.input].quantization))
    source = x
    for op in group:
        for name in op.parameters:
            p = net.parameters[name]
            b.parameter(name, p.layer, p.role, p.values[:1], p.encoding)
        x = b.add(replace(op, input=x, output=f"{op.output} of one"))
    result = x
    if b.tensors[x].kind == "binary":
        x = b.add(Unpack("values", x, "values"))
    one = Model.of(b.network(x))
    arranged = lay_out(one.network)
    at = next(i for i, ops in enumerate(arranged.groups) if ops[0].name == head.name)
    if len(arranged.groups[at]) != len(group):
        return None
    if not all(_is_sliced(net.parameters[name].encoding) for op in group for name in op.parameters):
        return None
    first = sum(len(ops) for ops in arranged.groups[:at])
    height, width, _ = net.tensors[group[-1].output].shape
    return _engine.ChannelPlan(
        plan=np.frombuffer(one.plan, np.uint8),
        slices=[_slice(model.image.region(r.name), r, channels) for r in one.image.regions],
        first_op=first,
        end_op=first + len(group),
        input=arranged.offsets[source],
        output=arranged.offsets[result],
        whole_input=layout.offsets[head.input],
        input_bytes=tensor_bytes(net.tensors[head.input]),
        whole_output=layout.offsets[group[-1].output],
        pixels=height * width,
        channels=channels,
        words=-(-channels // 32) if net.tensors[group[-1].output].kind == "binary" else 0,
    )


def _by_channel(net: Network, op: Op, channels: int) -> bool:
    """Whether an operation fused with a convolution reads one element of each parameter a channel, and nothing else."""
    if not isinstance(op, (Affine, PRelu, Clip, Sign, Threshold)):
        return False
    return all(net.parameters[name].values.shape == (channels,) for name in op.parameters)


def _is_sliced(encoding: Encoding) -> bool:
    """Whether the stored bits of each element are its own, and nothing else lies among them."""
    shared = isinstance(encoding, Protected) and isinstance(encoding.by, Secded)
    return not shared and scales_bits(encoding) == 0


def _slice(whole: Region, one: Region, channels: int) -> tuple[int, int, int]:
    """Where the bits of a channel's share of a parameter lie in both images: (first of channel 0, bits, target)."""
    return whole.first_bit, whole.bits // channels, one.first_bit


def _merged(ranges: Ranges) -> Ranges:
    """The same bytes, each once, in ascending order."""
    out: Ranges = []
    for first, size in sorted(ranges):
        if out and first <= out[-1][0] + out[-1][1]:
            begin = out[-1][0]
            out[-1] = (begin, max(out[-1][1], first + size - begin))
        else:
            out.append((first, size))
    return out
