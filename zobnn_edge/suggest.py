"""Suggesting a policy: what the parameters of each layer and role do under faults, measured; and what helps most.

Every group of real parameters, those of one layer and role, is stored in each of the candidate ways, all others being
float32 and fault-free, and bits of it flip at the rate that the policy is for. Its harm is the share of images whose
class is then another than that of the network as trained; rounding counts as well as flips do. From the smallest ways
on, the step that saves most harm a byte is taken as long as the memory lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zobnn_edge.campaign.outcome import top1
from zobnn_edge.encoding import Float32, InputArray
from zobnn_edge.engine import Engine
from zobnn_edge.errors import InputError
from zobnn_edge.faults.models import FaultSet
from zobnn_edge.faults.space import Filter
from zobnn_edge.harden import coded, prepared
from zobnn_edge.image import REGION_ALIGN
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, rebuilt
from zobnn_edge.policy import Coding, Policy, Rule, Selection

TRIALS = 12
"""Fault sets of each group in each way."""
WAYS: tuple[dict[str, Any], ...] = (
    {"bits": 4},
    {"bits": 6},
    {"bits": 8},
    {"bits": 5, "protection": "voted:3"},
    {"bits": 6, "protection": "voted:3"},
    {"bits": 8, "protection": "hamming"},
    {"bits": 8, "protection": "voted:4"},
    {"bits": 8, "protection": "voted:8"},
)
"""Candidates: what a rule says."""


@dataclass(frozen=True)
class Way:
    """A group stored in one way: what it takes, and what it does."""

    changes: dict[str, Any]
    bytes: int
    harm: float

    def __str__(self) -> str:
        by = self.changes.get("protection")
        return f"{self.changes['bits']} bits" + (f", {by}" if by else "")


@dataclass(frozen=True)
class Choice:
    """The way chosen for the parameters of one layer and role."""

    layer: str
    role: str
    way: Way


@dataclass(frozen=True)
class Suggestion:
    """A policy, what led to it, and the bytes of the whole image that it makes, about."""

    policy: Policy
    choices: tuple[Choice, ...]
    bytes: int


def suggest(
    net: Network,
    inputs: InputArray,
    fault_rate: float,
    memory: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Suggestion:
    """The policy of least expected harm on `inputs` whose parameters take at most `memory` bytes.

    `progress` is told how many of how many groups are measured. Raises InputError where the memory does not do.
    """
    measure = _Measure(net, inputs, fault_rate)
    groups = measure.groups()
    if not groups:
        raise InputError(f"{net.name}: has no float32 parameter to find a way for")
    ways: list[list[Way]] = []
    for done, names in enumerate(groups.values()):
        progress(done, len(groups))
        ways.append([measure.way(names, changes) for changes in WAYS])
    progress(len(groups), len(groups))
    fixed = measure.bytes_of_others()
    chosen = _greedy(ways, memory - fixed)
    total = fixed + sum(way.bytes for way in chosen)
    if total > memory:
        raise InputError(f"--memory {memory}: the parameters take at least {total} bytes")
    choices = [Choice(layer, role, way) for (layer, role), way in zip(groups, chosen, strict=True)]
    rules = [
        Rule(Selection(layers=(_literal(c.layer),), roles=(c.role,)), tuple(c.way.changes.items())) for c in choices
    ]
    policy = Policy(range="damage", fault_rate=fault_rate, rules=tuple(rules))
    return Suggestion(policy, tuple(sorted(choices, key=lambda c: -c.way.harm)), total)


class _Measure:
    def __init__(self, net: Network, inputs: InputArray, fault_rate: float) -> None:
        self._net = prepared(net, lambda p: Coding())
        self._inputs = inputs
        self._coding = Coding(range="damage", fault_rate=fault_rate)
        self._right = self._classes(Model.of(self._net), ())

    def groups(self) -> dict[tuple[str, str], list[str]]:
        """The names of the real parameters of each layer and role."""
        out: dict[tuple[str, str], list[str]] = {}
        for p in self._net.parameters.values():
            if p.encoding == Float32():
                out.setdefault((p.layer, p.role), []).append(p.name)
        return out

    def bytes_of_others(self) -> int:
        """Bytes of all other parameters."""
        regions = Model.of(self._net).image.regions
        return sum(_padded(r.bytes) for r in regions if r.encoding != Float32())

    def way(self, names: Sequence[str], changes: dict[str, Any]) -> Way:
        """Store some parameters in a way, and flip bits of them.

        Where hardly a bit would flip, they flip at a higher rate and what they do counts in proportion.
        """
        coding = replace(self._coding, **changes)
        parameters = {n: coding.stored(coded(self._net.parameters[n], coding)) for n in names}
        model = Model.of(rebuilt(self._net, list(self._net.ops), {**self._net.parameters, **parameters}))
        space = Filter(parameters=tuple(names)).of(model.image)
        rate = min(max(coding.fault_rate, 1 / space.size), 0.5)
        rounding = self._harm(model, ())
        faulty = [FaultSet("rate", rate, seed).addresses(space).tolist() for seed in range(TRIALS)]
        flips = float(np.mean([self._harm(model, bits) if bits else rounding for bits in faulty])) - rounding
        size = sum(_padded(model.image.region(name).bytes) for name in names)
        return Way(changes, size, rounding + max(0.0, flips) * coding.fault_rate / rate)

    def _harm(self, model: Model, bits: Sequence[int]) -> float:
        return float((self._classes(model, bits) != self._right).mean())

    def _classes(self, model: Model, bits: Sequence[int]) -> Any:
        return top1(Engine(model.plan).run(model.image.flipped(bits).data, self._inputs))


def _greedy(ways: list[list[Way]], memory: int) -> list[Way]:
    """A way for each group: the smallest ones, then again and again the step that saves most harm a byte."""
    chosen = [min(group, key=lambda way: (way.bytes, way.harm)) for group in ways]
    left = memory - sum(way.bytes for way in chosen)
    while True:
        steps = [
            ((now.harm - way.harm) / max(1, way.bytes - now.bytes), i, way)
            for i, (now, group) in enumerate(zip(chosen, ways, strict=True))
            for way in group
            if way.harm < now.harm and way.bytes - now.bytes <= left
        ]
        if not steps:
            return chosen
        _, i, way = max(steps, key=lambda step: step[0])
        left -= way.bytes - chosen[i].bytes
        chosen[i] = way


def _padded(size: int) -> int:
    return -(-size // REGION_ALIGN) * REGION_ALIGN


def _literal(layer: str) -> str:
    """A pattern that only this layer matches."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in layer)
