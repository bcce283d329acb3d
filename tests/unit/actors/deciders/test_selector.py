"""The selector as a specification: who may train, how many at a time, from which version, and until when."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from actors.deciders.selecting.eligibility import FRESH_MS, CheckedIn, why_not
from actors.deciders.selecting.state import Selections
from actors.deciders.selector import EXPIRED_AT_ONCE_MAX, GRACE_MS, SELECTOR, name_lease
from schemas.events import (
    CheckinsDeclined,
    DeclineReason,
    IdentityReason,
    JournalEvent,
    LeaseClosed,
    LeaseGranted,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundWithheld,
    StateDigest,
    TaskHalted,
    Tick,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.policy import Policy
from tests.worlds.builders import (
    TASK,
    device_checked_in,
    lease_granted,
    mechanism,
    model_published,
    policy,
    private_policy,
    round_proposed,
    spending,
    task_closed,
    task_created,
    task_paused,
    task_resumed,
    update_admitted,
)
from tests.worlds.specification import Situation, given

LEASE_MS = 60_000
STRICT = {
    "battery_min_percent": 50,
    "require_charging": True,
    "require_unmetered": True,
    "require_idle": True,
    "samples_min": 5,
}


def _task(rules: Policy | None = None, **changes: Any) -> tuple[JournalEvent, ...]:
    """A task with its first version, as the selector notices it."""
    created = task_created(rules or _policy(), **changes)
    return Noticed(fact=created), Noticed(fact=model_published(task=created.task))


def _policy(**selection: Any) -> Policy:
    return policy(selection={"lease_s": LEASE_MS / 1000, **selection})


def _granted(number: int, device: str, *, at_ms: int = 0, **changes: Any) -> LeaseGranted:
    """Lease `number` of the task."""
    return lease_granted(
        device,
        sent_ms=changes.pop("sent_ms", 1),
        lease=name_lease(task_created(), number),
        deadline_ms=at_ms + LEASE_MS,
        **changes,
    )


def _closed(lease: LeaseGranted, outcome: str, round_id: int | None = None) -> LeaseClosed:
    return LeaseClosed(task=TASK, lease=lease.lease, device=lease.device, outcome=outcome, round=round_id)


def _admitted(lease: LeaseGranted, round_id: int) -> Any:
    return update_admitted(lease.device, update=lease.lease, round=round_id)


def _refused(lease: LeaseGranted, reason: str) -> UpdateRefused:
    return UpdateRefused(task=TASK, update=lease.lease, device=lease.device, reason=reason, deadline_ms=0)


def _abandoned_lease(lease: LeaseGranted, reason: str = "cannot_load") -> LeaseClosed:
    return msgspec.structs.replace(_closed(lease, "abandoned"), reason=reason)


def _abandoned(round_id: int) -> RoundAbandoned:
    return RoundAbandoned(task=TASK, round=round_id, members_root=bytes(32), members=3, reason="withheld")


def _declined(reason: DeclineReason, task: str | None = TASK) -> CheckinsDeclined:
    return CheckinsDeclined(task=task, counts={reason: 1})


A, B, C = _granted(0, "a"), _granted(1, "b"), _granted(2, "c")


def test_a_cohort_that_anybody_made_up_is_forgotten() -> None:
    """Guarantee: one device that names another cohort with each lease does not make the state grow."""
    situation = given(SELECTOR, *_task())
    for number in range(3):
        lease = _granted(number, "a", sent_ms=number + 1, cohort=f"cohort-{number}")
        situation.when(device_checked_in("a", sent_ms=number + 1, cohort=lease.cohort)).then(lease)
        situation.when(_refused(lease, "body_malformed"))
    assert situation.state.tasks[TASK].in_flight == {}


# --- a lease --------------------------------------------------------------------------------------------------------


def test_a_device_gets_a_lease_on_the_newest_version() -> None:
    """A lease names the device and its key, the newest version, and a deadline by the policy from log time on."""
    situation = given(SELECTOR, *_task(), Noticed(fact=model_published(1))).at(5_000)
    situation.when(device_checked_in("a", cohort="eu")).then(_granted(0, "a", at_ms=5_000, version=1, cohort="eu"))


def test_every_lease_has_a_number_of_its_own() -> None:
    """The id of a lease follows from how many there were before, so that a replay gives the same one."""
    given(SELECTOR, *_task()).when(device_checked_in("a")).then(A).when(device_checked_in("b")).then(B)


def test_a_lease_in_flight_is_not_granted_again() -> None:
    """One lease a device: a second check-in decides nothing, whatever has changed; its answer repeats the lease."""
    situation = given(SELECTOR, *_task(_policy(battery_min_percent=50, concurrency=1)), A)
    again = device_checked_in("a", battery_percent=1, sent_ms=2)
    situation.when(again).then_nothing()
    assert why_not(situation.state, CheckedIn(again), time_ms=0) is None


def test_a_task_that_another_device_trains_grants_too() -> None:
    """Devices do not stand in each other's way below the concurrency."""
    given(SELECTOR, *_task(_policy(concurrency=2)), A).when(device_checked_in("b")).then(B)


