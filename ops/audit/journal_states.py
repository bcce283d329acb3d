"""The state of an actor before and after one record of its journal: the fold of the journal up to there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actors.wiring import ROLES
from ops.audit.verification import make_trust
from ops.history.records import format_value
from schemas.canonical import to_plain
from streams.journals import read_decisions
from streams.log import EventLog, TopicPartition

CHANGES_MAX, TEXT_MAX = 200, 160
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Changed:
    """One part of a state, by its path, with what it was and what it is; empty where it was not, or is no more."""

    path: str
    before: str
    after: str


def compare_states(log: EventLog, at: TopicPartition, *, offset: int, operator: bytes | None) -> list[Changed] | None:
    """What the record at `offset` has changed; None where it is in no journal or holds no decision.

    Raises JournalBroken.
    """
    role = next((role for role in ROLES.values() if role.journal == at.topic), None)
    if role is None:
        return None
    decider = role.load_decider()
    state: Any = decider.initial()
    before: Any = None
    for record, decision, _ in read_decisions(log, at, trust=make_trust(log, operator)):
        if record.offset > offset:
            break
        # A record may hold many decisions: before the first of them is before the record.
        if record.offset == offset and before is None:
            before = to_plain(state)
        for event in decision.events:
            decider.evolve(state, event, decision.time_ms)
    if before is None:
        return None
    return list(itertools.islice(_list_changes(before, to_plain(state)), CHANGES_MAX))


def _list_changes(before: Any, after: Any, *, path: str = "") -> Iterator[Changed]:
    """What differs, as deep as both have parts of the same name; what is new or gone is told as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}, key=str):
            inner = f"{path}.{name}" if path else str(name)
            yield from _list_changes(before.get(name, _ABSENT), after.get(name, _ABSENT), path=inner)
    elif before != after:
        yield Changed(path, _format(before), _format(after))


def _format(value: Any) -> str:
    text = "" if value is _ABSENT else format_value(value)
    # A whole round may appear or go; its records show what was in it.
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
