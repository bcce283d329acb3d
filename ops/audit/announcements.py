"""What `published` holds against what the journal gives; who signed it is the matter of `ops.audit.verification`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ops.audit.findings import Fault
from schemas.canonical import MalformedError
from schemas.published import SIGNATURE, checkpoint
from schemas.topics import PUBLISHED
from streams.log import EventLog, Record, TopicPartition, scan


def newest(log: EventLog, partition: int) -> dict[str, int]:
    """The newest version of each task that is announced."""
    found: dict[str, int] = {}
    for record in scan(log, TopicPartition(PUBLISHED.name, partition)):
        with contextlib.suppress(MalformedError, ValueError):  # a number of a thousand digits is none for Python
            task, _, version = checkpoint(record.value or b"").id.partition("/")
            found[task] = int(version) if version.isdecimal() else 0
    return found


def faults(log: EventLog, partition: int, *, expected: Mapping[str, dict[str, Any]], seq: int) -> Iterator[Fault]:
    """Where `published` does not hold each of `expected` (by id) once and nothing else.

    What was announced behind `seq` came after the journal was read, and is passed over.
    """
    missing = dict(expected)
    place = TopicPartition(PUBLISHED.name, partition)
    for record in scan(log, place):
        said = _said(record)
        wanted = missing.pop(str(said.get("id")), None)
        is_later = wanted is None and _seq(said) > seq
        if not is_later and (wanted is None or said not in (wanted, _unheaded(wanted))):
            yield Fault(place, record.offset, "announces what the journal does not hold")
    for name, wanted in missing.items():
        yield Fault(place, None, f"{name} is not announced", wanted["subject"])


def _said(record: Record) -> dict[str, Any]:
    """An announcement without its signature; nothing where it is none."""
    try:
        said = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in said.items() if name not in SIGNATURE} if isinstance(said, dict) else {}


def _unheaded(said: dict[str, Any]) -> dict[str, Any]:
    """The same as releases before there were checkpoints announced it."""
    return {**said, "data": {name: value for name, value in said["data"].items() if name != "journal"}}


def _seq(said: dict[str, Any]) -> int:
    try:
        return int(said["data"]["journal"]["seq"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return -1