# --- reasons to decline ---------------------------------------------------------------------------------------------

FULL = _policy(concurrency=1)
COHORTS = _policy(concurrency=5, cohort_shares={"eu": 0.5, "us": 0.2})
SYNCHRONOUS = policy(staleness={"max_versions": 0})
ONCE = private_policy(rho_max=0.5)
COHORT_OF_TWO = policy(
    aggregation={"updates_per_round": 2},
    selection={"concurrency": 2, "devices_expected": 1_000, "retry_after_s": 10.0},
    staleness={"max_versions": 0},
)

DECLINED: dict[str, tuple[tuple[JournalEvent, ...], dict[str, Any], DeclineReason]] = {
    "no task of that name": ((), {}, "unknown_task"),
    "paused": ((*_task(), Noticed(fact=task_paused())), {}, "paused"),
    "closed": ((*_task(), Noticed(fact=task_closed())), {}, "closed"),
    "closed, then resumed": (
        (*_task(), Noticed(fact=task_closed()), Noticed(fact=task_resumed())),
        {},
        "closed",
    ),
    "halted": ((*_task(), Noticed(fact=TaskHalted(task=TASK, reason="idle", version=0))), {}, "closed"),
    "before its first version": (_task()[:1], {}, "no_model"),
    "synchronous, a round pending": ((*_task(SYNCHRONOUS), Noticed(fact=round_proposed(0))), {}, "round_pending"),
    "battery": (_task(_policy(**STRICT)), {"battery_percent": 49}, "battery"),
    "not on the charger": (_task(_policy(**STRICT)), {"charging": False}, "not_charging"),
    "on a metered line": (_task(_policy(**STRICT)), {"unmetered": False}, "metered"),
    "in use": (_task(_policy(**STRICT)), {"idle": False}, "not_idle"),
    "too few samples": (_task(_policy(**STRICT)), {"samples": 4}, "too_few_samples"),
    "a cohort without a share": (_task(COHORTS), {"cohort": "mars"}, "unknown_cohort"),
    "no slot left": ((*_task(FULL), B), {}, "no_slot"),
    "a synchronous round has all its leases": ((*_task(COHORT_OF_TWO), B, _closed(B, "used", 0), C), {}, "no_slot"),
    "it gave its last lease up": ((*_task(), A, _abandoned_lease(A)), {}, "gave_up"),
    "not its turn in a synchronous round": (_task(COHORT_OF_TWO), {}, "not_drawn"),
    "the cohort's slots are taken": ((*_task(COHORTS), _granted(0, "b", cohort="us")), {"cohort": "us"}, "no_slot"),
    "a copy of the check-in that gave a lease": ((*_task(), A), {"sent_ms": 1}, "replayed"),
    "an older one, after its end": ((*_task(), A, _closed(A, "expired")), {"sent_ms": 0}, "replayed"),
    "a clock that is late": (_task(), {"sent_ms": FRESH_MS + 1}, "clock"),
    "in this round already": ((*_task(), A, _closed(A, "used", 0)), {}, "in_round"),
    "as often as the budget pays for": (
        (*_task(ONCE), A, _closed(A, "used", 0), Noticed(fact=round_proposed(0))),
        {},
        "participations",
    ),
    "as often, in the task that this one carries on": (_task(ONCE, spent_before=(spending(1),)), {}, "participations"),
}


