"""Running a network again and again with few parameters changed: only what a change can reach is computed anew.

The C++ side (firmware/host/incremental.hpp) keeps what the fault-free run held between groups of operations and
compares bytes; this side tells it which bytes count.
"""

from __future__ import annotations

import numpy as np

from zobnn_edge import _engine
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.layout import lay_out, tensor_bytes
from zobnn_edge.model_file import Model

Ranges = list[tuple[int, int]]
BUDGET = 1 << 29
"""Bytes that one Incremental keeps at most."""


class Incremental:
    """A model, its fault-free image, and inputs. Scores are bit-identical to those of `engine.Engine`."""

    def __init__(self, model: Model, inputs: InputArray, budget: int = BUDGET) -> None:
        """Run the inputs, (N, elements) float32 or uint8, without faults and keep what is between the operations."""
        self._outputs = model.network.outputs
        self._inputs = len(inputs)
        engine = _engine.Engine(np.frombuffer(model.plan, np.uint8))
        golden = np.frombuffer(model.image.data, np.uint8)
        self._rerunner = _engine.Rerunner(engine, golden, groups(model), budget)
        put = self._rerunner.put_floats if inputs.dtype == np.float32 else self._rerunner.put_pixels
        put(np.ascontiguousarray(inputs))

    def run(self, image: bytes | bytearray) -> tuple[FloatArray, float]:
        """Scores (N, outputs) with the parameters in `image`, and the share of a whole run's work that it took."""
        scores = np.empty((self._inputs, self._outputs), np.float32)
        work = self._rerunner.run(np.frombuffer(image, np.uint8), scores)
        return scores, work / max(self._rerunner.plain_work, 1.0)


def groups(model: Model) -> list[tuple[int, Ranges, Ranges, float]]:
    """Of every group of fused operations: the index of its first one; the bytes of the arena that it or a later group
    reads from earlier ones; the bytes of the image that it reads; its work, in multiply-adds and elements written."""
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
        out.append((first, live, [(r.offset, r.bytes) for r in regions], work))
        first += len(group)
    return out


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
