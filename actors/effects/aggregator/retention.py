"""Which bodies may be deleted: no unpublished round and no undecided update can need them any more.

The aggregator applies the rule to `bodies`, a shard worker to its partitions of `shards`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import structlog

from actors.deciders.aggregator_state import Rounds, Task
from actors.deciders.rollout.held import list_let_go
from schemas.events import (
    CandidateStaged,
    JournalEvent,
    MasksSummed,
    ModelPublished,
    Noticed,
    Promoted,
    RolledBack,
    RolloutOrdered,
    UpdateAdmitted,
)
from schemas.identifiers import BodyRef
from schemas.topics import BODIES, UPDATES
from streams.bodies import discard
from streams.log import EventLog, TopicPartition

logger = structlog.get_logger()
Embodied = UpdateAdmitted | MasksSummed


class Retention:
    """What the aggregator of one partition deletes. `replaced` are models and moments that newer versions replace."""

    def __init__(self, log: EventLog, partition: int) -> None:
        self.replaced: list[BodyRef] = []
        self._log, self._at = log, TopicPartition(BODIES.name, partition)

    def note(self, state: Rounds, event: JournalEvent) -> None:
        """Take note of what a decision makes superfluous: behind a new version, or when a rollout needs it no more."""
        match event:
            case ModelPublished():
                self.replaced += state.tasks[event.task].list_outdated()
            case Noticed(fact=CandidateStaged() | Promoted() | RolledBack() | RolloutOrdered() as fact):
                self.replaced += list_let_go(state.tasks[fact.task])

    def delete_unneeded(self, state: Rounds, decided_ms: Mapping[str, int]) -> None:
        """Delete replaced models, and bodies that no round and no undecided update can need."""
        discard(self._log, self.replaced)
        self.replaced = []
        if state.tasks and UPDATES.name in decided_ms:
            members = list_unpublished_members(state.tasks.values())
            delete_old_bodies(
                self._log,
                self._at,
                tasks=state.tasks.values(),
                # With privacy a zeroed member keeps whatever address its device has made up.
                needed=[
                    *(member for member in members if member.zeroed is None and member.body.topic == BODIES.name),
                    *list_masks(state.tasks.values()),
                ],
                decided_ms=decided_ms[UPDATES.name],
            )


def list_unpublished_members(tasks: Iterable[Task]) -> list[UpdateAdmitted]:
    """Members of all rounds that are open or pending."""
    return [member for task in tasks for round_ in task.rounds() for member in round_.members.values()]


def list_masks(tasks: Iterable[Task]) -> list[MasksSummed]:
    """What helpers have stored for rounds that are not published yet."""
    return [masks for task in tasks for round_ in task.pending for masks in (round_.masks or {}).values()]


def delete_old_bodies(
    log: EventLog, at: TopicPartition, *, tasks: Collection[Task], needed: Iterable[Embodied], decided_ms: int
) -> None:
    """Delete bodies of `at` that lie before every needed one and are older than the policies of `tasks` keep them.

    Age counts from `decided_ms`, the append time of the last decided update, so that nothing that a later update may
    name is deleted, however far its decision lags behind. There has to be a task.
    """
    # The longest of all: the tasks share this partition, and deletion knows one offset for all of them.
    hours = max(task.created.policy.retention.body_hours for task in tasks)
    aged = log.first_since(at, max(0, decided_ms - round(hours * 3_600_000)))
    # A log is deleted from its beginning only, so that one body that is needed keeps all that lie behind it.
    before = min([aged, *(member.body.offsets[0] for member in needed)])
    if before > log.bounds(at).beginning:
        log.delete_records(at, before)
        logger.info("bodies_deleted", topic=at.topic, partition=at.partition, before_offset=before)
