"""The selector's effects: what devices are answered, under which seal, and whose check-ins count."""

from __future__ import annotations

import hashlib
from typing import Any
from unittest.mock import patch

import numpy as np

from actors.deciders import selector
from actors.deciders.selecting.eligibility import FRESH_MS
from actors.deciders.selector import GRACE_MS
from schemas.canonical import encode
from schemas.devices import ED25519
from schemas.events import (
    CheckinsDeclined,
    Declined,
    Granted,
    InputsDropped,
    LeaseAbandoned,
    LeaseClosed,
    LeaseGranted,
    Tick,
)
from schemas.leases import open_lease
from schemas.topics import CHECKINS, SELECTIONS, TASKS
from streams.log import TopicPartition, scan
from streams.packing import pack
from tests.worlds.builders import (
    device_checked_in,
    device_id,
    device_key,
    policy,
    public_key,
    signed,
    task_closed,
    task_paused,
    task_resumed,
    trust,
    written,
)
from tests.worlds.federation import Federation

ONES = np.ones(4, np.float32)


def _answer(world: Federation, name: str, **changes: Any) -> Granted | Declined:
    device = world.device(name)
    device.check_in(**changes)
    world.settle()
    assert world.actors["selector"].guard.defects == 0
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


def test_many_ticks_in_one_record_are_one() -> None:
    """Law 9: whatever a stranger packs, what is decided on it goes into one record of the journal, without a defect."""
    # As many leases as one tick closes fill a good part of such a record, and all these ticks would fill several.
    with patch.object(selector, "EXPIRED_AT_ONCE_MAX", 2):
        world = Federation(policy(selection={"concurrency": 9, "lease_s": 10.0}))
        for number in range(9):
            world.device(f"d{number}").check_in()
        world.settle()
        world.now_ms += 10_000 + GRACE_MS + 1
        world.append(CHECKINS.name, pack([encode(Tick())] * 64))
        world.feed("selector")
    assert [event.outcome for event in world.events(SELECTIONS.name, LeaseClosed)] == ["expired"] * 2
    assert [event.count for event in world.events(SELECTIONS.name, InputsDropped)] == [63]


def _alike(one: object, other: object) -> bool:
    """The same lease, in answers to two check-ins."""
    assert isinstance(one, Granted)
    assert isinstance(other, Granted)
    return (one.sealed, one.model) == (other.sealed, other.model)


def _reason_of(world: Federation, name: str) -> str:
    """Why the newest answer to a device is no lease."""
    answer = world.device(name).answers()[-1]
    assert not isinstance(answer, Granted)
    return str(getattr(answer, "reason", ""))


def test_an_answer_names_the_check_in() -> None:
    """A device can tell the answer to its own check-in: by the digest of the record, with a lease or without."""
    world = Federation(policy(selection={"concurrency": 3}))
    answers = [_answer(world, name) for name in "abcd"]
    assert {type(answer) for answer in answers} == {Granted, Declined}
    records = scan(world.log, TopicPartition(CHECKINS.name, world.partition))
    asked = [hashlib.sha256(record.value or b"").digest() for record in records]
    assert [answer.checkin_sha256 for answer in answers] == asked


def test_a_device_is_told_when_its_turn_is() -> None:
    """A synchronous round says when a ticket is called: a moment before it is too early, and then there is a lease."""
    selection = {"concurrency": 3, "devices_expected": 1_000, "retry_after_s": 10.0}
    world = Federation(policy(selection=selection, staleness={"max_versions": 0}))
    early = _answer(world, "a")
    assert isinstance(early, Declined)
    assert early.reason == "not_drawn"
    world.pass_ms(early.retry_after_ms - 1)
    assert _reason(world, "a") == "not_drawn"
    world.pass_ms(1)
    assert isinstance(_answer(world, "a"), Granted)


def test_a_lease_is_given_up_under_the_device_s_own_key() -> None:
    """Guarantee: a report that another key signed is junk; the device's own frees the slot, and its rest is told."""
    world = Federation(policy(selection={"concurrency": 3}))
    held, *_ = [_answer(world, name) for name in "abc"]
    assert isinstance(held, Granted)
    lease = open_lease(held.sealed, trust(), at_ms=0)
    assert lease is not None
    said = LeaseAbandoned(
        task=world.task, device=lease.device, public_key=lease.public_key, lease=lease.lease, reason="no_space"
    )
    world.append(CHECKINS.name, signed(said, device_key("b")))
    assert _reason(world, "d") == "no_slot"
    world.append(CHECKINS.name, signed(said, device_key("a")))
    world.settle()
    [closed] = world.events(SELECTIONS.name, LeaseClosed)
    assert (closed.outcome, closed.reason) == ("abandoned", "no_space")
    assert isinstance(_answer(world, "d"), Granted)
    again = _answer(world, "a")
    assert isinstance(again, Declined)
    assert (again.reason, again.retry_after_ms) == ("gave_up", 60_000)


