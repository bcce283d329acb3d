"""The selector as a specification: a lease that its device gives up is free at once, and the device rests."""

from __future__ import annotations

from typing import Any

import pytest

from actors.deciders.selector import SELECTOR
from schemas.events import LeaseAbandoned, LeaseGranted
from tests.unit.actors.deciders.test_selector import (
    FULL,
    LEASE_MS,
    A,
    B,
    _abandoned_lease,
    _declined,
    _granted,
    _policy,
    _task,
)
from tests.worlds.builders import TASK, device_checked_in, private_policy
from tests.worlds.specification import given


def _gives_up(held: LeaseGranted, **changes: Any) -> LeaseAbandoned:
    plain = {"task": TASK, "device": held.device, "public_key": held.public_key, "lease": held.lease}
    return LeaseAbandoned(**{**plain, "reason": "cannot_load", **changes})


def test_a_lease_that_is_given_up_frees_its_slot_at_once() -> None:
    """Others need not wait for the deadline; the reason stands in the journal, and a repeat says nothing."""
    situation = given(SELECTOR, *_task(FULL), A).when(_gives_up(A)).then(_abandoned_lease(A))
    situation.when(_gives_up(A)).then_nothing()
    situation.when(device_checked_in("b")).then(B)


@pytest.mark.parametrize("changes", [{"task": "elsewhere"}, {"device": "b"}, {"lease": B.lease}])
def test_nobody_gives_up_what_another_holds(changes: dict[str, str]) -> None:
    """Guarantee: only the device that holds a lease ends it, and only that lease."""
    given(SELECTOR, *_task(), A).when(_gives_up(A, **changes)).then_nothing()


@pytest.mark.parametrize("reason", ["training_failed", "not_finite", "failed"])
def test_with_privacy_no_example_ends_a_lease(reason: str) -> None:
    """Guarantee: who arrives in a private round does not depend on data, whatever a device says."""
    situation = given(SELECTOR, *_task(private_policy()), A)
    situation.when(_gives_up(A, reason=reason)).then_nothing()
    situation.when(_gives_up(A, reason="no_space")).then(_abandoned_lease(A, "no_space"))


def test_who_gave_a_lease_up_rests_for_a_while() -> None:
    """A device that cannot train is not given slot after slot: it waits a dozen retries, and no longer than a lease."""
    situation = given(SELECTOR, *_task(_policy(retry_after_s=2.0)), A).when(_gives_up(A))
    situation.at(23_999).when(device_checked_in("a", sent_ms=2)).then(_declined("gave_up"))
    situation.at(24_000).when(device_checked_in("a", sent_ms=2)).then(_granted(1, "a", sent_ms=2, at_ms=24_000))
    situation = given(SELECTOR, *_task(_policy(retry_after_s=100.0)), A).when(_gives_up(A))
    situation.at(LEASE_MS).when(device_checked_in("a", sent_ms=2)).then(_granted(1, "a", sent_ms=2, at_ms=LEASE_MS))


def test_a_rest_that_is_over_is_forgotten() -> None:
    """The state holds those who rest, and no crowd of those who once did."""
    situation = given(SELECTOR, *_task(_policy(retry_after_s=1.0)))
    for number in range(5):
        situation.at(13_000 * number).when(device_checked_in(f"d{number}")).then(
            lease := _granted(number, f"d{number}", at_ms=13_000 * number)
        )
        situation.when(_gives_up(lease))
    assert [*situation.state.tasks[TASK].resting] == ["d4"]
