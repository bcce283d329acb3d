"""The part of the law check that knows inputs which were passed as a defect of our own code (law 9)."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.events import DefectFound, RoundOpened, RoundProposed, StateDigest, UpdateAdmitted, UpdateRefused
from schemas.journal import Batch, Decision
from tests.judges.logbook import INPUTS, Journal, find_passed
from tests.judges.windows import TALLIES

_BESIDE = (*TALLIES, UpdateAdmitted, UpdateRefused, RoundProposed, RoundOpened, StateDigest)


def defect_faults(journal: Journal, *, planted: bool) -> Iterator[str]:
    """A defect counts inputs of its record; what is decided of one of them is nothing but the outcome of a lease."""
    for _, batch in journal.batches:
        for decision, defect in _defects(batch):
            where = f"{journal.topic}: {decision.topic}@{decision.offset}"
            if not planted:
                yield f"{where}: a defect: {defect.error}"
            if defect.topic != decision.topic or not defect.first_offset <= defect.last_offset <= decision.offset:
                yield f"{where}: a defect of another input"
            if defect.count != len({*find_passed(defect)}):
                yield f"{where}: {defect.count} defects between {defect.first_offset} and {defect.last_offset}"
        yield from _outcome_faults(journal.topic, batch)


def _defects(batch: Batch) -> Iterator[tuple[Decision, DefectFound]]:
    for decision in batch.decisions:
        for event in decision.events:
            if isinstance(event, DefectFound):
                yield decision, event


def _outcome_faults(topic: str, batch: Batch) -> Iterator[str]:
    passed = {(event.topic, *place) for _, event in _defects(batch) for place in find_passed(event)}
    for decision in batch.decisions:
        # Of another actor's record only one event is passed, and the rest of it is decided.
        if decision.topic not in INPUTS or (decision.topic, decision.offset, decision.message) not in passed:
            continue
        where = f"{topic}: {decision.topic}@{decision.offset}"
        if not all(isinstance(event, _BESIDE) for event in decision.events):
            yield f"{where}: decided, and passed as a defect"
        if any(isinstance(event, UpdateAdmitted) and event.zeroed != "defect" for event in decision.events):
            yield f"{where}: passed as a defect, and its vector counts"