@pytest.mark.parametrize("case", DECLINED)
def test_a_check_in_is_declined(case: str) -> None:
    """Each reason to decline, by its name; it is counted, and changes nothing."""
    history, changes, reason = DECLINED[case]
    situation = given(SELECTOR, *history)
    declined = _declined(reason, None if reason == "unknown_task" else TASK)
    situation.when(device_checked_in("a", **{"sent_ms": 2, **changes})).then(declined)
    situation.when(device_checked_in("a", **{"sent_ms": 2, **changes})).then(declined)


def test_every_reason_to_decline_is_specified() -> None:
    """The closed list and the cases above are the same, but for those of identities, quarantine and masks."""
    elsewhere = {*get_args(IdentityReason), "quarantined", "not_cosigned"}
    assert {reason for _, _, reason in DECLINED.values()} == {*get_args(DeclineReason)} - elsewhere


def test_the_bounds_themselves_are_enough() -> None:
    """A device that just meets each condition gets its lease."""
    given(SELECTOR, *_task(_policy(**STRICT))).when(device_checked_in("a", battery_percent=50, samples=5)).then(A)


def test_conditions_count_only_where_the_policy_asks() -> None:
    """A policy that asks for nothing takes a device on its last percent, on a mobile line, in use, running anything."""
    bare = {"battery_percent": 0, "charging": False, "unmetered": False, "idle": False, "samples": 1, "running": 41}
    given(SELECTOR, *_task()).when(device_checked_in("a", **bare)).then(msgspec.structs.replace(A, running=41))


# --- what makes room ------------------------------------------------------------------------------------------------

ROOM: dict[str, tuple[Policy, tuple[JournalEvent, ...]]] = {
    "a lease was used": (FULL, (B, _closed(B, "used", 0))),
    "a lease was refused": (FULL, (B, _closed(B, "refused"))),
    "a lease expired": (FULL, (B, _closed(B, "expired"))),
    "the task was resumed": (
        _policy(),
        (B, Noticed(fact=task_paused()), Noticed(fact=task_resumed())),
    ),
    "a lease of a synchronous round expired": (
        policy(selection={"concurrency": 1, "devices_expected": 1}, staleness={"max_versions": 0}),
        (B, _closed(B, "expired")),
    ),
    "the pending round is a version": (
        SYNCHRONOUS,
        (B, Noticed(fact=round_proposed(0)), Noticed(fact=model_published(0, round=0))),
    ),
    "the pending round was abandoned": (
        SYNCHRONOUS,
        (B, Noticed(fact=round_proposed(0)), Noticed(fact=_abandoned(0))),
    ),
}


@pytest.mark.parametrize("case", ROOM)
def test_a_device_gets_the_room_that_others_leave(case: str) -> None:
    """A slot that comes free is given again, and what held a task up holds it no longer."""
    rules, history = ROOM[case]
    lease_ms = rules.lease_ms
    expected = msgspec.structs.replace(_granted(1, "a"), deadline_ms=lease_ms)
    given(SELECTOR, *_task(rules), *history).when(device_checked_in("a")).then(expected)


