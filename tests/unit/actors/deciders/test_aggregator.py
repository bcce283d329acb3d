"""The aggregator as a specification, part one: how an update is admitted, weighed or refused."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from actors.deciders.admission import refusal
from actors.deciders.aggregator import Aggregator
from actors.deciders.aggregator_state import REMEMBERED_MS, Rounds
from schemas.events import (
    BodyFault,
    BudgetExhausted,
    CountedReason,
    Noticed,
    RefusalReason,
    RoundOpened,
    RoundProposed,
    TaskSucceeded,
    UpdateAdmitted,
)
from schemas.leases import LEASE_MARGIN_MS
from schemas.policy import WEIGHT_ONE
from schemas.policy.metrics import Fidelity, MetricSums
from schemas.receipts.members import compute_members_root
from tests.worlds.builders import (
    DEPLOYMENT,
    TASK,
    lease_id,
    mechanism,
    model_published,
    policy,
    private_policy,
    round_proposed,
    spending,
    task_closed,
    task_created,
)
from tests.worlds.rounds import (
    AGGREGATOR,
    PRIVATE,
    admission_of,
    fill,
    given,
    refusal_of,
    release_stored,
    round_charged,
    update_of,
)
from tests.worlds.specification import Situation
from tests.worlds.specification import given as given_decider

FAULTS: tuple[BodyFault, ...] = get_args(BodyFault)
OPENED = RoundOpened(task=TASK, round=0)
ONE = {"updates_per_round": 1}


# --- a task begins --------------------------------------------------------------------------------------------------


def test_a_task_begins_with_its_first_version_and_an_open_round() -> None:
    """Version 0 is the operator's first model, of no round."""
    created = task_created()
    first = model_published(model=created.model)
    situation = given_decider(AGGREGATOR).when(created).then(Noticed(fact=created), first, OPENED)
    situation.when(created).then_nothing()
    situation.when(msgspec.structs.replace(created, spent_before=(spending(9),))).then_nothing()


# --- a task carries on from another ---------------------------------------------------------------------------------

CARRIED = private_policy(rho_max=0.5)
CLAIM = TaskSucceeded(task=TASK, deployment=DEPLOYMENT, successor="next")
CHILD = task_created(private_policy(4.0), task="next", parent=TASK, spent_before=(spending(1, 1.0, task=TASK),))


def _ended() -> Situation[Rounds]:
    """A private task in which some took part once, closed and claimed by `next`."""
    situation = given(CARRIED)
    fill(situation, "ab")
    return situation.when(CLAIM).then(Noticed(fact=CLAIM)).when(task_closed())


def test_a_task_carries_on_from_its_parent() -> None:
    """The parent has ended, the child was the first to claim it, and carries what was spent in it."""
    assert _ended().when(CHILD).caused[0] == Noticed(fact=CHILD)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "another"},
        {"spent_before": (spending(0, 1.0, task=TASK),)},
        {"spent_before": (spending(1, 4.0, task=TASK),)},
        {"spent_before": (spending(1, 1.0, task="elsewhere"),)},
        {"spent_before": ()},
    ],
    ids=str,
)
def test_a_task_that_did_not_claim_or_forgets_is_refused(changes: dict[str, Any]) -> None:
    """Law 8: a second successor, or one that says less than was spent, begins no task."""
    _ended().when(msgspec.structs.replace(CHILD, **changes)).then_nothing()


def test_the_first_claim_counts() -> None:
    """A second claim says nothing, and one on a task that is not here neither."""
    second = msgspec.structs.replace(CLAIM, successor="another")
    _ended().when(second).then_nothing().when(msgspec.structs.replace(CLAIM, task="nowhere")).then_nothing()
    _ended().when(second).when(msgspec.structs.replace(CHILD, task="another")).then_nothing()


def test_a_parent_that_runs_has_no_successor_yet() -> None:
    """What it has spent is not known before its end."""
    situation = given(CARRIED)
    fill(situation, "ab")
    situation.when(CLAIM).when(CHILD).then_nothing()


def test_of_a_parent_elsewhere_nothing_is_known() -> None:
    """A parent in another partition is in another journal: there the operator's command, and a full replay, look."""
    assert given_decider(AGGREGATOR).when(CHILD).caused[0] == Noticed(fact=CHILD)


