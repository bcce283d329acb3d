"""The aggregator as a specification, part two: how rounds are charged, published or given up, and how a task ends."""

from __future__ import annotations

from typing import Any

import pytest

from actors.deciders.aggregator import KeyMissing
from actors.deciders.aggregator_state import Rounds
from schemas.events import (
    BudgetExhausted,
    DeviceCheckedIn,
    Noticed,
    RoundAbandoned,
    RoundOpened,
    RoundProposed,
    RoundWithheld,
    Tick,
    UpdateAdmitted,
    VersionEvaluated,
)
from schemas.receipts.members import compute_members_root
from tests.worlds.builders import (
    TASK,
    device_checked_in,
    policy,
    private_policy,
    task_closed,
    task_created,
    task_paused,
    task_resumed,
)
from tests.worlds.rounds import (
    AGGREGATOR,
    PRIVATE,
    admission_of,
    fill,
    given,
    publication,
    release_stored,
    round_charged,
    task_halted,
    update_of,
)
from tests.worlds.specification import Situation
from tests.worlds.specification import given as given_decider

# --- charge and publication -----------------------------------------------------------------------------------------


def test_a_release_becomes_a_version() -> None:
    """Without privacy no charge is asked for: a proposal, its release, and the sum's digest beside the version."""
    situation = given()
    members = fill(situation, "abc")
    situation.when(release_stored(0, 1)).then(*publication(0, 1, members))
    situation.when(release_stored(0, 1)).then_nothing()


def test_a_round_is_charged_before_it_is_published() -> None:
    """Law 8: a release that was not charged for is not a version, whoever stored it."""
    situation = given(PRIVATE)
    members = fill(situation, "abc")
    situation.when(release_stored(0, 1)).then_nothing()
    charged = round_charged(0, PRIVATE)
    situation.when(charged).then(Noticed(fact=charged))
    situation.when(release_stored(0, 1)).then(*publication(0, 1, members))


def test_rounds_are_published_in_their_order() -> None:
    """A second round that is charged early waits for the first."""
    situation = given(PRIVATE)
    members = fill(situation, "abc")
    others = fill(situation, "def")
    situation.when(round_charged(1, PRIVATE)).when(release_stored(1, 1)).then_nothing()
    situation.when(round_charged(0, PRIVATE)).when(release_stored(0, 1)).then(*publication(0, 1, members))
    situation.when(release_stored(1, 2)).then(*publication(1, 2, others))


@pytest.mark.parametrize("reason", ["withheld", "key_missing"])
def test_a_round_that_cannot_be_released_is_abandoned(reason: str) -> None:
    """Its members are named by their root and dropped; their participations stay counted."""
    situation = given(PRIVATE)
    members = fill(situation, "abc")
    abandoned = RoundAbandoned(task=TASK, round=0, members_root=compute_members_root(members), members=3, reason=reason)  # type: ignore[arg-type]
    withheld = RoundWithheld(task=TASK, round=0, participations_max=1, reason="mechanism")
    if reason == "withheld":
        situation.when(withheld).then(Noticed(fact=withheld), abandoned)
    else:
        situation.when(KeyMissing(task=TASK, round=0)).then(abandoned)
    assert situation.state.tasks[TASK].participations == {"a": 1, "b": 1, "c": 1}
    situation.when(KeyMissing(task=TASK, round=0)).then_nothing()
    fill(situation, "abc", number=1)
    assert isinstance(situation.caused[1], RoundProposed)
    assert situation.caused[1].participations_max == 2


# --- pauses ---------------------------------------------------------------------------------------------------------


def test_a_pause_stops_no_update_under_way() -> None:
    """Paused means no new leases; what is under way is still admitted."""
    paused, resumed = task_paused(), task_resumed()
    situation = given().when(paused).then(Noticed(fact=paused))
    situation.when(update_of("a", situation)).then(admission_of(situation, "a"))
    situation.when(resumed).then(Noticed(fact=resumed))


# --- how a task ends ------------------------------------------------------------------------------------------------


