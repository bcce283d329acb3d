"""The aggregator's effects: leases opened, bodies read and measured, releases computed, in a whole federation."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from actors.deciders.arithmetic import noise
from actors.effects.aggregator import summation
from actors.keys import NoiseKey
from ops.audit.replay import Audit
from schemas.canonical import JOURNAL_RECORD_BYTES_MAX, TASK_BYTES_MAX
from schemas.events import (
    BudgetExhausted,
    Granted,
    InputsDropped,
    ModelPublished,
    Noticed,
    Outcome,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    SumStored,
    TaskHalted,
    UpdateAdmitted,
    UpdateRefused,
    VersionEvaluated,
)
from schemas.identifiers import BodyRef
from schemas.leases import Lease, open_lease, sign_lease
from schemas.policy import WEIGHT_ONE, Policy
from schemas.topics import EVALUATIONS, LEDGER, ROUNDS, TASKS, UPDATES
from tests.judges.lawcheck import check
from tests.worlds.builders import (
    ANCHOR,
    NOISE,
    device_ids,
    policy,
    role_key,
    scored,
    signed,
    task_paused,
    trust,
    update_submitted,
    written,
)
from tests.worlds.federation import Federation, ScriptedDevice, find_refusals

ONES = np.ones(4, np.float32)
FEDASYNC = {"updates_per_round": 1}


@pytest.mark.parametrize("again", [False, True])
def test_tables_of_the_noise_are_made_before_a_release_waits_for_them(again: bool) -> None:
    """They take as long as the rest of a release: they are there when a task begins, and when its worker does again."""
    world = Federation(_private())
    if again:
        noise.make_table.cache_clear()
        world.start("aggregator")
    [*variances] = noise.ladder(world.rules.sigma)
    found = noise.make_table.cache_info().hits
    for variance in variances:
        noise.make_table(variance)
    assert noise.make_table.cache_info().hits == found + len(variances)


def _leased(world: Federation, *names: str) -> list[ScriptedDevice]:
    devices = [world.device(name) for name in names]
    for device in devices:
        device.check_in()
    world.settle()
    return devices


def _private(**sections: dict[str, Any]) -> Policy:
    return policy(**{"privacy": {"noise_multiplier": 1.0, "rho_max": 9.0}, "stop": {"versions_max": 9}, **sections})


def _refused(world: Federation) -> list[str]:
    assert world.actors["aggregator"].guard.defects == 0
    return [event.reason for event in world.events(ROUNDS.name, UpdateRefused)]


def _lease(world: Federation, device: ScriptedDevice, **changes: Any) -> Granted:
    """The device's lease with other contents under a good seal, as an older or another operator's log would have it."""
    granted = device.granted()
    lease = open_lease(granted.sealed, trust(), at_ms=0)
    assert isinstance(lease, Lease)
    return msgspec.structs.replace(
        granted, sealed=sign_lease(msgspec.structs.replace(lease, **changes), role_key("selector").signer)
    )


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_deadline_is_compared_with_the_append_time() -> None:
    """An update appended at its deadline counts, whenever it is decided; one appended later is expired."""
    world = Federation(policy(selection={"lease_s": 60.0}))
    a, b = _leased(world, "a", "b")
    world.now_ms += 60_000
    a.submit(ONES, world.rules)
    world.now_ms += 1
    b.submit(ONES, world.rules)
    world.now_ms += 3_600_000
    world.settle()
    assert [event.device for event in world.events(ROUNDS.name, UpdateAdmitted)] == device_ids("a")
    assert find_refusals(world) == ["expired"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "elsewhere"}, "unknown_task"),
        ({"policy_sha256": b"o" * 32}, "other_policy"),
        ({"version": 1}, "from_the_future"),
        ({"deadline_ms": 1}, "expired"),
    ],
)
def test_a_lease_that_does_not_fit_is_refused(changes: dict[str, Any], reason: str) -> None:
    """A seal proves who wrote the lease; what it says must fit this task, this policy and this history."""
    world = Federation(_private())
    [device] = _leased(world, "a")
    device.submit(ONES, world.rules, lease=_lease(world, device, **changes))
    world.settle()
    assert find_refusals(world) == [reason]
    assert not world.events(ROUNDS.name, UpdateAdmitted)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"junk", "body_malformed"),
        (b"", "body_malformed"),
        (bytes(60_000), "body_malformed"),
    ],
    ids=["junk", "empty", "too long"],
)
def test_a_bad_body_is_refused_by_its_name(body: bytes, reason: str) -> None:
    """Without privacy what is wrong with a body refuses the update."""
    world = Federation(policy())
    [device] = _leased(world, "a")
    device.submit_body(body, codec="float32")
    world.settle()
    assert find_refusals(world) == [reason]


FAULTY = {"body_shape": np.ones(5), "not_finite": np.array([np.nan] * 4), "out_of_grid": np.full(4, 17.0)}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_body_of_another_shape_or_size_is_refused(fault: str) -> None:
    """Shape, NaN and range each have their reason, and with privacy the same fault only zeroes the vector."""
    for rules in (policy(), _private()):
        world = Federation(rules)
        [device] = _leased(world, "a")
        device.submit(FAULTY[fault].astype(np.float32), world.rules)
        world.settle()
        admitted = world.events(ROUNDS.name, UpdateAdmitted)
        assert find_refusals(world) == ([fault] if rules.privacy is None else [])
        assert [event.zeroed for event in admitted] == ([] if rules.privacy is None else [fault])
        told = "admitted" if rules.privacy else fault
        assert [answer.outcome for answer in device.answers() if isinstance(answer, Outcome)] == [told]


def test_an_absent_body_is_refused() -> None:
    """A ref past the end of `bodies` is absent, which is a fact and not a wait."""
    world = Federation(policy())
    [device] = _leased(world, "a")
    ref = BodyRef(topic="bodies", partition=world.partition, offsets=(99,), sha256=bytes(32), size=9, codec="float32")
    submitted = update_submitted(device.granted().sealed, ref)
    device.append(UPDATES.name, signed(submitted, device.key))
    world.settle()
    assert find_refusals(world) == ["body_absent"]


def test_our_own_defect_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception while a body is checked is an outcome of its own, and zeroed with privacy (law 9)."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(summation, "read_update", broken)
    world = Federation(_private())
    [device] = _leased(world, "a")
    device.submit(ONES, world.rules)
    world.settle()
    assert [event.zeroed for event in world.events(ROUNDS.name, UpdateAdmitted)] == ["defect"]


def test_a_lease_is_admitted_once_even_after_a_long_silence() -> None:
    """Law 2: an update is remembered until an append time past its deadline, however far log time is ahead."""
    world = Federation(policy(aggregation=FEDASYNC, selection={"lease_s": 60.0}))
    a, b = _leased(world, "a", "b")
    for device in (a, b, a):
        device.submit(ONES, world.rules)
    world.now_ms += 10 * 3_600_000
    world.append(TASKS.name, written(task_paused(task=world.task)))
    world.settle()
    assert [event.device for event in world.events(ROUNDS.name, UpdateAdmitted)] == device_ids("ab")
    assert find_refusals(world) == ["duplicate"]


# --- versions -------------------------------------------------------------------------------------------------------


def test_synchronous_fedavg_is_the_same_path() -> None:
    """K = cohort and no staleness: the late ones of a round are refused, and the model is the plain mean."""
    cohort = {"concurrency": 4, "devices_expected": 4}
    world = Federation(policy(staleness={"max_versions": 0}, selection=cohort))
    devices = _leased(world, *"abcd")
    for number, device in enumerate(devices):
        device.submit(ONES * (number + 1), world.rules)
    world.settle()
    assert find_refusals(world) == ["stale"]
    assert world.actors["aggregator"]._effects._releases.models._models[world.task].model == pytest.approx([2, 2, 2, 2])


def test_samples_weigh_up_to_their_cap() -> None:
    """With samples_max the weight is the samples, at most so many, times the staleness weight."""
    world = Federation(policy(aggregation={"samples_max": 5, "normalisation": "weight"}))
    world.round_of({"a": ONES, "b": ONES, "c": ONES})
    assert {event.weight for event in world.events(ROUNDS.name, UpdateAdmitted)} == {5 * WEIGHT_ONE}
    assert world.actors["aggregator"]._effects._releases.models._models[world.task].model == pytest.approx(ONES)


# --- how it ends ----------------------------------------------------------------------------------------------------


def _halt(world: Federation) -> TaskHalted:
    [halted] = world.events(ROUNDS.name, TaskHalted)
    assert isinstance(halted, TaskHalted)
    return halted


def test_an_exhausted_budget_halts_the_task() -> None:
    """What the ledger withholds is abandoned, and its exhaustion ends the task with the version last paid for."""
    world = Federation(_private())
    world.round_of(dict.fromkeys("abc", ONES))
    account = world.actors["privacy"].state.accounts[world.task]
    poorer = msgspec.structs.replace(world.rules.privacy, rho_max=0.5)
    account.created = msgspec.structs.replace(
        account.created, policy=msgspec.structs.replace(world.rules, privacy=poorer)
    )
    world.round_of(dict.fromkeys("abc", ONES))
    assert len(world.events(LEDGER.name, BudgetExhausted)) == 1
    assert [(event.reason, event.round) for event in world.events(ROUNDS.name, RoundAbandoned)] == [("withheld", 1)]
    assert (_halt(world).reason, _halt(world).version) == ("budget", 1)


def test_a_missing_noise_key_abandons_the_round_and_the_next_is_charged() -> None:
    """A round whose noise key is not at hand is abandoned, its participations stay, and another one is charged anew."""
    world = Federation(_private())
    budget = world.actors.pop("privacy")
    world.round_of(dict.fromkeys("abc", ONES))
    releases = world.actors["aggregator"]._effects._releases
    releases.noise.key = NoiseKey(b"k" * 32)
    world.actors["privacy"] = budget
    world.settle()
    [abandoned] = world.events(ROUNDS.name, RoundAbandoned)
    assert (abandoned.reason, abandoned.members) == ("key_missing", 3)
    releases.noise.key = NOISE
    world.round_of(dict.fromkeys("abc", ONES))
    assert [event.participations_max for event in world.events(LEDGER.name, RoundCharged)] == [1, 2]
    assert [event.round for event in world.events(ROUNDS.name, ModelPublished)] == [None, 1]


def test_a_charge_stands_before_its_version_in_the_journal() -> None:
    """The aggregator's own journal notices the charge before it publishes; a sum comes with each version."""
    world = Federation(_private())
    world.round_of(dict.fromkeys("abc", ONES))
    kinds = [type(event.fact) if isinstance(event, Noticed) else type(event) for event in world.events(ROUNDS.name)]
    order = [kinds.index(kind) for kind in (RoundProposed, RoundCharged, SumStored)]
    assert order == sorted(order)
    assert kinds[order[-1] + 1] is ModelPublished