def test_a_pause_declines_until_it_is_resumed() -> None:
    """Paused means no new leases; resumed means leases again; closed is for ever."""
    world = Federation(policy())
    world.append(TASKS.name, written(task_paused(task=world.task)))
    world.settle()
    assert _reason(world, "a") == "paused"
    world.append(TASKS.name, written(task_resumed(task=world.task)))
    world.settle()
    assert isinstance(_answer(world, "a"), Granted)
    world.append(TASKS.name, written(task_closed(task=world.task)))
    world.settle()
    assert _reason(world, "b") == "closed"


def test_a_lease_in_flight_is_given_again() -> None:
    """One lease a device: a second check-in gets the same sealed bytes, whatever has changed."""
    world = Federation(policy(selection={"concurrency": 1, "battery_min_percent": 50}))
    first, second = _answer(world, "a"), _answer(world, "a", battery_percent=1)
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert (first.sealed, first.model) == (second.sealed, second.model)
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1
    world.start("selector")
    assert _alike(_answer(world, "a"), first)


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
    assert open_lease(again.sealed, trust(), at_ms=0) != open_lease(first.sealed, trust(), at_ms=0)


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
    assert _alike(_answer(world, "a"), new)
    assert not _alike(new, old)


def test_a_seal_says_what_was_granted() -> None:
    """The sealed lease binds task, device and its key, the version and its bytes, the deadline and the policy."""
    world = Federation(policy(selection={"lease_s": 30.0}))
    answer = _answer(world, "a")
    assert isinstance(answer, Granted)
    lease = open_lease(answer.sealed, trust(), at_ms=0)
    state = world.actors["selector"].state.tasks[world.task]
    assert lease is not None
    assert (lease.task, lease.device, lease.version) == (world.task, device_id("a"), 0)
    assert lease.public_key == public_key("a")
    assert (lease.model_sha256, lease.policy_sha256) == (answer.model.sha256, state.created.policy_sha256)
    assert lease.deadline_ms == world.now_ms + 30_000


def test_a_device_is_its_key() -> None:
    """Nobody checks in under an id of which they do not hold the key: it is junk, and costs its owner nothing."""
    world = Federation(policy())
    first = _answer(world, "a")
    impostor = world.device("a")
    impostor.key = device_key("i")
    impostor.check_in()
    impostor.check_in(public_key=public_key("a"))
    impostor.check_in(public_key=ED25519 + (1).to_bytes(32, "little"))
    world.settle()
    assert _alike(_answer(world, "a"), first)
    [*dropped] = world.events(SELECTIONS.name, InputsDropped)
    assert sum(event.count for event in dropped) == 3


def test_a_recorded_check_in_is_good_for_nothing() -> None:
    """A copy of a check-in gives no lease and no answer that counts, soon or late, while a lease is out or after."""
    world = Federation(policy())
    _answer(world, "a")
    [recorded] = _raw(world)
    for _ in range(2):
        world.append(CHECKINS.name, recorded)
        world.settle()
        assert _reason_of(world, "a") == "replayed"
        world.device("a").submit(ONES, world.rules)
        world.settle()
    stranger = world.device("b")
    for sent_ms in (world.now_ms - FRESH_MS - 1, world.now_ms + FRESH_MS + 1):
        stranger.check_in(sent_ms=sent_ms)
        world.settle()
    assert [answer.reason for answer in stranger.answers() if isinstance(answer, Declined)] == ["clock", "clock"]
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1


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


def test_a_check_in_of_another_deployment_is_dropped() -> None:
    """One operator's staging and production: what a device sent to one is junk in the other, and nothing is granted."""
    world = Federation(policy())
    checkin = device_checked_in(device_id("a"), public_key=public_key("a"), sent_ms=world.now_ms, task=world.task)
    world.append(CHECKINS.name, signed(checkin, "a", deployment=b"s" * 16))
    world.settle()
    assert [dropped.count for dropped in world.events(SELECTIONS.name, InputsDropped)] == [1]
    assert world.events(SELECTIONS.name, LeaseGranted) == []
    world.append(CHECKINS.name, signed(checkin, "a"))
    world.settle()
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1


def test_declines_of_a_batch_are_one_event() -> None:
    """Declines are counted by reason, so that a crowd that is turned away costs one event a batch."""
    world = Federation(policy(selection={"samples_min": 5, "concurrency": 3}))
    for number in range(20):
        world.device(f"d{number}").check_in(samples=4 if number % 2 else 0)
    world.settle()
    [declined] = world.events(SELECTIONS.name, CheckinsDeclined)
    assert declined.counts == {"too_few_samples": 20}