def test_the_last_version_halts_the_task() -> None:
    """`versions_max` versions after the first: no round is opened for another, and the last release is the end."""
    situation = given(policy(stop={"versions_max": 2}))
    members = fill(situation, "abc")
    situation.when(release_stored(0, 1)).then(*publication(0, 1, members))
    others = fill(situation, "def")
    assert [type(event) for event in situation.caused] == [UpdateAdmitted, RoundProposed]
    situation.when(release_stored(1, 2)).then(*publication(1, 2, others), task_halted("versions_max", 2))


def test_an_abandoned_round_makes_room_for_another() -> None:
    """The last round was given up: one more is opened, because its version is still owed."""
    rules = private_policy(stop={"versions_max": 1})
    situation = given(rules)
    fill(situation, "abc")
    situation.when(KeyMissing(task=TASK, round=0))
    assert situation.caused[-1] == RoundOpened(task=TASK, round=1)


@pytest.mark.parametrize(("value", "reached"), [(0.89, False), (0.9, True), (0.95, True)])
def test_the_target_halts_the_task(value: float, reached: bool) -> None:
    """A version that reaches the target on held-out data ends the task; the open buffer is named as dropped."""
    situation = given(policy(stop={"versions_max": 9, "target_metric": "accuracy", "target_value": 0.9}))
    members = fill(situation, "a")
    evaluated = VersionEvaluated(task=TASK, version=0, metrics={"accuracy": value}, samples=9, cohort="")
    dropped = RoundAbandoned(task=TASK, round=0, members_root=compute_members_root(members), members=1, reason="halted")
    expected = [Noticed(fact=evaluated), dropped, task_halted("target")]
    situation.when(evaluated).then(*(expected if reached else []))


def test_closing_names_what_it_drops() -> None:
    """Members of a buffer that is given up are named by their root, and their participations stay counted."""
    situation = given()
    members = fill(situation, "ab")
    dropped = RoundAbandoned(task=TASK, round=0, members_root=compute_members_root(members), members=2, reason="closed")
    closed = task_closed()
    situation.when(closed).then(Noticed(fact=closed), dropped, task_halted("closed"))
    assert situation.state.tasks[TASK].participations == {"a": 1, "b": 1}


def test_an_empty_buffer_is_dropped_without_a_word() -> None:
    """There is nobody to name."""
    closed = task_closed()
    given().when(closed).then(Noticed(fact=closed), task_halted("closed"))


def test_a_task_that_is_closed_still_releases_what_is_pending() -> None:
    """What was proposed before the end is charged and published; the last of it halts the task."""
    situation = given(PRIVATE)
    members = fill(situation, "abc")
    closed = task_closed()
    situation.when(closed).then(Noticed(fact=closed))
    situation.when(round_charged(0, PRIVATE)).when(release_stored(0, 1)).then(
        *publication(0, 1, members), task_halted("closed", 1)
    )


def test_an_exhausted_budget_halts_the_task() -> None:
    """The round that the ledger withholds is abandoned; then the exhaustion ends the task with its newest version."""
    situation = given(PRIVATE)
    fill(situation, "abc")
    withheld = RoundWithheld(task=TASK, round=0, participations_max=1, reason="budget")
    exhausted = BudgetExhausted(task=TASK, rho_total=2.0, rho_max=1.0)
    situation.when(withheld)
    situation.when(exhausted).then(Noticed(fact=exhausted), task_halted("budget"))


def test_too_few_devices_halt_the_task() -> None:
    """When fewer devices than K are left below the cap, the task halts with that reason instead of hanging."""
    rules = private_policy(rho_max=0.5, selection={"devices_expected": 4})
    situation = given(rules)
    members = fill(situation, "abc")
    assert not any(isinstance(event, RoundOpened) for event in situation.caused)
    situation.when(round_charged(0, rules)).when(release_stored(0, 1)).then(
        *publication(0, 1, members), task_halted("too_few_devices", 1)
    )


def test_a_task_without_admissions_halts_as_idle() -> None:
    """No admission for the policy's idle time: the buffer is named and dropped. An admission starts the time anew."""
    situation = given(policy(stop={"versions_max": 9, "idle_s": 60.0})).at(60_000)
    members = fill(situation, "a")
    situation.at(120_000).when(Tick()).then_nothing()
    dropped = RoundAbandoned(task=TASK, round=0, members_root=compute_members_root(members), members=1, reason="halted")
    situation.at(120_001).when(Tick()).then(dropped, task_halted("idle"))
    situation.when(Tick()).then_nothing()


