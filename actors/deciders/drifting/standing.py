"""What an aggregator remembers of drift: the version that others are compared with, and what stands by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from msgspec import UNSET, UnsetType

from schemas.events import DriftEnded, DriftEvent, DriftFound, DriftKind, DriftMeasure, ModelPublished, TaskCreated
from schemas.identifiers import Cohort


@dataclass(slots=True)
class Drifts:
    """`reference`: the task's own version, once it is there; `found`: the newest word of what is so, by its name."""

    reference: ModelPublished | None = None
    found: dict[str, DriftFound] = field(default_factory=dict)


class Asked(Protocol):
    """A task, as far as it is asked here."""

    created: TaskCreated
    drifts: Drifts | UnsetType


def begin_drifts(created: TaskCreated) -> Drifts | UnsetType:
    """Nothing is found yet; unset where the policy does not ask, so that other states keep their digests."""
    return UNSET if created.policy.drift is UNSET else Drifts()


def name_found(kind: DriftKind, cohort: Cohort, *, measure: DriftMeasure) -> str:
    """Which of the distances of a version one is."""
    return f"{kind}/{cohort}/{measure}"


def note_drift(task: Asked, event: ModelPublished | DriftEvent) -> None:
    """Fold one event into what is remembered."""
    asked, drifts = task.created.policy.drift, task.drifts
    if asked is UNSET or drifts is UNSET:
        return
    match event:
        case ModelPublished() if not asked.of and event.version == asked.version:
            drifts.reference = event
        case DriftFound():
            drifts.found[name_found(event.kind, event.cohort, measure=event.measure)] = event
        case DriftEnded():
            drifts.found.pop(name_found(event.kind, event.cohort, measure=event.measure), None)


def is_reference(task: Asked, version: int) -> bool:
    """Whether later versions are compared with this one, so that its body stays."""
    drifts = task.drifts
    return drifts is not UNSET and drifts.reference is not None and drifts.reference.version == version
