"""Waits until what an operator wrote into the log can be read again: only then is it known that it counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ops.operator.errors import WriteHidden
from streams.log import EventLog, Place, TopicPartition

T = TypeVar("T")

# Longer than a transaction may be open: whoever holds readers back for no longer than that costs only the wait.
VISIBLE_WAIT_S = 20.0


def read_back(read: Callable[[], T | None], *, log: EventLog, at: TopicPartition, what: str) -> T:
    """What `read` finds, once it finds anything; an acknowledged record is not readable at once. Raises WriteHidden."""
    give_up_s = time.monotonic() + VISIBLE_WAIT_S
    while (found := read()) is None:
        if time.monotonic() > give_up_s:
            raise WriteHidden(f"{what} is written to {at}, and cannot be read yet{_name_hindrance(log, at)}")
        # Short, because a person waits for the command, and the log is read again from one partition alone.
        time.sleep(0.05)
    return found


def _name_hindrance(log: EventLog, at: TopicPartition) -> str:
    readable, written = log.bounds(at).end, log.find_written_end(at)
    # Nobody's fault is named where none is seen.
    if written <= readable:
        return "."
    return (
        f": a transaction that somebody has left open hides all from {Place(at, readable)} on. It ends within "
        "seconds by itself, unless it hangs (docs/operations.md), and what is written counts then."
    )
