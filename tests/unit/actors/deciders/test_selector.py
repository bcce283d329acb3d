"""The selector: who may train, how many at a time, and until when."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.decider import digest
from actors.deciders.selector import GRACE_MS, SELECTOR
from actors.keys import Seals
from schemas.canonical import encode
from schemas.events import (
    CheckinsDeclined,
    Declined,
    Granted,
    InputsDropped,
    LeaseClosed,
    LeaseGranted,
    TaskClosed,
    TaskPaused,
    TaskResumed,
)
from schemas.policy import Policy
from schemas.topics import CHECKINS, SELECTIONS, TASKS
from tests.worlds.builders import KEY, TASK, policy
from tests.worlds.federation import Federation

ONES = np.ones(4, np.float32)
STRICT = {
    "battery_min_percent": 50,
    "require_charging": True,
    "require_unmetered": True,
    "require_idle": True,
    "samples_min": 5,
}


def _answer(world: Federation, name: str, **changes: Any) -> Granted | Declined:
    device = world.device(name)
    device.check_in(**changes)
    world.settle()
    assert world.actors["selector"].defects == 0
    answer = device.answers()[-1]
    assert isinstance(answer, Granted | Declined)
    return answer


def _reason(world: Federation, name: str, **changes: Any) -> str:
    answer = _answer(world, name, **changes)
    assert isinstance(answer, Declined)
    assert answer.retry_after_ms > 0
    last = world.events(SELECTIONS.name, CheckinsDeclined)[-1]
    assert last.counts == {answer.reason: 1}
    return answer.reason


def _private(devices: int = 10, versions: int = 5) -> Policy:
    return policy(
        privacy={"noise_multiplier": 1.0, "rho_max": 0.5},
        selection={"devices_expected": devices},
        stop={"versions_max": versions},
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"battery_percent": 49}, "battery"),
        ({"charging": False}, "not_charging"),
        ({"unmetered": False}, "metered"),
        ({"idle": False}, "not_idle"),
        ({"samples": 4}, "too_few_samples"),
    ],
)
def test_a_condition_that_does_not_hold_declines(changes: dict[str, Any], reason: str) -> None:
    """Each condition of the policy declines by its own name, and the bound itself is enough."""
    world = Federation(policy(selection=STRICT))
    assert _reason(world, "a", **changes) == reason
    assert isinstance(_answer(world, "a", battery_percent=50, samples=5), Granted)


def test_conditions_count_only_where_the_policy_asks() -> None:
    """A policy that asks for nothing takes a device on its last percent, on a mobile line, in use."""
    world = Federation(policy())
    bare = {"battery_percent": 0, "charging": False, "unmetered": False, "idle": False, "samples": 1}
    assert isinstance(_answer(world, "a", **bare), Granted)


def test_an_unknown_task_declines() -> None:
    """A check-in for a task that is not here is answered, and costs nothing."""
    world = Federation(policy())
    stranger = world.device("a")
    stranger.task = "elsewhere"
    stranger.check_in()
    world.settle()
    answer = stranger.answers()[-1]
    assert isinstance(answer, Declined)
    assert answer.reason == "unknown_task"


def test_a_pause_declines_until_it_is_resumed() -> None:
    """Paused means no new leases; resumed means leases again; closed is for ever."""
    world = Federation(policy())
    world.append(TASKS.name, encode(TaskPaused(task=world.task)))
    world.settle()
    assert _reason(world, "a") == "paused"
    world.append(TASKS.name, encode(TaskResumed(task=world.task)))
    world.settle()
    assert isinstance(_answer(world, "a"), Granted)
    world.append(TASKS.name, encode(TaskClosed(task=world.task)))
    world.settle()
    assert _reason(world, "b") == "closed"


def test_no_more_leases_than_the_concurrency() -> None:
    """The cap holds for all devices together, and a slot that comes free is given again."""
    world = Federation(policy(selection={"concurrency": 3}))
    for name in "abc":
        assert isinstance(_answer(world, name), Granted)
    assert _reason(world, "d") == "no_slot"
    world.device("a").submit(ONES, world.rules)
    world.settle()
    assert isinstance(_answer(world, "d"), Granted)


def test_cohorts_have_their_shares() -> None:
    """A cohort holds at most its share of the concurrency, rounded up, and an unknown one nothing."""
    world = Federation(policy(selection={"concurrency": 5, "cohort_shares": {"eu": 0.5, "us": 0.2}}))
    answers = [_answer(world, f"eu{number}", cohort="eu") for number in range(4)]
    assert [isinstance(answer, Granted) for answer in answers] == [True, True, True, False]
    assert isinstance(_answer(world, "us0", cohort="us"), Granted)
    assert _reason(world, "us1", cohort="us") == "no_slot"
    assert _reason(world, "mars", cohort="mars") == "unknown_cohort"


def test_a_lease_in_flight_is_given_again() -> None:
    """One lease a device: a second check-in gets the same sealed bytes, whatever has changed."""
    world = Federation(policy(selection={"concurrency": 1, "battery_min_percent": 50}))
    first, second = _answer(world, "a"), _answer(world, "a", battery_percent=1)
    assert first == second
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1
    world.start("selector")
    assert _answer(world, "a") == first


def test_a_lease_ends_by_log_time() -> None:
    """The lease is over some grace after its deadline, by the log's time and no other clock; its slot is free again."""
    world = Federation(policy(selection={"concurrency": 3, "lease_s": 60.0}))
    first, *_ = [_answer(world, name) for name in "abc"]
    world.pass_ms(60_000 + GRACE_MS)
    assert world.events(SELECTIONS.name, LeaseClosed) == []
    assert _reason(world, "d") == "no_slot"
    world.pass_ms(1)
    assert [event.outcome for event in world.events(SELECTIONS.name, LeaseClosed)] == ["expired"] * 3
    assert isinstance(_answer(world, "d"), Granted)
    again = _answer(world, "a")
    assert isinstance(first, Granted)
    assert isinstance(again, Granted)
    assert Seals(KEY).open(again.sealed) != Seals(KEY).open(first.sealed)


