"""Recomputes one version from the bodies of its round, and compares it with what was published.

It starts from the version before as it is stored: whether that one is true is another question of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.deciders.aggregator_state import Rounds, evolve
from ops.audit.findings import Finding, Findings
from ops.audit.recomputing import Recomputer
from ops.audit.replay import Anchor
from ops.audit.verification import make_trust
from schemas.events import JournalEvent, ModelPublished, SumStored
from schemas.identifiers import TaskId, Version
from schemas.topics import ROUNDS, partition_of
from streams.journals import read_decisions
from streams.log import EventLog, TopicPartition


def check_version(log: EventLog, task: TaskId, *, version: Version, anchor: Anchor) -> Findings:
    """Its sum and its model, made anew. With privacy that needs the noise key. Raises JournalBroken."""
    partition = partition_of(task, log.partitions)
    at = TopicPartition(ROUNDS.name, partition)
    findings, state = Findings(), Rounds()
    recomputer = Recomputer(log, partition, find_key=anchor.noise, epoch_keys=anchor.epochs, findings=findings)
    for record, decision, _ in read_decisions(log, at, trust=make_trust(log, anchor.operator)):
        for event in decision.events:
            for what in _check(recomputer, state, event=event, asked=(task, version)):
                findings.add_difference(Finding(record.at, record.offset, what, task))
            if isinstance(event, ModelPublished) and (event.task, event.version) == (task, version):
                return findings
            if isinstance(event, ModelPublished) and (event.task, event.version) == (task, version - 1):
                # The version before is where the check begins, and no part of what it finds.
                findings.versions = findings.compared = findings.models = 0
                findings.unchecked.clear()
            evolve(state, event, decision.time_ms)
    return findings


def _check(
    recomputer: Recomputer, state: Rounds, *, event: JournalEvent, asked: tuple[TaskId, Version]
) -> Iterable[str]:
    """What is wrong with an event, if it is one of those that make the version."""
    task, version = asked
    if getattr(event, "task", None) != task or task not in state.tasks:
        return ()
    known = state.tasks[task]
    match event:
        # Whichever round it is of: sums are stored in the order of their versions.
        case SumStored() if known.version == version - 1:
            return list(recomputer.check_sum(known, event))
        case ModelPublished() if event.version in (version - 1, version):
            return list(recomputer.check_model(known, event))
    return ()
