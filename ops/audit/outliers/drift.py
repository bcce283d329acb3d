"""What a replay checks of drift: what is said with a version follows from its answers, and from the policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from actors.deciders.aggregator_state import Task
from actors.deciders.drifting.judging import Distance, judge_drift
from actors.effects.aggregator.summation import Fetch
from actors.effects.watching.drifting import measure_drift
from schemas.events import DriftEnded, DriftFound, JournalEvent, ModelPublished
from schemas.tensors import Floats


def check_told(task: Task, published: ModelPublished, *, decision: Sequence[JournalEvent]) -> Iterator[str]:
    """Whether what is said of drift with a version follows from the distances that it names, and from the policy."""
    told = _list_told(published, decision)
    # Taken at their word: whether they are those of the answers only the bodies can tell.
    distances = [
        Distance(kind=e.kind, cohort=e.cohort, measure=e.measure, value=e.value, by_chance=e.by_chance) for e in told
    ]
    if told != judge_drift(task, published.version, distances=distances):
        yield f"version {published.version}: what it says of drift is not what its distances mean"


def check_found(
    task: Task, published: ModelPublished, *, vector: Floats, decision: Sequence[JournalEvent], fetch: Fetch
) -> Iterator[str]:
    """Whether it is what the answers give. Raises BodyLost, BodyError where the reference is gone."""
    if task.created.policy.drift is UNSET or published.round is None:
        return
    # Of this task's state before the version, so that its own reference is not yet itself.
    distances = measure_drift(task, vector, members=published.members, fetch=fetch)
    if _list_told(published, decision) != judge_drift(task, published.version, distances=distances):
        yield f"version {published.version}: its answers give other distances than it says"


def _list_told(published: ModelPublished, decision: Sequence[JournalEvent]) -> list[DriftFound | DriftEnded]:
    drifts = (event for event in decision if isinstance(event, DriftFound | DriftEnded))
    return [event for event in drifts if event.task == published.task and event.version == published.version]