def test_a_device_trains_again_in_the_next_round() -> None:
    """A device is at most once in a round; when that round is full it may have a lease for the next."""
    situation = given(SELECTOR, *_task(), A, _closed(A, "used", 0)).when(device_checked_in("a", sent_ms=2))
    situation.then(_declined("in_round")).given(Noticed(fact=round_proposed(0)))
    situation.when(device_checked_in("a", sent_ms=3)).then(_granted(1, "a", sent_ms=3))


def test_a_share_of_the_concurrency_is_rounded_up() -> None:
    """Half of five slots are three, and the other cohort's one is not touched by them."""
    leases = [_granted(number, f"eu{number}", cohort="eu") for number in range(3)]
    situation = given(SELECTOR, *_task(COHORTS), *leases[:2])
    situation.when(device_checked_in("eu2", cohort="eu")).then(leases[2])
    situation.when(device_checked_in("eu3", cohort="eu")).then(_declined("no_slot"))
    situation.when(device_checked_in("us0", cohort="us")).then(_granted(3, "us0", cohort="us"))


def test_a_check_in_of_before_is_no_check_in() -> None:
    """The time at which check-ins were sent only grows, also after the lease is over; log time is not far from it."""
    situation = given(SELECTOR, *_task(), A, _closed(A, "expired"))
    situation.when(device_checked_in("a", sent_ms=1)).then(_declined("replayed"))
    situation.when(device_checked_in("a", sent_ms=2)).then(_granted(1, "a", sent_ms=2))
    stranger = given(SELECTOR, *_task()).at(2 * FRESH_MS)
    stranger.when(device_checked_in("b", sent_ms=FRESH_MS - 1)).then(_declined("clock"))
    stranger.when(device_checked_in("b", sent_ms=FRESH_MS)).then(_granted(0, "b", at_ms=2 * FRESH_MS, sent_ms=FRESH_MS))


# --- how a lease ends -----------------------------------------------------------------------------------------------


def test_a_lease_expires_by_log_time() -> None:
    """A lease is over some grace after its deadline, by log time and no other clock; then its slot is free."""
    situation = given(SELECTOR, *_task(FULL), A).at(LEASE_MS + GRACE_MS)
    situation.when(Tick()).then_nothing()
    situation.at(LEASE_MS + GRACE_MS + 1).when(Tick()).then(_closed(A, "expired"))
    situation.when(Tick()).then_nothing()
    situation.when(device_checked_in("b")).then(_granted(1, "b", at_ms=situation.time_ms))


def test_leases_expire_a_thousand_at_a_time() -> None:
    """One decision stays a small record; the next tick goes on."""
    count = EXPIRED_AT_ONCE_MAX + 5
    leases = [_granted(number, f"d{number}") for number in range(count)]
    situation = given(SELECTOR, *_task(_policy(concurrency=count)), *leases).at(LEASE_MS + GRACE_MS + 1)
    situation.when(Tick()).then(*(_closed(lease, "expired") for lease in leases[:EXPIRED_AT_ONCE_MAX]))
    situation.when(Tick()).then(*(_closed(lease, "expired") for lease in leases[EXPIRED_AT_ONCE_MAX:]))


def test_an_admission_uses_the_lease_up() -> None:
    """The round that took the update is named; it counts as a participation."""
    situation = given(SELECTOR, *_task(), A).when(_admitted(A, 4)).then(_closed(A, "used", 4))
    device = situation.state.tasks[TASK].devices.get("a")
    assert device is not None
    assert (device.participations, device.round) == (1, 4)


def test_an_admission_counts_after_its_lease_expired() -> None:
    """An update in time may be decided late: it takes part, and takes nothing from the device's next lease."""
    new = _granted(1, "a")
    situation = given(SELECTOR, *_task(), A, _closed(A, "expired"), new)
    situation.when(_admitted(A, 0)).then(_closed(A, "used", 0))
    situation.when(device_checked_in("a", sent_ms=2)).then_nothing()
    situation.when(_admitted(new, 1)).then(_closed(new, "used", 1))


