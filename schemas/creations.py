"""Which creation of a task counts: the first of its name in `tasks`; a later one changes nothing.

A pure fold over the values of records, for readers of any log: the operator's commands, devices, audit, shard workers.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.canonical import MalformedError, decode
from schemas.events import TaskCreated, TaskEvent
from schemas.identifiers import TaskId


def parse_task_event(value: bytes | None) -> TaskEvent | None:
    """The event in a record of `tasks`; None for bytes that hold none."""
    try:
        return decode(value or b"", TaskEvent)  # type: ignore[arg-type]
    except MalformedError:
        return None


def parse_creation(value: bytes | None) -> TaskCreated | None:
    """The same for a creation; None for any other event."""
    event = parse_task_event(value)
    return event if isinstance(event, TaskCreated) else None


def collect_creations(values: Iterable[bytes | None]) -> dict[TaskId, TaskCreated]:
    """The creation of each task that counts, in the order of the log."""
    found: dict[TaskId, TaskCreated] = {}
    for value in values:
        if (created := parse_creation(value)) is not None:
            # Two operators may create one name at once: the log's order decides, for every reader alike.
            found.setdefault(created.task, created)
    return found


def find_creation(values: Iterable[bytes | None], task: TaskId) -> TaskCreated | None:
    """The creation of `task` that counts; reads no further than that."""
    creations = (created for value in values if (created := parse_creation(value)) is not None)
    return next((created for created in creations if created.task == task), None)
