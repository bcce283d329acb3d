"""What one journal record says about the inputs of one topic that lie between its position and the one before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from schemas.events import CheckinsDeclined, DefectFound, InputsDropped, Tick, UpdatesDeclined
from schemas.journal import Batch, Decision
from streams.log import Record
from tests.judges.logbook import READS, Logbook, find_passed

TALLIES = (InputsDropped, CheckinsDeclined, UpdatesDeclined, DefectFound)


@dataclass
class Window:
    """The inputs that one batch has passed, and its decisions on this topic; at last those that none has passed."""

    topic: str
    records: Sequence[Record]
    batch: Batch | None
    decisions: Sequence[Decision] = field(default=())

    @property
    def where(self) -> str:
        """For a message."""
        return f"{self.topic}@{self.records[0].offset}-{self.records[-1].offset}" if self.records else self.topic

    @cached_property
    def passed(self) -> frozenset[tuple[int, int]]:
        """Places of inputs on which the actor's own code failed."""
        return frozenset(place for event in self.tallies(DefectFound) for place in find_passed(event))

    @cached_property
    def _by_place(self) -> dict[tuple[int, int], list[Any]]:
        found: dict[tuple[int, int], list[Any]] = {}
        for decision in self.decisions:
            told = [event for event in decision.events if not isinstance(event, TALLIES)]
            found.setdefault((decision.offset, decision.message), []).extend(told)
        return found

    def decided(self, record: Record) -> list[Any]:
        """What was decided on this input by name."""
        return self._by_place.get((record.offset, record.message), [])

    def tallies(self, kind: Any) -> list[Any]:
        """What was counted of these inputs."""
        return [event for decision in self.decisions for event in decision.events if isinstance(event, kind)]

    def counts(self, kind: Any) -> Counter[tuple[str | None, str]]:
        """The same for a kind that counts reasons: by task and reason."""
        found = Counter[tuple[str | None, str]]()
        for event in self.tallies(kind):
            found.update({(event.task, reason): count for reason, count in event.counts.items()})
        return found


def windows(book: Logbook, topic: str, *, settled: bool, by: str | None = None) -> Iterator[Window]:
    """One for each batch of the journal that reads `topic`; at last one with what should not be undecided.

    Where many read it: of the first in the order of the story, or of the one that is named.
    """
    journal = book.journals[by or next(name for name in book.journals if topic in READS[name])]
    records = book.inputs[topic]
    at = 0
    for _, batch in journal.batches:
        end, position = at, batch.position.offsets.get(topic, 0)
        while end < len(records) and records[end].offset < position:
            end += 1
        decisions = [decision for decision in batch.decisions if decision.topic == topic]
        yield Window(topic, records[at:end], batch, decisions)
        at = end
    bound = float("inf") if settled else journal.position(topic)
    yield Window(topic, [record for record in records[at:] if record.offset < bound], None)


def facts(window: Window, read_one: Callable[[Record], Any]) -> list[Any]:
    """What the inputs of a window say; one that was passed as a defect says as much as a tick."""
    return [Tick() if place_of(record) in window.passed else read_one(record) for record in window.records]


def place_of(record: Record) -> tuple[int, int]:
    """Of an input in its topic: its offset, and its number where a record holds many."""
    return record.offset, record.message


def window_faults(window: Window, said: Sequence[Any]) -> Iterator[str]:
    """What holds for every plain input: decisions are on records that are there, in order, and junk is counted exactly.

    `said` is what each record says; None for junk.
    """
    times = {place_of(record): record.time_ms for record in window.records}
    by_name = [decision for decision in window.decisions if not isinstance(decision.events[0], TALLIES)]
    places = [(decision.offset, decision.message) for decision in by_name]
    for decision in window.decisions:
        where, place = f"{window.topic}@{decision.offset}", (decision.offset, decision.message)
        if place not in times or places != sorted(set(places)):
            yield f"{where}: decided twice, out of order, or without being in the log"
        elif decision.time_ms < times[place]:
            yield f"{where}: decided at {decision.time_ms}, before it was appended"
    told = zip(window.records, said, strict=True)
    junk = [record.offset for record, fact in told if fact is None and place_of(record) not in window.passed]
    counted = [(e.topic, e.count, e.first_offset, e.last_offset) for e in window.tallies(InputsDropped)]
    expected = [(window.topic, len(junk), junk[0], junk[-1])] if junk else []
    if counted != expected:
        yield f"{window.topic}: junk {expected} is counted as {counted}"
    for kind, name in ((CheckinsDeclined, "task"), (UpdatesDeclined, "task"), (DefectFound, "error")):
        keys = [getattr(event, name) for event in window.tallies(kind)]
        if len(keys) != len(set(keys)):
            yield f"{window.where}: the same is counted in two events of one record"
