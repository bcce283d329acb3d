"""The part of the law check that knows inputs which were passed as a defect of our own code (law 9)."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.events import DefectFound, RoundOpened, RoundProposed, StateDigest, UpdateAdmitted, UpdateRefused
from tests.judges.logbook import INPUTS, Journal

_BESIDE = (DefectFound, UpdateAdmitted, UpdateRefused, RoundProposed, RoundOpened, StateDigest)


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