def test_a_paused_task_is_not_idle() -> None:
    """Nobody can train: the time begins when the task is resumed."""
    situation = given(policy(stop={"versions_max": 9, "idle_s": 60.0})).when(task_paused())
    situation.at(10**6).when(Tick()).then_nothing()
    situation.when(task_resumed()).at(10**6 + 60_000).when(Tick()).then_nothing()
    situation.at(10**6 + 60_001).when(Tick()).then(task_halted("idle"))


LATE: list[Any] = [
    task_paused(),
    task_closed(),
    BudgetExhausted(task=TASK, rho_total=2.0, rho_max=1.0),
    RoundWithheld(task=TASK, round=0, participations_max=1, reason="budget"),
    KeyMissing(task=TASK, round=0),
    release_stored(0, 1),
    round_charged(0, PRIVATE),
    task_created(),
]


@pytest.mark.parametrize("fact", LATE, ids=lambda fact: type(fact).__name__)
def test_after_the_end_nothing_is_decided(fact: Any) -> None:
    """A task ends once; what is said about it later, or about a task that is not here, is no decision."""
    given().when(task_closed()).when(fact).then_nothing()


@pytest.mark.parametrize("fact", LATE[:-1], ids=lambda fact: type(fact).__name__)
def test_facts_of_an_unknown_task_decide_nothing(fact: Any) -> None:
    """The operator, the budget and the host may speak of a task that this journal has not noticed."""
    given_decider(AGGREGATOR).when(fact).then_nothing()


def test_what_the_aggregator_does_not_read_decides_nothing() -> None:
    """A check-in is the selector's."""
    checkin = device_checked_in()
    assert isinstance(checkin, DeviceCheckedIn)
    given().when(checkin).then_nothing()


# --- rounds that end by time ----------------------------------------------------------------------------------------

BY_TIME = policy(
    aggregation={"updates_per_round": 3, "round_s": 30.0, "updates_min": 2}, stop={"versions_max": 9, "idle_s": 600.0}
)


def _kinds(situation: Situation[Rounds]) -> list[str]:
    return [type(event).__name__ for event in situation.caused]


def test_a_round_ends_by_time_once_it_has_its_least() -> None:
    """A tick past the round's time proposes what is there, if that is enough; the members are named and weighed."""
    situation = given(BY_TIME)
    members = fill(situation, "a")
    situation.at(50_000).when(Tick()).then_nothing()
    members += fill(situation, "b")
    # The one that makes it enough after the time is over ends the round itself.
    assert _kinds(situation) == ["UpdateAdmitted", "RoundProposed", "RoundOpened"]
    proposed = situation.caused[1]
    assert isinstance(proposed, RoundProposed)
    assert (proposed.members, proposed.members_root) == (2, compute_members_root(members))
    assert (proposed.weight_sum, proposed.participations_max) == (sum(member.weight for member in members), 1)


def test_a_tick_ends_a_round_at_its_time_and_not_before() -> None:
    """To the millisecond of log time, from the opening of this round; the next one has its own time."""
    situation = given(BY_TIME).at(1_000)
    fill(situation, "ab")
    situation.at(29_999).when(Tick()).then_nothing()
    situation.at(30_000).when(Tick())
    assert _kinds(situation) == ["RoundProposed", "RoundOpened"]
    situation.when(Tick()).then_nothing()
    fill(situation, "cd")
    situation.at(59_999).when(Tick()).then_nothing()
    situation.at(60_000).when(Tick())
    assert _kinds(situation) == ["RoundProposed", "RoundOpened"]


def test_a_full_round_waits_for_no_time() -> None:
    """K updates propose at once."""
    situation = given(BY_TIME)
    fill(situation, "abc")
    assert _kinds(situation) == ["UpdateAdmitted", "RoundProposed", "RoundOpened"]


def test_without_a_time_only_the_count_ends_a_round() -> None:
    """However long it takes, short of the task's idle time."""
    situation = given(policy(stop={"versions_max": 9, "idle_s": 600.0}))
    fill(situation, "ab")
    situation.at(600_000).when(Tick()).then_nothing()
