"""The judge of rollouts sees each thing that a rollout must not do: a true story, bent in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from actors.deciders.rollout import make_decider
from schemas.events import CanaryGrown, CandidateStaged, Noticed, RolloutHalted, TaskCreated, Tick, VersionEvaluated
from schemas.policy import Policy
from tests.judges.releasing.rollouts import find_rollout_faults, list_said
from tests.worlds.builders import TASK, model_published, task_created
from tests.worlds.releasing.deciding import HOLD_MS, kept, order, rollout_policy, score

Story = list[tuple[int, list[Any]]]
Bend = Callable[[Any], Any]
SCORES = [score(number, worth, cohort=each) for number, worth in ((1, 0.9), (2, 0.4)) for each in ("lab", "")]


def _tell(rules: Policy) -> Story:
    """Version 1 is promoted by its scores, version 2 fails, and the operator halts it in the end."""
    decider = make_decider(b"")
    state, now_ms = decider.initial(), 0
    story: Story = []
    first = [Noticed(fact=task_created(rules)), model_published(0), model_published(1), *SCORES[:2], kept(1)]
    for one in (*first, Tick(), Tick(), model_published(2), *SCORES[2:], order("halt")):
        now_ms += HOLD_MS * isinstance(one, Tick)
        if events := decider.decide(state, one, now_ms):
            story.append((now_ms, events))
        for event in events:
            decider.evolve(state, event, now_ms)
    return story


def _judge(story: Story) -> list[str]:
    published = {(TASK, number): model_published(number).model for number in range(3)}
    said = {each for one in SCORES for each in list_said(one)}
    return [*find_rollout_faults(story, published=published, said=said)]


STORY = _tell(rollout_policy())


def _change(bend: Bend) -> Story:
    """The story with each event as `bend` gives it back; None: left out."""
    bent = [(time_ms, [bend(event) for event in events]) for time_ms, events in STORY]
    return [(time_ms, kept_) for time_ms, events in bent if (kept_ := [event for event in events if event is not None])]


def _drop(fact: Any) -> Bend:
    return lambda event: None if event == Noticed(fact=fact) else event


def _lower(event: Any) -> Any:
    if isinstance(event, Noticed) and isinstance(event.fact, VersionEvaluated):
        return Noticed(fact=replace(event.fact, metrics={"accuracy": 0.4}))
    return event


def _ask(event: Any) -> Any:
    if isinstance(event, Noticed) and isinstance(event.fact, TaskCreated):
        return Noticed(fact=task_created(rollout_policy(needs_approval=True)))
    return event


def _shrink(event: Any) -> Any:
    return replace(event, share=0.01) if isinstance(event, CanaryGrown) else event


AGAIN = CandidateStaged(task=TASK, version=2, previous=1)
HALT = STORY[-1][1]
BENT: dict[str, tuple[Story, str]] = {
    "without a score of its cohort": (_change(_drop(SCORES[0])), "no final score for cohort 'lab'"),
    "without a score of all": (_change(_drop(SCORES[1])), "no final score for cohort ''"),
    "below a gate": (_change(_lower), "fails at_least"),
    "not approved": (_change(_ask), "has not approved"),
    "of a model that nobody keeps": (_change(_drop(kept(1).fact)), "which nobody keeps"),
    "to fewer than before": (_change(_shrink), "is not the policy's"),
    "too early": ([(0, events) for _, events in STORY], "leaves stage 0 early"),
    "tried again": ([*STORY[:-1], (STORY[-1][0], [AGAIN])], "was rolled back"),
    "ordered twice": ([*STORY, STORY[-1]], "comes after order 1"),
    "not obeyed": ([*STORY[:-1], (STORY[-1][0], HALT[:1])], "obeyed 0 times"),
    "obeyed twice": ([*STORY[:-1], (STORY[-1][0], [*HALT, HALT[1]])], "obeyed 2 times"),
}


def test_a_true_story_is_lawful() -> None:
    """The judge says nothing where nothing is wrong, and the story holds what the bends below need."""
    assert _judge(STORY) == []
    kinds = [type(event).__name__ for _, events in STORY for event in events if not isinstance(event, Noticed)]
    assert kinds == ["CandidateStaged", "CanaryStarted", "CanaryGrown", "Promoted", *kinds[4:6], "RolloutHalted"]
    assert [type(event) for event in HALT] == [Noticed, RolloutHalted]


@pytest.mark.parametrize("name", BENT)
def test_what_a_rollout_must_not_do_is_seen(name: str) -> None:
    """A version reaches people by all its stages on final scores within its gates, and each order is obeyed once."""
    story, expected = BENT[name]
    assert any(expected in fault for fault in _judge(story)), _judge(story)
