"""What an evaluator has said: known by its key alone, with a name or, as in older releases, without."""

from __future__ import annotations

from typing import Any

from ops.services.said import Place, Said
from schemas.events import VersionEvaluated
from schemas.topics import EVALUATIONS
from streams.log import Record, TopicPartition
from tests.worlds.builders import TASK, role_key, scored
from tests.worlds.rounds import evaluator_id


def word(version: int = 0, cohort: str = "", **changes: Any) -> VersionEvaluated:
    """One word of somebody."""
    return VersionEvaluated(task=TASK, version=version, metrics={"loss": 1.0}, samples=1, cohort=cohort, **changes)


def heard(*values: bytes) -> Said:
    """What the evaluator of serial 1 finds of its own among these records."""
    said = Said(role_key("evaluator", serial=1))
    for offset, value in enumerate(values):
        at = TopicPartition(EVALUATIONS.name, 0)
        said.apply(Record(topic=at.topic, partition=0, offset=offset, time_ms=5, key=None, value=value))
    return said


def test_only_its_own_words_are_its_own() -> None:
    """Another evaluator's, a forged one in its name, and junk leave everything to be said."""
    own = evaluator_id(1)
    said = heard(scored(word()), scored(word(evaluator=own)), scored(word(), until_ms=0, serial=1), b"junk", b"")
    assert said.evaluator == own
    assert not said.is_complete(Place(TASK, 0))
    assert said.positions == {TopicPartition(EVALUATIONS.name, 0): 5}


def test_what_was_said_without_a_name_was_said() -> None:
    """Releases before this one named nobody, and an evaluator that is new does not say everything again."""
    assert heard(scored(word(), serial=1)).is_complete(Place(TASK, 0))


def test_a_version_is_complete_with_all_together() -> None:
    """Cohorts alone are a version in whose middle the evaluator was ended; each measure task is apart."""
    words = [word(3, cohort="west"), word(2, cohort="east"), word(2), word(3, source="asked")]
    said = heard(*[scored(one, serial=1) for one in words])
    assert [said.is_complete(Place(TASK, version)) for version in (2, 3)] == [True, False]
    assert said.list_cohorts(Place(TASK, 3)) == {"west"}
    assert said.is_complete(Place(TASK, 3, "asked"))
    assert said.find_compared(TASK) == (2, {"east"})
    assert said.find_compared("other") is None
