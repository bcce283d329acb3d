"""The part of the law check that walks the leases of synchronous tasks: a round has its cohort, and refills only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.events import (
    CosignatureHeard,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    TaskCreated,
)
from tests.judges.logbook import Journal


@dataclass(slots=True)
class _Cohort:
    """The leases of one synchronous task: those in flight, by their version, and how many gave its round an update."""

    most: int
    helpers: int = 0
    cosigned: dict[int, set[int]] = field(default_factory=dict)  # of each version that waited, whose word is there
    version: int = -1
    used: int = 0
    open: dict[str, int] = field(default_factory=dict)

    def take(self, event: Any) -> Iterator[str]:
        """Follow one event of the selector's journal."""
        match event:
            case LeaseGranted():
                taken = self.used + sum(version == self.version for version in self.open.values())
                if taken >= self.most:
                    yield f"lease {event.lease}: the {taken + 1}th of a synchronous round of {self.most}"
                self.open[event.lease] = event.version
            case LeaseClosed():
                version = self.open.pop(event.lease, None)
                self.used += event.outcome == "used" and version == self.version
            case Noticed(fact=ModelPublished(version=version, awaits_helpers=True)):
                self.cosigned[version] = set()
            case Noticed(fact=CosignatureHeard(version=version, helper=helper)):
                self.cosigned.setdefault(version, set()).add(helper)
                if len(self.cosigned[version]) == self.helpers and version > self.version:
                    self.version, self.used = version, 0
            case Noticed(fact=ModelPublished(version=version)):
                self.version, self.used = version, 0
            case Noticed(fact=RoundAbandoned()):
                self.used = 0


def cohort_faults(selections: Journal) -> Iterator[str]:
    """Leases beyond the cohort of their round."""
    cohorts: dict[str, _Cohort] = {}
    for event in selections.events():
        if isinstance(event, Noticed) and isinstance(event.fact, TaskCreated):
            rules = event.fact.policy
            if rules.staleness.max_versions == 0:
                cohorts[event.fact.task] = _Cohort(rules.selection.concurrency, len(rules.masked_by.helpers))
        task = getattr(event.fact if isinstance(event, Noticed) else event, "task", None)
        if task in cohorts:
            yield from cohorts[task].take(event)
