"""Compares `published` with what the journal gives. Who signed it is checked in `ops.audit.verification`.

Called by `replay` and `recomputing`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from actors.effects.published import state_steps, state_versions
from ops.audit.findings import Finding
from schemas.canonical import MalformedError
from schemas.events import JournalEvent
from schemas.journal import JournalPosition
from schemas.published import find_journal, find_seq, parse_checkpoint, parse_statement
from schemas.topics import PUBLISHED, ROLLOUTS, ROUNDS
from streams.log import EventLog, TopicPartition, scan
from streams.read_ahead import ReadAhead


class Expected:
    """What must stand in `published` of one partition, by id: each event that is announced is noted as it is read."""

    def __init__(self, partition: int) -> None:
        self.by_id: dict[str, dict[str, Any]] = {}
        self._statements = {ROUNDS.name: state_versions(partition), ROLLOUTS.name: state_steps(partition)}

    def note(self, event: JournalEvent, at: JournalPosition, *, topic: str, time_ms: int) -> None:
        """An event of a journal, with where its chain stands after the batch."""
        # Other journals are told by nobody outside.
        statements = self._statements.get(topic)
        if statements is not None and statements.has(event):
            self.by_id |= statements.index(event, at, time_ms=time_ms)


def find_newest_versions(log: EventLog, partition: int) -> dict[str, int]:
    """The newest announced version of each task."""
    found: dict[str, int] = {}
    for record in ReadAhead(scan(log, TopicPartition(PUBLISHED.name, partition))):
        with contextlib.suppress(MalformedError):
            announced = parse_checkpoint(record.value or b"")
            # A step of a rollout names a version too, and may go back to an older one.
            if announced.is_version:
                found[announced.task] = announced.version
    return found


def compare(
    log: EventLog, partition: int, *, expected: Mapping[str, dict[str, Any]], seqs: Mapping[str, int]
) -> Iterator[Finding]:
    """Where `published` does not hold each of `expected` (by id) once and nothing else.

    What was announced beyond the seq of its journal in `seqs` came after that was read, and is skipped.
    """
    # What is found is taken out, so that a second announcement of the same version is one too many.
    missing = dict(expected)
    place = TopicPartition(PUBLISHED.name, partition)
    for record in ReadAhead(scan(log, place)):
        found = parse_statement(record.value or b"")
        announcement = missing.pop(str(found.get("id")), None)
        topic = find_journal(found)
        is_later = announcement is None and topic in seqs and find_seq(found) > seqs[topic]
        if not is_later and found != announcement:
            yield Finding(place, record.offset, "announces what the journal does not hold")
    for name, announcement in missing.items():
        yield Finding(place, None, f"{name} is not announced", announcement["subject"])