def test_a_late_end_of_an_old_lease_leaves_the_new_one() -> None:
    """An update in time, admitted after its lease expired here, takes nothing from the device's next lease."""
    world = Federation(policy(selection={"lease_s": 60.0}))
    old = _answer(world, "a")
    assert isinstance(old, Granted)
    aggregator = world.actors.pop("aggregator")
    world.device("a").submit(ONES, world.rules, lease=old)
    world.pass_ms(60_000 + GRACE_MS + 1)
    new = _answer(world, "a")
    world.actors["aggregator"] = aggregator
    world.settle()
    assert [event.outcome for event in world.events(SELECTIONS.name, LeaseClosed)] == ["expired", "used"]
    assert _answer(world, "a") == new != old


def test_a_seal_says_what_was_granted() -> None:
    """The sealed lease binds task, device and its key, the version and its bytes, the deadline and the policy."""
    world = Federation(policy(selection={"lease_s": 30.0}))
    answer = _answer(world, "a")
    assert isinstance(answer, Granted)
    lease = Seals(KEY).open(answer.sealed)
    state = world.actors["selector"].state.tasks[world.task]
    assert lease is not None
    assert (lease.task, lease.device, lease.version) == (world.task, "a", 0)
    assert lease.public_key == world.device("a").key.public_key().public_bytes_raw()
    assert (lease.model_sha256, lease.policy_sha256) == (answer.model.sha256, state.created.policy_sha256)
    assert lease.deadline_ms == world.now_ms + 30_000


def test_the_first_key_of_a_device_is_its_key() -> None:
    """Whoever comes later under the same name with another key is declined, and the lease stays the first one's."""
    world = Federation(policy())
    first = _answer(world, "a")
    impostor = world.device("a")
    impostor.key = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
    impostor.check_in()
    world.settle()
    refused = impostor.answers()[-1]
    assert isinstance(refused, Declined)
    assert refused.reason == "other_key"
    assert _answer(world, "a") == first


def test_a_check_in_with_a_bad_signature_is_dropped() -> None:
    """A check-in that its own key did not sign is junk: counted, and not answered."""
    world = Federation(policy())
    device = world.device("a")
    device.check_in()
    good = [*_raw(world)][-1]
    device.append(CHECKINS.name, good[:-1] + bytes([good[-1] ^ 1]))
    world.settle()
    assert [event.count for event in world.events(SELECTIONS.name, InputsDropped)] == [1]
    assert len(device.answers()) == 1


def _raw(world: Federation) -> list[bytes]:
    from streams.log import TopicPartition, scan

    return [record.value or b"" for record in scan(world.log, TopicPartition(CHECKINS.name, world.partition))]


def test_no_lease_past_the_participation_cap() -> None:
    """m = floor(2 z^2 rho_max): here one participation a device, then no lease for it any more."""
    world = Federation(_private())
    world.round_of(dict.fromkeys("abc", ONES))
    assert _reason(world, "a") == "participations"
    assert isinstance(_answer(world, "d"), Granted)


def test_a_synchronous_round_waits_for_its_version() -> None:
    """With no staleness allowed there is no lease between a proposal and its version."""
    world = Federation(
        policy(
            privacy={"noise_multiplier": 1.0, "rho_max": 9.0}, staleness={"max_versions": 0}, stop={"versions_max": 9}
        )
    )
    budget = world.actors.pop("privacy")
    world.round_of(dict.fromkeys("abc", ONES))
    assert _reason(world, "d") == "round_pending"
    world.actors["privacy"] = budget
    world.settle()
    assert isinstance(_answer(world, "d"), Granted)


def test_declines_of_a_batch_are_one_event() -> None:
    """Declines are counted by reason, so that a crowd that is turned away costs one event a batch."""
    world = Federation(policy(selection={"samples_min": 5, "concurrency": 3}))
    for number in range(20):
        world.device(f"d{number}").check_in(samples=4 if number % 2 else 0)
    world.settle()
    [declined] = world.events(SELECTIONS.name, CheckinsDeclined)
    assert declined.counts == {"too_few_samples": 20}


def test_digests_of_an_earlier_form_are_recognised() -> None:
    """Law 11: journals outlive the form of a state; a decider that names the form before still knows its digests."""
    world = Federation(policy())
    world.device("a").check_in()
    world.settle()
    state = world.actors["selector"].state
    renamed = dataclasses.replace(SELECTOR, earlier=(lambda held: sorted(held.tasks),))
    assert renamed.recognises(state, digest(state))
    assert renamed.recognises(state, digest([TASK]))
    assert not SELECTOR.recognises(state, digest([TASK]))
