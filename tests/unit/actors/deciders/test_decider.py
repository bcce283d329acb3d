"""What all deciders have in common: digests of their states, and events that are counted together."""

from __future__ import annotations

import dataclasses

import pytest

from actors.deciders.decider import coalesce, digest
from actors.deciders.selector import SELECTOR
from schemas.events import CheckinsDeclined, InputsDropped, JournalEvent, Noticed, RoundOpened
from tests.worlds.builders import TASK, device_checked_in, model_published, task_created
from tests.worlds.specification import given

DROPPED = InputsDropped(topic="updates", count=2, first_offset=4, last_offset=7)
DECLINED = CheckinsDeclined(task=TASK, counts={"no_slot": 3})


def test_digests_of_an_earlier_form_are_recognised() -> None:
    """Law 11: journals outlive the form of a state; a decider that names the form before still knows its digests."""
    history = Noticed(fact=task_created()), Noticed(fact=model_published())
    state = given(SELECTOR, *history).when(device_checked_in()).state
    renamed = dataclasses.replace(SELECTOR, earlier=(lambda held: sorted(held.tasks),))
    assert renamed.recognises(state, digest(state))
    assert renamed.recognises(state, digest([TASK]))
    assert not SELECTOR.recognises(state, digest([TASK]))


def test_equal_states_have_equal_digests() -> None:
    """A digest is over canonical bytes, so that two replays can be compared."""
    first, second = (given(SELECTOR, Noticed(fact=task_created())).state for _ in range(2))
    assert digest(first) == digest(second) != digest(SELECTOR.initial())


def test_drops_of_one_topic_are_one_event() -> None:
    """The first and the last offset stay, the counts add up."""
    after = InputsDropped(topic="updates", count=1, first_offset=9, last_offset=9)
    assert coalesce(DROPPED, after) == InputsDropped(topic="updates", count=3, first_offset=4, last_offset=9)


def test_declines_of_one_task_are_one_event() -> None:
    """They are counted by reason, so that a crowd that is turned away costs one event a batch."""
    after = CheckinsDeclined(task=TASK, counts={"battery": 1, "no_slot": 2})
    assert coalesce(DECLINED, after) == CheckinsDeclined(task=TASK, counts={"battery": 1, "no_slot": 5})


@pytest.mark.parametrize(
    "after",
    [
        InputsDropped(topic="checkins", count=1, first_offset=9, last_offset=9),
        CheckinsDeclined(task="other", counts={"no_slot": 1}),
        RoundOpened(task=TASK, round=1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_else_is_counted_together(after: JournalEvent) -> None:
    """Another topic, another task, another kind of event: two events."""
    for before in (DROPPED, DECLINED, RoundOpened(task=TASK, round=0)):
        assert coalesce(before, after) is None
