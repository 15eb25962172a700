"""What a campaign is about to try, as data: the plan, its trials, and everything a worker needs to run them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property

import numpy as np

from zobnn_edge import __version__
from zobnn_edge.encoding import InputArray
from zobnn_edge.errors import InputError
from zobnn_edge.faults import models
from zobnn_edge.faults.models import FaultSet
from zobnn_edge.faults.sampling import Stopping
from zobnn_edge.faults.space import FaultSpace, Filter
from zobnn_edge.model_file import Model


@dataclass(frozen=True)
class Trial:
    """One trial: its number in the plan, which amount and which of its trials it is, the fault set, the images."""

    number: int
    point: int
    index: int
    faults: FaultSet
    part: int


@dataclass(frozen=True)
class Plan:
    """At each amount (a fault rate or a number of bits) `trials` trials, each on one of `parts` sets of images in turn.

    `seed` fixes every fault set. With `half_width` an amount is done earlier, as soon as its mean accuracy is known
    that well (a share: 0.01 is one point).
    """

    amounts: tuple[float, ...]
    trials: int
    seed: int = 0
    model: str = "rate"
    where: Filter = field(default_factory=Filter)
    parts: int = 1
    half_width: float | None = None

    @property
    def total(self) -> int:
        """Number of trials, if none is spared."""
        return len(self.amounts) * self.trials

    @property
    def stopping(self) -> Stopping | None:
        """When an amount is done before all its trials are."""
        return None if self.half_width is None else Stopping(self.half_width)

    def trial(self, point: int, index: int) -> Trial:
        """Trial `index` at amount number `point`; its fault set as docs/spec.md, "Trials", says."""
        number = point * self.trials + index
        if models.model(self.model).one_place:
            faults = FaultSet(self.model, self.amounts[point], self.seed, index)
        else:
            faults = FaultSet(self.model, self.amounts[point], ((self.seed << 32) + number) % (1 << 63))
        return Trial(number, point, index, faults, index % self.parts)

    def check(self, space: FaultSpace) -> None:
        """Raise InputError when this plan is impossible in a fault space, before anything is run."""
        model = models.model(self.model)
        if not self.amounts or self.trials < 1 or self.parts < 1:
            raise InputError("a campaign needs at least one rate or number of bits, one trial and one image")
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"a seed of {self.seed}; it must be at least 0 and below 2^63")
        assert self.stopping is None or self.stopping.half_width > 0
        for amount in self.amounts:
            if model.amount == "rate":
                if not 0 <= amount < 1:
                    raise InputError(f"a fault rate of {amount:g}; it must be at least 0 and below 1")
                continue
            if not 1 <= amount <= space.size or amount != int(amount):
                raise InputError(f"{amount:g} bits to invert; it must be a whole number from 1 to {space.size}")
            places = model.places(space, amount)
            if places is not None and self.trials > places:
                raise InputError(f"{self.trials} trials, but there are only {places} different ones; --trials all")

    def text(self) -> str:
        """The plan as one line of JSON; equal plans give equal lines."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def parse(text: str) -> Plan:
        """The plan of a line that `text` made."""

        def tuples(fields: dict[str, object]) -> dict[str, object]:
            return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}

        fields = tuples(json.loads(text))
        return Plan(**{**fields, "where": Filter(**tuples(fields["where"]))})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Job:
    """A plan with what it is tried on: the contents of a .zob file, inputs (N, ...) and labels (N,), and their name;
    and the command that takes a board's power away and gives it back.

    The inputs are shared out to the plan's parts in order; what is left over is not used.
    """

    plan: Plan
    model_file: bytes
    inputs: InputArray
    labels: InputArray
    source: str = ""
    power_cycle: str | None = None

    def __reduce__(self) -> tuple[type[Job], tuple[object, ...]]:
        return Job, (
            self.plan,
            self.model_file,
            self.inputs,
            self.labels,
            self.source,
            self.power_cycle,
        )  # not what is cached below

    @cached_property
    def model(self) -> Model:
        """The model."""
        return Model.from_bytes(self.model_file)

    @cached_property
    def space(self) -> FaultSpace:
        """The fault space."""
        return self.plan.where.within(self.model)

    def images(self, part: int) -> tuple[InputArray, InputArray]:
        """Inputs and labels of one part."""
        n = len(self.inputs) // self.plan.parts
        return self.inputs[part * n : (part + 1) * n], self.labels[part * n : (part + 1) * n]

    def header(self, firmware: dict[str, str]) -> dict[str, str]:
        """What a journal records about itself; `firmware` names what runs on each target."""
        inputs = hashlib.sha256(np.ascontiguousarray(self.inputs).tobytes())
        inputs.update(np.ascontiguousarray(self.labels, np.int64).tobytes())
        plan = self.plan.text()
        return {
            "tool": f"zobnn-edge {__version__}",
            "network": self.model.network.name,
            "model": hashlib.sha256(self.model_file).hexdigest(),
            "inputs": inputs.hexdigest(),
            "source": self.source,
            "targets": json.dumps(sorted(firmware)),
            "firmware": json.dumps(firmware, sort_keys=True),
            "fault_bits": str(self.space.size),
            "strata": json.dumps([[*astuple(stratum), part.size] for stratum, part in self.space.strata()]),
            "plan": plan,
            "plan_hash": hashlib.sha256(plan.encode()).hexdigest(),
        }