def test_a_refusal_frees_the_slot() -> None:
    """A refused update ends its lease without a round."""
    given(SELECTOR, *_task(), A).when(_refused(A, "stale")).then(_closed(A, "refused"))


IGNORED = {
    "a count": ((A,), UpdatesDeclined(task=TASK, counts={"duplicate": 1})),
    "after its lease expired": ((A, _closed(A, "expired")), _refused(A, "stale")),
    "of a lease that the device has no longer": ((A, _closed(A, "expired"), _granted(1, "a")), _refused(A, "stale")),
}


@pytest.mark.parametrize("case", IGNORED)
def test_a_refusal_that_ends_no_lease_decides_nothing(case: str) -> None:
    """A repeat was answered before; a lease that is over cannot end again."""
    history, refused = IGNORED[case]
    given(SELECTOR, *_task(), *history).when(refused).then_nothing()


def test_outcomes_of_an_unknown_task_decide_nothing() -> None:
    """An outcome without a task here is somebody else's."""
    given(SELECTOR).when(_admitted(A, 0)).then_nothing().when(_refused(A, "stale")).then_nothing()


# --- what it notices of others --------------------------------------------------------------------------------------

NOTICED = [
    round_proposed(0),
    model_published(1),
    _abandoned(0),
    TaskHalted(task=TASK, reason="idle", version=None),
]


@pytest.mark.parametrize("fact", NOTICED, ids=lambda fact: type(fact).__name__)
def test_it_notices_what_changes_who_may_train(fact: Any) -> None:
    """Law 1: what the aggregator decides stands in the selector's own journal before it counts."""
    given(SELECTOR, *_task()).when(fact).then(Noticed(fact=fact))


@pytest.mark.parametrize("fact", [task_paused(), task_resumed(), task_closed(), task_created()])
def test_it_notices_what_the_aggregator_noticed_of_the_operator(fact: Any) -> None:
    """Facts about a task reach the selector through the aggregator's journal."""
    given(SELECTOR, *_task()).when(Noticed(fact=fact)).then(Noticed(fact=fact))


CHARGED = RoundCharged(
    task=TASK,
    round=0,
    mechanism=mechanism(ONCE),  # type: ignore[arg-type]
    participations_max=1,
    rho_total=0.5,
    epsilon=1.0,
    delta=1e-5,
)
OTHERS = [
    RoundOpened(task=TASK, round=1),
    StateDigest(decisions=9, sha256=bytes(32)),
    Noticed(fact=CHARGED),
    Noticed(fact=RoundWithheld(task=TASK, round=0, participations_max=1, reason="budget")),
]


@pytest.mark.parametrize("event", OTHERS, ids=lambda event: type(event).__name__)
def test_what_says_nothing_about_leases_decides_nothing(event: JournalEvent) -> None:
    """The rest of the aggregator's journal only moves the position."""
    given(SELECTOR, *_task(), A).when(event).then_nothing()


def test_tasks_of_one_partition_are_apart() -> None:
    """A check-in, a lease and a pause count for the task that they name."""
    other = task_created(_policy(concurrency=1), task="other")
    history = (*_task(FULL), Noticed(fact=other), Noticed(fact=model_published(task="other")), A)
    situation: Situation[Selections] = given(SELECTOR, *history, Noticed(fact=task_paused()))
    situation.when(device_checked_in("b", task="other"))
    assert [type(event) for event in situation.caused] == [LeaseGranted]
    situation.when(device_checked_in("c")).then(_declined("paused"))
    assert SELECTOR.entries(situation.state) == 2


def test_a_task_counts_when_the_aggregator_has_noticed_it() -> None:
    """What the operator writes decides nothing here: the selector does not read that topic."""
    given(SELECTOR).when(task_created()).then_nothing()
