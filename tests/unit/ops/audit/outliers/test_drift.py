"""What a replay finds of drift: each thing that a journal could say of it and its answers or its policy do not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from actors.deciders.aggregator_state import Task
from ops.audit.outliers.drift import check_found, check_told
from ops.audit.replay import Audit
from schemas.events import DriftEnded, DriftFound, JournalEvent, ModelPublished
from schemas.tensors import pack
from schemas.topics import ROUNDS
from tests.worlds.builders import ANCHOR, TASK
from tests.worlds.drift.asking import all_in, ask, drift_policy
from tests.worlds.federation import Federation
from tests.worlds.forging import forge_event


def drifted() -> Federation:
    """A version as its reference, and one that has moved."""
    world = Federation(drift_policy(), parameters=4)
    ask(world, all_in(0))
    ask(world, all_in(3))
    return world


def judged() -> tuple[Task, ModelPublished, list[JournalEvent]]:
    """The task before the version that has moved, that version, and the decision that publishes it."""
    world = drifted()
    [decision] = [d for d in world.journal(ROUNDS.name) if any(isinstance(e, DriftFound) for e in d.events)]
    [published] = [event for event in decision.events if isinstance(event, ModelPublished)]
    before = Federation(drift_policy(), parameters=4)
    ask(before, all_in(0))
    task: Task = before.actors["aggregator"].state.tasks[TASK]
    return task, published, [*decision.events]


def change(**fields: object) -> Callable[[list[JournalEvent]], list[JournalEvent]]:
    """The same decision with another word in what is found."""

    def tell(decision: list[JournalEvent]) -> list[JournalEvent]:
        return [msgspec.structs.replace(e, **fields) if isinstance(e, DriftFound) else e for e in decision]

    return tell


LIES: dict[str, Callable[[list[JournalEvent]], list[JournalEvent]]] = {
    "another bound": change(bound=1),
    "since long ago": change(since=1),
    "another reference": change(reference="other"),
    "another cohort's statistic": change(statistic="ages"),
    "below the bound": change(value=1),
    "by chance": change(by_chance=10**9),
    "it has ended": lambda decision: [
        DriftEnded(**{name: getattr(e, name) for name in e.__struct_fields__}) if isinstance(e, DriftFound) else e
        for e in decision
    ],
}


def test_an_honest_decision_has_no_fault() -> None:
    """What is said follows from the distances, and those from the answers."""
    task, published, decision = judged()
    assert [*check_told(task, published, decision=decision)] == []


@pytest.mark.parametrize("lie", LIES)
def test_what_is_said_follows_from_its_distances(lie: str) -> None:
    """Without a single body a word against the policy is found."""
    task, published, decision = judged()
    [fault] = check_told(task, published, decision=LIES[lie](decision))
    assert "not what its distances mean" in fault


def test_other_distances_than_the_answers_are_found() -> None:
    """With the bodies a silence is found as well as a distance that was made up."""
    task, published, decision = judged()

    def fetch(ref: object) -> bytes:
        return pack(np.array([16, 0, 0, 0], np.float32))

    moved, same = (np.array(row, np.float32) for row in ([0, 0, 0, 16], [16, 0, 0, 0]))
    assert [*check_found(task, published, vector=moved, decision=decision, fetch=fetch)] == []
    for vector, told in ((same, decision), (moved, [published]), (moved, change(value=999_999)(decision))):
        [fault] = check_found(task, published, vector=vector, decision=told, fetch=fetch)
        assert "other distances" in fault


def test_a_forged_word_makes_a_replay_differ() -> None:
    """On a whole log, signed by a key that was stolen: the verdict names the version."""
    world = drifted()
    forge_event(world, ROUNDS.name, DriftFound, change=lambda event: msgspec.structs.replace(event, value=7_777_777))
    findings = Audit(world.log, world.partition, anchor=ANCHOR, full=True).run()
    assert findings.verdict != "identical"
    assert any("other distances" in str(difference) for difference in findings.differences)
