"""The tasks before a task: where they live, and what they have spent, recounted from their own journals.

An export takes their partitions along; a full replay recounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from schemas.certificates import Trust
from schemas.creations import collect_creations, find_successor
from schemas.events import TaskCreated, UpdateAdmitted, name_unit
from schemas.identifiers import TaskId
from schemas.topics import ROUNDS, TASKS, partition_of
from streams.journals import JournalBroken, read_decisions
from streams.log import EventLog, TopicPartition, scan


def find_parents_elsewhere(
    log: EventLog, partitions: Iterable[int], *, operator: bytes | None
) -> dict[int, tuple[TaskId, TaskId]]:
    """Partitions beside these that a full replay of them reads, each with a parent there and the task that names it."""
    found: dict[int, tuple[TaskId, TaskId]] = {}
    left = [*partitions]
    known = {*left}
    while left:
        records = scan(log, TopicPartition(TASKS.name, left.pop()))
        for created in collect_creations(records, operator, partitions=log.partitions).values():
            if created.parent is not None and (home := partition_of(created.parent, log.partitions)) not in known:
                found[home] = created.parent, created.task
                # A parent has parents too, and whatever else lives there is replayed with it.
                known.add(home)
                left.append(home)
    return found


def check_ancestry(
    log: EventLog, created: TaskCreated, *, operator: bytes | None, trust: Trust | None
) -> Iterator[str]:
    """Where a creation does not carry what its parent, and all before that, have spent; or is not the first to claim.

    Each parent is found in its own partition, by what the operator wrote there and by its admissions.
    """
    seen = {created.task}
    while created.parent is not None:
        if created.parent in seen:
            yield f"{created.task} descends from itself"
            return
        seen.add(created.parent)
        place = partition_of(created.parent, log.partitions)
        records = [*scan(log, TopicPartition(TASKS.name, place))]
        deployment = created.deployment
        creations = collect_creations(records, operator, partitions=log.partitions, deployment=deployment)
        parent = creations.get(created.parent)
        if parent is None:
            yield f"its parent {created.parent!r} is not in {TopicPartition(TASKS.name, place)}"
            return
        claimed = find_successor(records, parent.task, operator=operator, deployment=deployment)
        if claimed != created.task:
            yield f"{claimed!r} was the first to carry on from {parent.task!r}, not {created.task!r}"
        yield from _check_spent(log, created, parent=parent, trust=trust)
        created = parent


def _check_spent(log: EventLog, created: TaskCreated, *, parent: TaskCreated, trust: Trust | None) -> Iterator[str]:
    if created.policy.privacy is None:
        return
    if parent.policy.privacy is None:
        yield f"its parent {parent.task!r} was trained without privacy"
        return
    taken: Counter[str] = Counter()
    at = TopicPartition(ROUNDS.name, partition_of(parent.task, log.partitions))
    try:
        for _, decision, _ in read_decisions(log, at, trust=trust):
            admitted = (event for event in decision.events if isinstance(event, UpdateAdmitted))
            taken.update(name_unit(event) for event in admitted if event.task == parent.task)
    except JournalBroken as error:
        yield f"what its parent {parent.task!r} has spent cannot be counted: {error}"
        return
    spent = parent.list_spent(max(taken.values(), default=0))
    if created.spent_before != spent:
        told = [(one.task, one.participations, one.noise_multiplier) for one in created.spent_before]
        counted = [(one.task, one.participations, one.noise_multiplier) for one in spent]
        yield f"the tasks before have spent {counted}, and {created.task!r} says {told}"
