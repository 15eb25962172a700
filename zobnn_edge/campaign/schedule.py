"""What is to be tried next: the trials that the journal lacks, amounts in turn, until each is known well enough."""

from __future__ import annotations

from collections.abc import Iterable

from zobnn_edge.campaign.journal import Row
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Plan, Trial


class Schedule:
    """Hands out every trial once and is told of every row.

    An amount is stopped by a look at its trials 0 to n - 1 only, n a multiple of `Stopping.every`: which trials a
    campaign consists of does not depend on the order in which they come back.
    """

    def __init__(self, plan: Plan, rows: Iterable[Row] = ()) -> None:
        """A schedule of what is left when these rows are there."""
        self._plan = plan
        self._points = [_Point(plan) for _ in plan.amounts]
        for row in rows:
            self.record(row)

    def take(self, most: int) -> list[Trial]:
        """Up to `most` trials to run now; none while those under way have to be waited for, or when all are done."""
        trials: list[Trial] = []
        while len(trials) < most:
            number = min(range(len(self._points)), key=lambda i: self._points[i].next)
            point = self._points[number]
            if point.next >= point.limit:
                behind = [i for i, p in enumerate(self._points) if p.next < p.limit]
                if not behind:
                    break
                number, point = behind[0], self._points[behind[0]]
            trials.append(self._plan.trial(number, point.take()))
        return trials

    def record(self, row: Row) -> None:
        """A trial is done."""
        index = row.number - row.point * self._plan.trials
        self._points[row.point].record(index, None if row.outcome is Outcome.HARNESS_ERROR else row.accuracy)

    @property
    def done(self) -> int:
        """Number of trials done."""
        return sum(len(point.accuracy) for point in self._points)

    @property
    def total(self) -> int:
        """Number of trials, as far as is known: less, the more amounts are stopped early."""
        return sum(point.end for point in self._points)

    def accuracy(self, point: int) -> list[float]:
        """Shares of right images of the trials done at an amount, in the order of their numbers."""
        return self._points[point].samples(self._plan.trials)


class _Point:
    """The trials at one amount."""

    def __init__(self, plan: Plan) -> None:
        self.accuracy: dict[int, float | None] = {}
        self.end = plan.trials
        self.next = 0
        self._stopping = plan.stopping
        self._whole = 0  # all trials below are done
        self._look = plan.stopping.every if plan.stopping else plan.trials

    @property
    def limit(self) -> int:
        """Trials below may be run now: those up to the next look, unless it was the last one."""
        return min(self._look, self.end)

    def take(self) -> int:
        index = self.next
        self._skip(index + 1)
        return index

    def _skip(self, index: int) -> None:
        while index in self.accuracy:
            index += 1
        self.next = index

    def record(self, index: int, accuracy: float | None) -> None:
        self.accuracy[index] = accuracy
        self._skip(self.next)
        while self._whole in self.accuracy:
            self._whole += 1
        while self._stopping and self._look <= self._whole and self._look < self.end:
            if self._stopping.suffices(self.samples(self._look)):
                self.end = self._look
            else:
                self._look += self._stopping.every

    def samples(self, end: int) -> list[float]:
        """What trials below `end` gave, harness errors left out."""
        found = (self.accuracy.get(i) for i in range(end))
        return [x for x in found if x is not None]
