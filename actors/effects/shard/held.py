"""Opened bodies that wait for their admission, bounded in bytes; and sums of those that have theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from actors.deciders.aggregator_state import Task
from actors.effects.aggregator.summation import Fetch, Measured, RunningTotal, Summation
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.effects.sealing.summing import SealedReport, Summed, seal_sum
from schemas.events import UpdateAdmitted
from schemas.policy.metrics import list_open_reports, sum_metrics

BYTES_MAX = 128 * 2**20


@dataclass(slots=True)
class PartialSum:
    """The sum of members of one round in one partition, and what they report inside sealed bodies."""

    running: RunningTotal
    reports: dict[str, SealedReport] = field(default_factory=dict)

    @classmethod
    def recompute(cls, summation: Summation, members: Iterable[UpdateAdmitted], *, fetch: Fetch) -> PartialSum:
        """That of these members, from their bodies. Raises BodyLost, BodyError, EpochKeyMissing."""
        begun = cls(summation.start())
        begun.running = summation.recompute(members, fetch, note=begun.note)
        return begun

    def pack(self, summed: Summed, keys: EpochKeys) -> bytes:
        """The sum as it is stored: sealed, where the task is. Raises EpochKeyMissing."""
        total = self.running.total().astype("<i8").tobytes()
        policy = summed.created.policy
        if not policy.is_sealed:
            return total
        metrics = sum_metrics(self.reports.values(), count=len(list_open_reports(policy)))
        return seal_sum(summed, total, metrics=metrics, keys=keys)

    def note(self, member: UpdateAdmitted, metrics: tuple[int, ...]) -> None:
        """Take note of what a member reports."""
        self.reports[member.update] = SealedReport(metrics, member.samples)


class HeldVectors:
    """What was found in bodies, by update."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Measured] = OrderedDict()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether to wait for admissions before more is opened."""
        return self._bytes >= BYTES_MAX

    def put(self, update: str, found: Measured) -> None:
        """Keep what was found for an update until it is decided."""
        self._found[update] = found
        self._bytes += _count_bytes(found)

    def take(self, update: str) -> Measured | None:
        """The same of a decided update, which is no longer kept."""
        found = self._found.pop(update, None)
        self._bytes -= 0 if found is None else _count_bytes(found)
        return found

    def drop_decided(self, tasks: Collection[Task]) -> None:
        """Drop updates that had their outcome before: a worker that reads `updates` late may open such bodies."""
        for update in [update for update in self._found if any(update in task.outcomes for task in tasks)]:
            self.take(update)


def _count_bytes(found: Measured) -> int:
    return 0 if found.quanta is None else found.quanta.values.nbytes
