"""What a record changed is the difference of two folds, whoever computes them."""

from __future__ import annotations

from ops.audit.journal_states import compare_states
from schemas.events import ModelPublished, UpdateAdmitted
from schemas.topics import CHECKINS, ROUNDS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.gallery import MAIN, paint
from tests.worlds.builders import KEY


def _find(kind: type[object], number: int) -> tuple[int, object]:
    """The n-th event of a kind of the main task, with the offset of its record."""
    at = TopicPartition(ROUNDS.name, paint().partition)
    found = [
        (record.offset, event)
        for record, decision, _ in read_decisions(paint().log, at, trust=None)
        for event in decision.events
        if isinstance(event, kind) and event.task == MAIN  # type: ignore[attr-defined]
    ]
    return found[number]


def test_an_admission_fills_a_slot_of_the_buffer() -> None:
    """Before it the device was in no round; after it its update is, and nothing of other tasks has changed."""
    offset, event = _find(UpdateAdmitted, 30)
    assert isinstance(event, UpdateAdmitted)
    at = TopicPartition(ROUNDS.name, paint().partition)
    changed = compare_states(paint().log, at, offset=offset, operator=KEY.public_key)
    assert changed
    slots = [one for one in changed if one.path == f"tasks.{MAIN}.buffer.members.{event.device}"]
    assert [(one.before, one.after != "") for one in slots] == [("", True)]
    assert all(one.path.startswith(f"tasks.{MAIN}.") for one in changed)


def test_a_publication_counts_the_version_up() -> None:
    """The version before and after is told as such."""
    offset, event = _find(ModelPublished, 7)
    assert isinstance(event, ModelPublished)
    at = TopicPartition(ROUNDS.name, paint().partition)
    changed = compare_states(paint().log, at, offset=offset, operator=KEY.public_key) or []
    told = {one.path: (one.before, one.after) for one in changed}
    assert told[f"tasks.{MAIN}.version"] == (str(event.version - 1), str(event.version))


def test_what_is_no_decision_has_no_states() -> None:
    """A check-in is in no journal, and past the end there is nothing."""
    partition = paint().partition
    other, past = TopicPartition(CHECKINS.name, partition), TopicPartition(ROUNDS.name, partition)
    assert compare_states(paint().log, other, offset=3, operator=KEY.public_key) is None
    assert compare_states(paint().log, past, offset=10**9, operator=KEY.public_key) is None
