"""What all deciders have in common: digests of their states."""

from __future__ import annotations

import dataclasses

from actors.deciders.decider import digest
from actors.deciders.selector import SELECTOR
from schemas.events import Noticed
from tests.worlds.builders import TASK, device_checked_in, model_published, task_created
from tests.worlds.specification import given


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
