"""Compares `published` with what the journal gives. Who signed it is checked in `ops.audit.verification`.

Called by `replay` and `recomputing`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ops.audit.findings import Finding
from schemas.canonical import MalformedError
from schemas.published import find_seq, parse_checkpoint, parse_statement
from schemas.topics import PUBLISHED
from streams.log import EventLog, TopicPartition, scan
from streams.read_ahead import ReadAhead


def find_newest_versions(log: EventLog, partition: int) -> dict[str, int]:
    """The newest announced version of each task."""
    found: dict[str, int] = {}
    for record in ReadAhead(scan(log, TopicPartition(PUBLISHED.name, partition))):
        with contextlib.suppress(MalformedError):
            announced = parse_checkpoint(record.value or b"")
            found[announced.task] = announced.version
    return found


def compare(log: EventLog, partition: int, *, expected: Mapping[str, dict[str, Any]], seq: int) -> Iterator[Finding]:
    """Where `published` does not hold each of `expected` (by id) once and nothing else.

    What was announced beyond `seq` came after the journal was read, and is skipped.
    """
    # What is found is taken out, so that a second announcement of the same version is one too many.
    missing = dict(expected)
    place = TopicPartition(PUBLISHED.name, partition)
    for record in ReadAhead(scan(log, place)):
        found = parse_statement(record.value or b"")
        announcement = missing.pop(str(found.get("id")), None)
        is_later = announcement is None and find_seq(found) > seq
        if not is_later and found != announcement:
            yield Finding(place, record.offset, "announces what the journal does not hold")
    for name, announcement in missing.items():
        yield Finding(place, None, f"{name} is not announced", announcement["subject"])
