"""Events that only count, and their sum: what a crowd costs a journal does not depend on how many it is (law 9).

Whoever may write to a topic can send junk, ask for what does not exist and repeat itself without end, and a journal is
kept for ever. Such an event folds to nothing, so that its place among the decisions says nothing either: all of one key
are one event a record, wherever they stood.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from schemas.events import CheckinsDeclined, DefectFound, EnrolmentsDeclined, InputsDropped, UpdatesDeclined
from schemas.journal import Decision
from schemas.topics import JOURNALS

# No tally is longer: a name has at most 63 characters, every list of reasons is closed, and an error is ASCII.
TALLY_BYTES_MAX = 640

Tally = InputsDropped | CheckinsDeclined | UpdatesDeclined | EnrolmentsDeclined | DefectFound
TALLY_KINDS = frozenset((InputsDropped, CheckinsDeclined, UpdatesDeclined, EnrolmentsDeclined, DefectFound))
Placed = TypeVar("Placed", InputsDropped, DefectFound)
_JOURNALS = frozenset(topic.name for topic in JOURNALS)


def key_of(tally: Tally) -> Hashable:
    """What is added up: kind and topic, or kind and task. Never a word that a stranger chose."""
    match tally:
        # What is lost of another actor's journal has to be known exactly, and strangers do not write there.
        case DefectFound(topic=topic, first_offset=offset, number=number) if topic in _JOURNALS:
            return DefectFound, topic, offset, number
        case DefectFound(topic=topic, error=error):
            return DefectFound, topic, error
        case InputsDropped(topic=topic):
            return InputsDropped, topic
        case CheckinsDeclined(task=task) | UpdatesDeclined(task=task):
            return type(tally), task
        case EnrolmentsDeclined(population=population):
            return EnrolmentsDeclined, population


def add(before: Tally, after: Tally) -> Tally:
    """One event that says what both say, which have the same key; in any order and grouping it is the same."""
    match before, after:
        case InputsDropped(), InputsDropped():
            return _add_offsets(before, after)
        case DefectFound(), DefectFound():
            first = min(before, after, key=lambda defect: (defect.first_offset, defect.number))
            return replace(_add_offsets(before, after), number=first.number)
        case CheckinsDeclined(), CheckinsDeclined():
            return CheckinsDeclined(task=before.task, counts=_add_counts(before.counts, after.counts))
        case UpdatesDeclined(), UpdatesDeclined():
            return UpdatesDeclined(task=before.task, counts=_add_counts(before.counts, after.counts))
        case EnrolmentsDeclined(), EnrolmentsDeclined():
            counts = _add_counts(before.counts, after.counts)
            return EnrolmentsDeclined(population=before.population, counts=counts)
    raise TypeError(f"{type(before).__name__} and {type(after).__name__} count different things")


def _add_offsets(before: Placed, after: Placed) -> Placed:
    return replace(
        before,
        count=before.count + after.count,
        first_offset=min(before.first_offset, after.first_offset),
        last_offset=max(before.last_offset, after.last_offset),
    )


def _add_counts(before: Mapping[Any, int], after: Mapping[Any, int]) -> dict[Any, int]:
    counts = dict(before)
    for reason, count in after.items():
        counts[reason] = counts.get(reason, 0) + count
    # Sorted by reason, so that the same counts give the same bytes in any order.
    return dict(sorted(counts.items()))


class Tallies:
    """What is counted of the inputs of one record, by the topic that they came in."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[Hashable, Tally]] = {}
        self._last: dict[str, Decision] = {}

    def count_new(self, decision: Decision) -> int:
        """How many events this decision adds to those that are here."""
        known = self._sums.get(decision.topic, {})
        return len({key_of(event) for event in decision.events} - known.keys())  # type: ignore[arg-type]

    def add(self, decision: Decision) -> None:
        """Count what a decision says that only counts."""
        sums = self._sums.setdefault(decision.topic, {})
        for event in decision.events:
            key = key_of(event)  # type: ignore[arg-type]
            sums[key] = add(sums[key], event) if key in sums else event  # type: ignore[arg-type,assignment]
        self._last[decision.topic] = decision

    def make_decisions(self) -> list[Decision]:
        """One decision a topic: it stands for all inputs that were only counted, at the place of the last of them."""
        return [replace(last, events=tuple(self._sums[topic].values())) for topic, last in self._last.items()]


def split(decision: Decision) -> tuple[Decision, Decision]:
    """What only counts in a decision, and what else it says."""
    counted = tuple(event for event in decision.events if type(event) in TALLY_KINDS)
    rest = tuple(event for event in decision.events if type(event) not in TALLY_KINDS)
    return replace(decision, events=counted), replace(decision, events=rest)
