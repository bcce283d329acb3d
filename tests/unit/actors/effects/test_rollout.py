"""The rollout among the other actors: whom it believes, what it announces, and which models are there for it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import numpy as np

from actors.deciders.decider import digest
from actors.hosts.metrics import ActorMetrics, PrometheusInstruments
from actors.wiring import ROLES
from ops.audit.replay import Audit
from ops.audit.verification import Verification
from schemas.canonical import encode
from schemas.events import (
    CandidateStaged,
    InputsDropped,
    ModelPublished,
    Noticed,
    Promoted,
    RolledBack,
    RolloutHalted,
    RoundCharged,
    Tick,
    VersionEvaluated,
)
from schemas.published import EVENT_TYPE, STEP_TYPES
from schemas.topics import CLOCK, EVALUATIONS, MODELS, PUBLISHED, ROLLOUTS, ROUNDS, TASKS
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import ANCHOR, KEY, OperatorKey, private_policy, scored, written
from tests.worlds.federation import open_actor
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.releasing.federation import Released
from tests.worlds.releasing.orders import rollout_ordered
from tests.worlds.rounds import evaluator_id

STRANGER = OperatorKey(bytes(32))


def announced(world: Released) -> list[dict[str, Any]]:
    """What `published` says of the rollout."""
    records = scan(world.log, TopicPartition(PUBLISHED.name, world.partition))
    said = [json.loads(record.value or b"") for record in records]
    return [event for event in said if event["type"] != EVENT_TYPE]


def test_a_version_goes_all_the_way_and_a_bad_one_comes_back() -> None:
    """A whole federation: staged, kept, tried, promoted; the next one is worse and is rolled back by itself."""
    world = Released()
    first = world.promote(0.9)
    second = world.publish()
    world.score(second, 0.5)
    assert world.outcomes() == [("Promoted", first), ("RolledBack", second)]
    assert check(world.log, world.partition, settled=True) == []
    found = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert found.verdict == "identical"
    faults = Verification(world.log, world.partition, operator=KEY.public_key).check()
    assert [str(fault) for fault in faults] == []


def test_each_step_is_announced_with_its_reason_and_its_model() -> None:
    """`published` has one CloudEvent a step: what is to be used now, and the scores that it rests on."""
    world = Released()
    first = world.promote(0.9)
    second = world.publish()
    world.score(second, 0.5)
    events = announced(world)
    assert {event["type"] for event in events} <= STEP_TYPES
    assert [event["id"].rsplit("/", 1)[0] for event in events] == [
        f"{world.task}/{first}/canary",
        f"{world.task}/{first}/canary",
        f"{world.task}/{first}/promoted",
        f"{world.task}/{second}/rolledback",
    ]
    data = events[-1]["data"]
    models = {event.version: event.model for event in world.events(ROUNDS.name, ModelPublished)}
    assert (data["reason"], data["to"], data["version"]) == ("drop", first, second)
    assert data["model"]["sha256"] == models[first].sha256.hex()
    assert [(each["version"], each["value"], each["evaluator"]) for each in data["evidence"]] == [
        (second, 0.5, evaluator_id()),
        (first, 0.9, evaluator_id()),
    ]


def test_what_an_earlier_life_did_not_announce_is_announced() -> None:
    """A crash between the journal and `published` is made good by the next life, once and with the same bytes."""
    world = Released()
    world.promote()
    at = TopicPartition(PUBLISHED.name, world.partition)
    before = [record.value for record in scan(world.log, at)]
    entries = world.log._partitions[at].entries
    world.log._partitions[at].entries = [e for e in entries if not (e.record and b"rollout" in (e.record.value or b""))]
    world.start("rollout")
    assert sorted(record.value or b"" for record in scan(world.log, at)) == sorted(value or b"" for value in before)
    world.start("rollout")
    assert len([*scan(world.log, at)]) == len(before)


def test_a_model_in_use_outlives_its_window() -> None:
    """What is promoted keeps its body, however many versions follow; what nobody needs goes."""
    world = Released()
    first = world.promote()
    for _ in range(5):
        world.publish()
    world.actors["aggregator"].delete_unneeded()
    assert fetched(world, first)
    assert not fetched(world, first + 1)
    world.order("promote", first + 4)
    world.order("promote", first + 5, number=2)
    world.actors["aggregator"].delete_unneeded()
    assert not fetched(world, first)


def fetched(world: Released, version: int) -> bool:
    """Whether the body of a version is still in the log."""
    model = {event.version: event.model for event in world.events(ROUNDS.name, ModelPublished)}[version]
    records = {record.offset: record for record in scan(world.log, TopicPartition(MODELS.name, world.partition))}
    keys = {records[offset].key for offset in model.offsets}
    newest = {record.key: record.value for record in records.values() if record.key in keys}
    return all(value is not None for value in newest.values())


def test_an_order_waits_its_turn_behind_the_version_that_it_is_about() -> None:
    """A rollout that was away reads an order where the aggregator put it: behind the version, never before."""
    world = Released()
    away = world.actors.pop("rollout")
    version = world.publish()
    world.order("promote", version)
    world.actors["rollout"] = away
    world.settle()
    assert world.outcomes() == [("Promoted", version)]


def test_a_rollback_leads_to_a_model_that_is_there() -> None:
    """Two promotions are ordered while the rollout is away: what a rollback of the second leads to is kept."""
    world = Released()
    away = world.actors.pop("rollout")
    first = world.publish()
    world.order("promote", first)
    newest = [world.publish() for _ in range(4)][-1]
    world.order("promote", newest, number=2)
    world.actors["aggregator"].delete_unneeded()
    world.actors["rollout"] = away
    world.settle()
    world.order("rollback", number=3)
    world.actors["aggregator"].delete_unneeded()
    assert world.outcomes() == [("Promoted", first), ("Promoted", newest), ("RolledBack", newest)]
    assert check(world.log, world.partition, settled=True) == []
    assert fetched(world, first)
    assert not fetched(world, first + 1)


def test_nobody_but_the_operator_orders() -> None:
    """An order that a stranger signed, or another deployment's, changes nothing; nor does a copy."""
    world = Released()
    version = world.publish()
    wanted = rollout_ordered(world.task, version=version)
    world.append(TASKS.name, written(wanted, STRANGER))
    world.append(TASKS.name, written(msgspec.structs.replace(wanted, deployment=bytes(16))))
    world.settle()
    assert world.outcomes() == []
    for _ in range(3):
        world.order("promote", version)
    assert world.outcomes() == [("Promoted", version)]