def test_a_score_that_may_not_fit_a_journal_record_is_junk() -> None:
    """Law 4: what is noticed has to fit into a record beside its position, or no reader takes the journal again."""
    world = Federation(policy(stop={"versions_max": 9, "target_metric": "accuracy", "target_value": 0.9}))
    metrics = {"accuracy": 1.0, **{f"{number:046d}": 0.0 for number in range(8_000)}}
    record = scored(VersionEvaluated(task=world.task, version=0, metrics=metrics, samples=1, cohort=""))
    assert TASK_BYTES_MAX < len(record) < JOURNAL_RECORD_BYTES_MAX
    world.append(EVALUATIONS.name, record)
    world.settle()
    assert [event.topic for event in world.events(ROUNDS.name, InputsDropped)] == [EVALUATIONS.name]


def test_a_round_that_waits_for_time_wants_ticks() -> None:
    """Also where the task is paused: nothing else would let log time pass. It then becomes a version, lawfully."""
    world = Federation(policy(aggregation={"updates_per_round": 3, "round_s": 30.0, "updates_min": 2}))
    actor, devices = world.actors["aggregator"], _leased(world, "a", "b")
    devices[0].submit(ONES, world.rules)
    world.append(TASKS.name, written(task_paused()))
    world.settle()
    assert not actor.wants_tick()
    devices[1].submit(ONES, world.rules)
    world.settle()
    assert actor.wants_tick()
    world.pass_ms(29_000)
    assert len(world.events(ROUNDS.name, ModelPublished)) == 1
    world.pass_ms(2_000)
    assert len(world.events(ROUNDS.name, ModelPublished)) == 2
    assert not actor.wants_tick()
    assert check(world.log, world.partition, settled=True) == []
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run().verdict == "identical"
