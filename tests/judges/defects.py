"""The part of the law check that knows inputs which were passed as a defect of our own code (law 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from schemas.events import DefectFound, RoundOpened, RoundProposed, StateDigest, Tick, UpdateAdmitted, UpdateRefused
from schemas.journal import Decision
from streams.log import Record
from tests.judges.logbook import INPUTS, Journal

_BESIDE = (DefectFound, UpdateAdmitted, UpdateRefused, RoundProposed, RoundOpened, StateDigest)


def is_passed(decision: Decision | None, record: Record) -> bool:
    """Whether the actor's own code failed on this input."""
    found = decision.events if decision is not None and decision.offset == record.offset else ()
    return any(isinstance(event, DefectFound) for event in found)


def facts(window: tuple[Decision | None, list[Record]], read_one: Callable[[Record], Any]) -> list[Any]:
    """What the inputs of a window say; one that was passed as a defect says as much as a tick."""
    decision, records = window
    return [Tick() if is_passed(decision, record) else read_one(record) for record in records]


def defect_faults(journal: Journal, *, planted: bool) -> Iterator[str]:
    """A defect names the input that it stands for, and beside it stands nothing but the outcome of a lease."""
    for decision in journal.decisions:
        where = f"{journal.topic}: {decision.topic}@{decision.offset}"
        found = [event for event in decision.events if isinstance(event, DefectFound)]
        if found and not planted:
            yield f"{where}: a defect: {found[0].error}"
        if {(event.topic, event.offset) for event in found} - {(decision.topic, decision.offset)}:
            yield f"{where}: a defect of another input"
        if len({event.number for event in found}) != len(found):
            yield f"{where}: a defect twice"
        if not found or decision.topic not in INPUTS:
            continue
        if not all(isinstance(event, _BESIDE) for event in decision.events):
            yield f"{where}: decided, and passed as a defect"
        if any(isinstance(event, UpdateAdmitted) and event.zeroed != "defect" for event in decision.events):
            yield f"{where}: passed as a defect, and its vector counts"