# --- admission ------------------------------------------------------------------------------------------------------


def test_an_update_is_admitted_to_the_open_round() -> None:
    """An admission holds all that its part of the sum follows from: address, weight and clip scale."""
    situation = given()
    update = update_of("a", situation, clip_scale=60_000)
    situation.when(update).then(admission_of(situation, "a", body=update.body, clip_scale=60_000))


def test_the_last_update_of_a_round_proposes_it_and_opens_the_next() -> None:
    """K admissions, one proposal that commits to them, and no gap before the next round."""
    situation = given()
    first = fill(situation, "ab")
    last = admission_of(situation, "c")
    proposed = round_proposed(0, members_root=compute_members_root([*first, last]))
    situation.when(update_of("c", situation)).then(last, proposed, RoundOpened(task=TASK, round=1))


def test_a_private_proposal_names_its_mechanism_and_the_busiest_device() -> None:
    """Law 8: what a round costs follows from the proposal alone."""
    situation = given(PRIVATE)
    for number in range(2):
        fill(situation, "abc", number=number)
    proposed = situation.caused[1]
    assert isinstance(proposed, RoundProposed)
    assert (proposed.mechanism, proposed.participations_max) == (mechanism(PRIVATE), 2)


@pytest.mark.parametrize(("samples", "units"), [(0, 1), (1, 1), (4, 4), (5, 5), (9, 5)])
def test_samples_weigh_up_to_their_cap(samples: int, units: int) -> None:
    """The weight is the samples, at least 1 and at most `samples_max`, times the weight of the staleness."""
    situation = given(policy(aggregation={"samples_max": 5, "normalisation": "weight"}))
    expected = admission_of(situation, "a", weight=units * WEIGHT_ONE, samples=max(1, samples))
    situation.when(update_of("a", situation, samples=samples)).then(expected)


def test_what_devices_report_is_summed_in_the_proposal() -> None:
    """Metrics stand in the journal as exact sums, weighted by examples; what nobody asked for costs nothing."""
    situation = given(policy(evaluation={"report": ["loss", "accuracy"]}))
    reports = {"a": ((65_536, 7), 2), "b": ((131_072, -5), 4), "c": ((1, 2, 3), 9)}
    for device, (metrics, samples) in reports.items():
        situation.when(update_of(device, situation, metrics=metrics, samples=samples))
    [proposed] = [event for event in situation.caused if isinstance(event, RoundProposed)]
    assert proposed.metrics == MetricSums(sums=(2 * 65_536 + 4 * 131_072, 2 * 7 - 4 * 5), samples=6)
    unasked = given(policy())
    unasked.when(update_of("a", unasked, metrics=(1,))).then(admission_of(unasked, "a", metrics=()))


# --- staleness ------------------------------------------------------------------------------------------------------

WEIGHTS = {
    "constant": [1, 1, 1, 1],
    "polynomial": [1, 2**-0.5, 3**-0.5, 0.5],
    "hinge": [1, 1, 1 / 11, 1 / 21],
    "threshold": [1, 1],
}


@pytest.mark.parametrize("rule", WEIGHTS)
def test_an_update_weighs_by_its_staleness(rule: str) -> None:
    """Each rule's weights, rounded once to integers; beyond them there is no admission."""
    rules = policy(aggregation=ONE, staleness={"rule": rule, "hinge_b": 1, "threshold": 1, "max_versions": 3})
    situation = given(rules)
    for staleness, factor in enumerate(WEIGHTS[rule]):
        [admitted] = fill(situation, f"{staleness}")
        assert (admitted.staleness, admitted.weight) == (staleness, round(WEIGHT_ONE * factor))
        situation.when(release_stored(staleness, staleness + 1))
    assert refusal_of(situation, update_of("late", situation)) == "stale"


def test_pending_rounds_make_an_update_stale() -> None:
    """Staleness is newest version + rounds pending - base version, at admission."""
    situation = given(PRIVATE)
    assert [admitted.staleness for admitted in fill(situation, "abcd")] == [0, 0, 0, 1]
    situation.when(round_charged(0, PRIVATE)).when(release_stored(0, 1))
    assert [admitted.staleness for admitted in fill(situation, "e", version=1)] == [0]


