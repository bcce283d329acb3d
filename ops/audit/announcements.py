"""Compares `published` with what the journal gives. Who signed it is checked in `ops.audit.verification`.

Called by `replay` and `recomputing`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ops.audit.findings import Finding
from schemas.canonical import MalformedError
from schemas.published import SIGNATURE, checkpoint
from schemas.topics import PUBLISHED
from streams.log import EventLog, Record, TopicPartition, scan


def find_newest_versions(log: EventLog, partition: int) -> dict[str, int]:
    """The newest announced version of each task."""
    found: dict[str, int] = {}
    for record in scan(log, TopicPartition(PUBLISHED.name, partition)):
        with contextlib.suppress(MalformedError, ValueError):  # a number of a thousand digits is none for Python
            task, _, version = checkpoint(record.value or b"").id.partition("/")
            found[task] = int(version) if version.isdecimal() else 0
    return found


def compare(log: EventLog, partition: int, *, expected: Mapping[str, dict[str, Any]], seq: int) -> Iterator[Finding]:
    """Where `published` does not hold each of `expected` (by id) once and nothing else.

    What was announced beyond `seq` came after the journal was read, and is skipped.
    """
    # What is found is taken out, so that a second announcement of the same version is one too many.
    missing = dict(expected)
    place = TopicPartition(PUBLISHED.name, partition)
    for record in scan(log, place):
        found = _parse(record)
        announcement = missing.pop(str(found.get("id")), None)
        is_later = announcement is None and _find_seq(found) > seq
        if not is_later and (announcement is None or found not in (announcement, _without_head(announcement))):
            yield Finding(place, record.offset, "announces what the journal does not hold")
    for name, announcement in missing.items():
        yield Finding(place, None, f"{name} is not announced", announcement["subject"])


def _parse(record: Record) -> dict[str, Any]:
    """An announcement without its signature; nothing where it is none."""
    try:
        event = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        return {}
    # The signature is checked elsewhere, and the journal does not hold it.
    return {name: value for name, value in event.items() if name not in SIGNATURE} if isinstance(event, dict) else {}


def _without_head(event: dict[str, Any]) -> dict[str, Any]:
    """The same as releases before there were checkpoints announced it."""
    return {**event, "data": {name: value for name, value in event["data"].items() if name != "journal"}}


def _find_seq(event: dict[str, Any]) -> int:
    try:
        return int(event["data"]["journal"]["seq"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return -1