def test_scores_are_believed_for_their_key() -> None:
    """Whoever says a score under another's name, or without a certificate, is counted as junk."""
    world = Released()
    version = world.publish()
    said = VersionEvaluated(
        task=world.task, version=version, metrics={"accuracy": 0.9}, samples=1, cohort="", evaluator=evaluator_id(1)
    )
    world.append(EVALUATIONS.name, scored(said))
    world.append(EVALUATIONS.name, encode(said))
    world.append(EVALUATIONS.name, b"\xc1")
    world.append(CLOCK.name, b"\xc1")
    world.settle()
    dropped = world.events(ROLLOUTS.name, InputsDropped)
    assert {each.topic: each.count for each in dropped} == {CLOCK.name: 1, EVALUATIONS.name: 3} or sum(
        each.count for each in dropped
    ) == 4
    assert not world.events(ROLLOUTS.name, CandidateStaged)


def test_evaluators_who_disagree_stop_it() -> None:
    """With two keys and a quorum of two, what one of them makes up halts the rollout and names both."""
    world = Released(rollout_policy(kept=3, evaluation={"quorum": 2, "disagreement_max": 0.1}))
    version = world.publish()
    world.score(version, 0.9)
    world.score(version, 0.1, serial=1)
    [halted] = world.events(ROLLOUTS.name, RolloutHalted)
    assert {each.evaluator for each in halted.evidence} == {evaluator_id(), evaluator_id(1)}
    world.order("resume")
    world.order("promote", version, number=2)
    assert world.outcomes() == [("Promoted", version)]


def test_a_rollout_that_is_taken_over_charges_nothing() -> None:
    """An event that its role does not say is nobody's: no round is released for it, and it is counted."""
    world = Released(private_policy(rollout={}))
    world.actors.pop("privacy")
    world.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
    pending = world.actors["aggregator"].state.tasks[world.task].pending[0]
    mechanism = pending.proposed.mechanism
    charge = RoundCharged(
        task=world.task, round=0, mechanism=mechanism, participations_max=1, rho_total=0.1, epsilon=1.0, delta=1e-5
    )
    forger = world.rollout
    # By a tick alone: each of its events is counted in the journal that it reads, and would be answered for ever.
    forged = dataclasses.replace(
        forger._decider, decide=lambda _, fact, __: [charge] * isinstance(fact, Tick), evolve=lambda *_: None
    )
    forger._decider = forged
    world.append(CLOCK.name, encode(Tick()))
    world.settle()
    assert world.events(ROLLOUTS.name, RoundCharged)
    assert not [e for e in world.events(ROUNDS.name, Noticed) if isinstance(e.fact, RoundCharged)]
    assert [e.version for e in world.events(ROUNDS.name, ModelPublished)] == [0]


def test_time_is_asked_for_only_while_it_matters() -> None:
    """Ticks come while a stage or the patience lasts, and end with it; without a candidate there are none."""
    world = Released(needs_approval=True)
    assert not world.rollout.wants_tick()
    version = world.publish()
    world.score(version, 0.9)
    assert world.rollout.wants_tick()
    world.hold()
    world.now_ms += 700_000
    world.hold()
    assert not world.rollout.wants_tick()
    world.order("approve")
    assert world.outcomes() == [("Promoted", version)]


def test_its_metrics_say_where_it_stands() -> None:
    """Promoted version, stage, and rollbacks by reason; the same after a start from nothing."""
    world = Released()
    first = world.promote(0.9)
    world.score(world.publish(), 0.5)
    third = world.publish()
    world.score(third, 0.9)
    instruments = PrometheusInstruments()
    open_actor(world, "rollout", whole=True, observers=[ActorMetrics(ROLES["rollout"], instruments)])
    read = instruments.registry.get_sample_value
    assert read("fedlog_rollout_promoted_version", {"task": world.task}) == first
    assert read("fedlog_rollout_stage", {"task": world.task}) == 1


def test_it_comes_back_with_the_same_state() -> None:
    """Law 1, at every place of a story: whoever opens its journal anew has the state that it had."""
    world = Released()
    for accuracy in (0.9, 0.5, 0.91):
        world.promote(accuracy)
        live = digest(world.rollout.state)
        assert digest(world.start("rollout").state) == live
    assert [e.version for e in world.events(ROLLOUTS.name, Promoted)] == [1, 3]
    assert [e.reason for e in world.events(ROLLOUTS.name, RolledBack)] == ["drop"]