def test_synchronous_fedavg_refuses_the_late() -> None:
    """With no staleness allowed, an update for a round that is full is too late."""
    situation = given(policy(staleness={"max_versions": 0}))
    fill(situation, "abc")
    assert refusal_of(situation, update_of("d", situation)) == "stale"


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_a_vector_lost_is_kept_without_privacy_alone() -> None:
    """It follows from the examples and is in no noise: whatever a device tells under privacy stands in no journal."""
    told = Fidelity(kept=60_000, lost=9)
    for rules, kept in ((policy(), told), (private_policy(), None)):
        situation = given(rules)
        situation.when(update_of("a", situation, fidelity=told))
        [admitted] = situation.caused
        assert isinstance(admitted, UpdateAdmitted)
        assert admitted.fidelity == kept


def test_a_lease_of_an_unknown_task_is_refused() -> None:
    """A seal proves who wrote a lease; its task need not be here."""
    situation = given()
    assert refusal_of(situation, update_of("a", situation, task="elsewhere")) == "unknown_task"


def test_an_update_is_admitted_once() -> None:
    """Law 2: the id of an update is its lease; a repeat is an outcome of its own and changes nothing."""
    situation = given()
    fill(situation, "a")
    for _ in range(2):
        assert refusal_of(situation, update_of("a", situation)) == "duplicate"
    assert list(situation.state.tasks[TASK].buffer.members) == ["a"]  # type: ignore[union-attr]


def test_a_refused_update_is_not_admitted_later() -> None:
    """Its first outcome stays: the second copy is a duplicate, whatever has changed since."""
    situation = given(policy(staleness={"max_versions": 0}))
    fill(situation, "abc")
    assert refusal_of(situation, update_of("d", situation)) == "stale"
    assert refusal_of(situation, update_of("d", situation)) == "duplicate"


def test_an_update_under_another_policy_is_refused() -> None:
    """A lease of a task that had the same name and other rules is none of this task's."""
    situation = given()
    assert refusal_of(situation, update_of("a", situation, policy_sha256=b"o" * 32)) == "other_policy"


def test_a_deadline_is_compared_with_the_append_time() -> None:
    """Law 10: an update appended at its deadline counts, whenever it is decided; a millisecond later it is expired."""
    situation = given().at(10**9)
    fill(situation, "a", deadline_ms=5_000, append_ms=5_000)
    assert refusal_of(situation, update_of("b", situation, deadline_ms=5_000, append_ms=5_001)) == "expired"


@pytest.mark.parametrize("append_ms", [1_000, 10**9])
def test_a_lease_is_no_longer_than_the_policy_allows(append_ms: int) -> None:
    """Guarantee: a selector that was taken over cannot move, by a deadline, how long outcomes are remembered."""
    situation = given(policy(selection={"lease_s": 60.0}))
    longest = append_ms + 60_000 + LEASE_MARGIN_MS
    for number, deadline_ms in enumerate((longest + 1, (1 << 64) - 1)):
        late = update_of("a", situation, number=number, deadline_ms=deadline_ms, append_ms=append_ms)
        assert refusal_of(situation, late) == "other_policy"
    assert len(situation.state.tasks[TASK].outcomes) == 0
    fill(situation, "a", deadline_ms=longest, append_ms=append_ms)


def test_an_update_from_a_version_to_come_is_refused() -> None:
    """A sealed lease may come from a log that was cut: its version does not exist here."""
    situation = given()
    assert refusal_of(situation, update_of("a", situation, version=1)) == "from_the_future"


def test_a_device_is_once_in_a_round_whatever_leases_it_has() -> None:
    """A second lease of the same device in the same round is refused; in the next round it counts."""
    situation = given()
    fill(situation, "a")
    assert refusal_of(situation, update_of("a", situation, number=1)) == "in_round"
    fill(situation, "bc")
    assert [admitted.round for admitted in fill(situation, "a", number=2)] == [1]


def test_admission_checks_the_participation_cap_again() -> None:
    """Law 8: the guarantee does not rest on the selector; participations of the parents count."""
    once = private_policy(rho_max=0.5)
    situation = given(once)
    fill(situation, "abc")
    situation.when(round_charged(0, once)).when(release_stored(0, 1))
    assert refusal_of(situation, update_of("a", situation, number=1)) == "participations"
    carried_on = given(once, spent_before=(spending(1),))
    assert refusal_of(carried_on, update_of("a", carried_on)) == "participations"


