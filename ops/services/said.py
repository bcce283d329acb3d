"""What one evaluator has said already, as a projection of `evaluations`: known by its key, whatever others say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from actors.keys import RoleKey
from schemas.canonical import MalformedError
from schemas.certificates import EVALUATOR, name_evaluator, parse_certified, read_certificate, read_evaluation
from schemas.events import EvaluatorId, VersionEvaluated
from schemas.identifiers import Cohort, TaskId, Version
from schemas.topics import EVALUATIONS
from streams.log import Record, TopicPartition


class Place(NamedTuple):
    """A version, and the measure task whose result is told of it; None for the evaluator's own data."""

    task: TaskId
    version: Version
    source: TaskId | None = None


class Said:
    """The words of the holder of this key."""

    topics: Sequence[str] = (EVALUATIONS.name,)

    def __init__(self, key: RoleKey) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self._public_key = read_certificate(key.certificate).public_key
        self.evaluator: EvaluatorId = name_evaluator(self._public_key)
        self._trust = key.trust()
        self._cohorts: dict[Place, set[Cohort]] = {}
        self._newest: dict[TaskId, Version] = {}

    def apply(self, record: Record) -> None:
        """Keep what this evaluator has said; releases before this one did so without its name."""
        self.positions[record.at] = record.offset + 1
        try:
            key = self._trust.find_key(
                parse_certified(record.value or b"").certificate, EVALUATOR, at_ms=record.time_ms
            )
            own = key == self._public_key
            # Of others nothing is decoded: what they say is theirs, and may be anything.
            evaluated = read_evaluation(record.value or b"", self._trust, at_ms=record.time_ms) if own else None
        except MalformedError:
            return
        if evaluated is not None:
            self.note(evaluated)

    def note(self, evaluated: VersionEvaluated) -> None:
        """Remember a word."""
        place = Place(evaluated.task, evaluated.version, evaluated.source or None)
        self._cohorts.setdefault(place, set()).add(evaluated.cohort)
        # All together comes last, so that a version which was cut short by a kill is not what others are compared with.
        if not evaluated.cohort and place.source is None:
            self._newest[evaluated.task] = evaluated.version

    def list_cohorts(self, place: Place) -> set[Cohort]:
        """Of which cohorts it has spoken; the empty one is all together, and comes last."""
        return self._cohorts.get(place, set())

    def is_complete(self, place: Place) -> bool:
        """Whether it has said all that it has to say there."""
        return "" in self.list_cohorts(place)

    def find_compared(self, task: TaskId) -> tuple[Version, set[Cohort]] | None:
        """The version that it has scored last, and its cohorts, as those of others have to be."""
        newest = self._newest.get(task)
        return None if newest is None else (newest, self.list_cohorts(Place(task, newest)) - {""})
