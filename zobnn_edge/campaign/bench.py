"""The bench: one target with a campaign's model in it, on which trials and controls are run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from zobnn_edge.campaign.journal import Control, Entry, Golden, Link, Row, packed
from zobnn_edge.campaign.outcome import Outcome, classify, deviation, top1
from zobnn_edge.campaign.plan import Job, Trial
from zobnn_edge.encoding import FloatArray
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.faults import models
from zobnn_edge.faults.space import Addresses, stratum_of
from zobnn_edge.link.client import WATCHDOG, Counters, NoAnswer, Refused, Restarted
from zobnn_edge.link.transport import Lockup
from zobnn_edge.targets import Options, RunResult, open_target
from zobnn_edge.targets.board import BoardTarget

T = TypeVar("T")
FEW = 16
"""Addresses of fault sets of at most so many bits are written out in the journal."""
ATTEMPTS, PERSISTENCE = 3, 10
"""How often a trial is tried when the harness, not the network, fails; and what is done without faults."""
REMEMBERED_BITS, REMEMBERED_BYTES = 1, 1 << 26
"""Results of fault sets of at most so many bits are kept, up to so many bytes of scores: at low rates most trials have
none or a single bit."""
CONTROL_EVERY_ON_HOST, CONTROL_EVERY = 500, 50
"""A run without faults is made after so many trials at most, on the host and elsewhere, and as the last one."""


@dataclass(frozen=True)
class Batch:
    """What a lane brings: entries for the journal; and the work it was, in trials in which everything is computed."""

    entries: list[Entry]
    work: float


class Bench:
    """One target. Not for several threads at once."""

    def __init__(self, job: Job, spec: str) -> None:
        """Open the target and bring the model; raises what `open_target` raises."""
        self.job = job
        self.spec = spec
        self._memory, self._at = job.space.memory, job.plan.where.operation(job.model)
        self.target = open_target(spec, job.model, Options(self._memory == "plan", job.power_cycle))
        self._check_memory()
        self._on_host = self.target.info.board == "host"
        self._part: int | None = None
        self._golden: dict[int, FloatArray] = {}
        self._strata = {stratum: number for number, (stratum, _) in enumerate(job.space.strata())}
        self._trials = self._controlled = 0
        self._work = 0.0
        self._seen = Counters()
        self._known: dict[tuple[int, bytes], RunResult] = {}

    def run(self, trials: Sequence[Trial], last: bool = False) -> Batch:
        """Run trials and the controls due: before the first, after a number of them, and if `last` at the end."""
        entries: list[Entry] = []
        before = self._work
        for trial in trials:
            entries += self._prepare(trial.part)
            entries.append(self._try(trial))
            self._trials += 1
            if self._trials - self._controlled >= (CONTROL_EVERY_ON_HOST if self._on_host else CONTROL_EVERY):
                entries += self._control()
        if last and self._trials > self._controlled:
            entries += self._control()
        return Batch(entries, self._work - before)

    def close(self) -> None:
        """Give the target back."""
        self.target.close()

    def _check_memory(self) -> None:
        """Refuse faults that the target cannot make before anything is run."""
        if self._memory == "parameters" and self._at is None:
            return
        try:
            size = self.target.memory_bytes(self._memory)
            if size != len(self.job.space.image.data):
                raise InputError(
                    f"{self.spec}: its {self._memory} has {size} bytes, not {len(self.job.space.image.data)}"
                )
        except InputError:
            self.target.close()
            raise

    def _prepare(self, part: int) -> list[Entry]:
        """Bring the images of a part; when it is the first time, make the golden run, and again as a control."""
        if part == self._part:
            return []
        inputs, labels = self.job.images(part)
        self._surely(self.target.restore)
        self.target.put_inputs(inputs)
        self.target.expect_many_runs()
        self._part = part
        if part in self._golden:
            return []
        scores = self._golden[part] = self._surely(self.target.run_plainly).scores
        right = top1(scores) == labels
        digest = hashlib.sha256(scores.tobytes()).hexdigest()
        return [Golden(part, digest, packed(right), int(right.sum()), len(labels)), *self._control()]

    def _control(self) -> list[Entry]:
        """A run without faults on the images at hand, computed in full; and what the link, if there is one, has seen
        since the one before."""
        assert self._part is not None
        scores = self._surely(self.target.run_plainly).scores
        self._controlled = self._trials
        control = Control(self.spec, self._trials, classify(self._golden[self._part], scores))
        if not isinstance(self.target, BoardTarget):
            return [control]
        self._surely(self.target.status)
        before, self._seen = self._seen, replace(self.target.counters)
        return [control, Link(self.spec, self._seen - before)]

    def _surely(self, act: Callable[[], T]) -> T:
        """Something without faults, again on a recovered target while the harness fails."""
        for _ in range(PERSISTENCE - 1):
            try:
                return act()
            except TargetError:
                with suppress(TargetError):
                    self.target.recover()
        return act()

    def _try(self, trial: Trial) -> Row:
        """A trial, tried again while the harness fails; it is a harness error if it always does."""
        for _ in range(ATTEMPTS):
            row = self._attempt(trial)
            if row.outcome is not Outcome.HARNESS_ERROR:
                break
        return row

    def _attempt(self, trial: Trial) -> Row:
        addresses = trial.faults.addresses(self.job.space)
        try:
            return self._row(trial, addresses, *self._observe(trial, addresses))
        except TargetError as error:  # before or after the run: says nothing about the network
            why = evidence(error, self._surely(self.target.recover))
            return self._row(trial, addresses, None, Outcome.HARNESS_ERROR, why)

    def _observe(self, trial: Trial, addresses: Addresses) -> tuple[RunResult | None, Outcome, str]:
        """What the network does with these bits inverted; on the host, equal fault sets are computed once."""
        key = (trial.part, addresses.tobytes())
        result = self._known.get(key)
        if result is None:
            beyond = self._memory in ("plan", "sram")  # faults may end the board before it is told to run
            if not beyond:
                self._invert(trial, addresses)
            try:
                if beyond:
                    self._invert(trial, addresses)
                result = self.target.run()
            except TargetError as error:
                return None, failure(error, beyond), evidence(error, self._surely(self.target.recover))
            if beyond:
                self.target.reset()
            else:
                self.target.restore()
            self._work += result.work
            if self._may_come_again(addresses, result):
                self._known[key] = result
        if result.health.lost:
            return result, Outcome.DETECTED, f"{result.health.lost} cells beyond repair"
        return result, classify(self._golden[trial.part], result.scores), ""

    def _may_come_again(self, addresses: Addresses, result: RunResult) -> bool:
        """Whether a result is worth keeping. Models that hit one place never hit the same one twice."""
        room = len(self._known) * result.scores.nbytes < REMEMBERED_BYTES
        few = len(addresses) <= REMEMBERED_BITS
        return self._on_host and room and few and not models.model(self.job.plan.model).one_place

    def _invert(self, trial: Trial, addresses: Addresses) -> None:
        """Invert the bits. A board draws independent flips itself, which a few bytes tell it to."""
        faults, regions = trial.faults, self.job.space.regions
        if self._at is not None:
            flips = self.target.arm(self._memory, addresses, self._at)
        elif self._memory != "parameters":
            flips = self.target.flip_memory(self._memory, addresses)
        elif faults.model == "rate" and regions is not None and not self._on_host:
            flips = self.target.inject(faults.amount, faults.seed, regions)
        else:
            flips = self.target.invert(addresses)
        if flips != len(addresses) and self._memory not in ("plan", "sram"):  # there the count may have been hit
            raise TargetError(f"{self.spec}: {flips} bits were inverted, not {len(addresses)}")

    def _row(self, trial: Trial, addresses: Addresses, result: RunResult | None, outcome: Outcome, detail: str) -> Row:
        _, labels = self.job.images(trial.part)
        right, changed, furthest, corrected, instructions = np.zeros(len(labels), bool), len(labels), np.inf, 0, None
        if result is not None:
            classes = top1(result.scores)
            right = classes == labels
            golden = self._golden[trial.part]
            changed = int((classes != top1(golden)).sum())
            furthest = deviation(golden, result.scores)
            corrected, instructions = result.health.corrected, result.instructions
        return Row(
            number=trial.number,
            point=trial.point,
            amount=trial.faults.amount,
            seed=trial.faults.seed,
            part=trial.part,
            flips=len(addresses),
            addresses=tuple(addresses.tolist()) if len(addresses) <= FEW else None,
            stratum=self._stratum(addresses),
            outcome=outcome,
            changed=changed,
            deviation=furthest,
            corrected=corrected,
            correct=int(right.sum()),
            inputs=len(labels),
            right=packed(right),
            instructions=instructions,
            target=self.spec,
            detail=detail,
        )

    def _stratum(self, addresses: Addresses) -> int | None:
        """The number of the stratum that was hit, of models that hit one place."""
        if not models.model(self.job.plan.model).one_place:
            return None
        return self._strata[stratum_of(self.job.space.image, int(addresses[0]))]


def failure(error: TargetError, beyond: bool = False) -> Outcome:
    """The outcome of a run that gave no scores; `beyond` if there were faults beyond parameters and activations, in
    what makes the board work: then whatever it does wrong comes of them."""
    if isinstance(error, NoAnswer) or (isinstance(error, Restarted) and error.exception == WATCHDOG):
        return Outcome.HANG
    if isinstance(error, Lockup) or (isinstance(error, Restarted) and (error.exception or beyond)):
        return Outcome.CRASH
    if isinstance(error, Refused) and (error.error == "engine" or beyond):
        return Outcome.DETECTED
    return Outcome.HARNESS_ERROR


def evidence(error: TargetError, recovery: str) -> str:
    """What is known of a failure: why, the registers, what brought the target back."""
    registers = error.registers if isinstance(error, Restarted) else {}
    held = "".join(f" {name}={value:08x}" for name, value in registers.items())
    return f"{error};{held and f'{held};'} brought back by {recovery}"