def test_a_policy_caps_how_often_a_device_takes_part() -> None:
    """Without privacy too, checked again at admission; with privacy the lower of the two caps counts."""
    once = {"participations_max": 1}
    situation = given(policy(selection=once))
    fill(situation, "abc")
    situation.when(release_stored(0, 1))
    assert refusal_of(situation, update_of("a", situation, number=1)) == "participations"
    assert task_created(private_policy(rho_max=5.0, selection=once)).participations_cap == 1
    assert task_created(private_policy(rho_max=0.5, selection={"participations_max": 9})).participations_cap == 1


def test_after_the_last_round_updates_are_refused() -> None:
    """A task whose last round is full has no buffer left, and waits for nothing but its release."""
    rules = private_policy(stop={"versions_max": 1})
    situation = given(rules)
    fill(situation, "abc")
    assert refusal_of(situation, update_of("d", situation)) == "finished"


@pytest.mark.parametrize("ending", [task_closed(), BudgetExhausted(task=TASK, rho_total=2.0, rho_max=1.0)])
def test_after_the_end_updates_are_refused(ending: Any) -> None:
    """A task that has ended refuses by that name."""
    situation = given().when(ending)
    assert refusal_of(situation, update_of("a", situation)) == "closed"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_body_that_is_no_update_is_refused(fault: BodyFault) -> None:
    """Without privacy what is wrong with a body refuses the update, by its name."""
    situation = given()
    assert refusal_of(situation, update_of("a", situation, fault=fault, clip_scale=0)) == fault


@pytest.mark.parametrize("fault", FAULTS)
def test_with_privacy_a_bad_body_counts_as_zero(fault: BodyFault) -> None:
    """Law 9: with privacy nothing about the body may refuse; the update keeps its slot as a zero vector."""
    situation = given(PRIVATE)
    expected = admission_of(situation, "a", clip_scale=0, zeroed=fault)
    situation.when(update_of("a", situation, fault=fault)).then(expected)


def test_the_lease_is_judged_before_the_body() -> None:
    """What is known without the body refuses first: a body that cannot count need not be read."""
    situation = given()
    late = update_of("a", situation, append_ms=10**9, fault="not_finite")
    assert refusal(situation.state, late.lease, append_ms=late.append_ms) == "expired"
    assert refusal_of(situation, late) == "expired"


SPECIFIED = {"unknown_task", "duplicate", "other_policy", "expired", "closed", "finished", "from_the_future", "stale"}
SPECIFIED |= {"in_round", "participations", "epoch_over", *FAULTS}
# Here, and in `quarantining/test_judging.py`.
SPECIFIED |= {"quarantined"}


def test_every_reason_to_refuse_is_specified() -> None:
    """The closed list of reasons, and those of the tests above."""
    faults, others = get_args(RefusalReason)
    assert {*get_args(faults), *get_args(others), *get_args(CountedReason)} == SPECIFIED


def test_an_outcome_is_remembered_until_its_lease_is_long_over() -> None:
    """Law 2: a repeat is a duplicate while another copy could still be in time; memory of it is bounded."""
    situation = given(policy(aggregation=ONE, selection={"lease_s": 60.0}, staleness={"max_versions": 9}))
    outcomes = situation.state.tasks[TASK].outcomes
    fill(situation, "a", deadline_ms=60_000)
    fill(situation, "b", deadline_ms=120_000 + REMEMBERED_MS, append_ms=60_000 + REMEMBERED_MS)
    assert len(outcomes) == 2
    fill(situation, "c", deadline_ms=120_001 + REMEMBERED_MS, append_ms=60_001 + REMEMBERED_MS)
    assert len(outcomes) == 2
    assert lease_id("a/0") not in outcomes


def test_a_proposal_names_the_noise_key_of_its_operator() -> None:
    """Law 7: the key that a mechanism names is the one that this aggregator holds."""
    other = Aggregator(b"k" * 8)
    situation = given(private_policy(aggregation=ONE))
    update = update_of("a", situation)
    [_, proposed, *_] = other.decide(situation.state, update, 0)
    assert isinstance(proposed, RoundProposed)
    assert proposed.mechanism is not None
    assert proposed.mechanism.key_id == b"k" * 8
