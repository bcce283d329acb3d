"""Whoever may write to the aggregator's journal holds no operator's key: nobody believes a policy from there."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from actors.effects.operator_events import OperatorEvents
from schemas.events import InputsDropped, JournalEvent, LeaseGranted, Noticed, RoundOpened, TaskCreated
from schemas.journal import Chain
from schemas.topics import LEDGER, ROUNDS, SELECTIONS, TASKS
from streams.log import Draft, LogUnavailable, TopicPartition, scan
from streams.memory import MemoryLog
from tests.places import home_of
from tests.worlds.builders import (
    batch,
    decision,
    private_policy,
    role_key,
    task_closed,
    task_created,
    task_paused,
    writer_claimed,
    written,
)
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import journalled


def forge(world: Federation, *events: JournalEvent) -> None:
    """What whoever holds the aggregator's key can do: claim the journal, and go on with its chain."""
    at, chain = TopicPartition(ROUNDS.name, world.partition), Chain(ROUNDS.name, world.partition)
    for record in scan(world.log, at):
        chain.follow(record.offset, record.value or b"")
    writer = world.log.writer("stranger")
    after = world.log.find_written_end(at)
    claim = journalled(writer_claimed("aggregator", world.partition, after=after), *at)
    [offset] = writer.commit([Draft(topic=ROUNDS.name, partition=world.partition, value=claim)])
    chain.follow(offset, claim)
    forged = journalled(batch(chain.at, decision(*events, time_ms=world.now_ms)), *at)
    writer.commit([Draft(topic=ROUNDS.name, partition=world.partition, value=forged)])


def lavish(world: Federation, **changes: Any) -> TaskCreated:
    """The creation of the world's task under a policy that the operator never wrote."""
    created = world.actors["aggregator"].state.tasks[world.task].created
    return msgspec.structs.replace(created, policy=private_policy(20.0, 1e6), **changes)


@pytest.mark.parametrize("task", ["digits", "mine"])
def test_a_forged_creation_is_counted_and_moves_nothing(task: str) -> None:
    """In a batch that fits the chain: the selector leases nothing for it, the ledger opens no account."""
    world = Federation(private_policy())
    forge(world, Noticed(fact=lavish(world, task=task)), RoundOpened(task=task, round=0))
    for name in ("selector", "privacy"):
        world.feed(name)
    selector, privacy = (world.actors[name].state for name in ("selector", "privacy"))
    assert ([*selector.tasks], [*privacy.accounts]) == ([world.task], [world.task])
    assert selector.tasks[world.task].created.policy == world.rules
    assert privacy.accounts[world.task].created.policy == world.rules
    for journal in (SELECTIONS.name, LEDGER.name):
        [dropped] = world.events(journal, InputsDropped)
        assert (dropped.topic, dropped.count) == (ROUNDS.name, 1)


def test_a_forged_close_ends_nothing() -> None:
    """Nor does a pause: devices get leases as before."""
    world = Federation(private_policy())
    forge(world, Noticed(fact=task_paused()), Noticed(fact=task_closed()))
    world.device("a").check_in()
    world.feed("selector")
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1


def vouches(events: OperatorEvents, said: JournalEvent) -> bool:
    """As an actor asks: it looks the events of a record up before it decides the first."""
    events.look_up([said])
    return events.vouch_for(said)


def test_what_the_operator_signs_later_is_looked_up_again() -> None:
    """The topic is read on, and only where something is not known yet."""
    world = Federation(private_policy())
    events = OperatorEvents(world.log, world.partition, key=role_key("selector"))
    paused = Noticed(fact=task_paused())
    assert not vouches(events, paused)
    world.append(TASKS.name, written(task_paused()))
    assert vouches(events, paused)
    assert vouches(events, RoundOpened(task=world.task, round=0))


def test_a_second_creation_of_a_name_is_no_creation() -> None:
    """Signed or not: of two the first counts, for every reader."""
    world = Federation(private_policy())
    second = lavish(world)
    world.append(TASKS.name, written(second))
    events = OperatorEvents(world.log, world.partition, key=role_key("selector"))
    assert not vouches(events, Noticed(fact=second))
    assert vouches(events, Noticed(fact=world.actors["aggregator"].state.tasks[world.task].created))


def test_another_deployments_word_is_none_here() -> None:
    """One key may serve several."""
    world = Federation(private_policy())
    elsewhere = task_created(task="mine", deployment=bytes(16))
    world.append(TASKS.name, written(elsewhere))
    events = OperatorEvents(world.log, world.partition, key=role_key("selector"))
    assert not vouches(events, Noticed(fact=elsewhere))


def test_a_broker_that_is_away_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The creation is taken when the topic can be read: what is not known yet is not unsigned."""
    world = Federation(private_policy())
    name = next(name for name in (f"t{n}" for n in range(999)) if home_of(name) == world.partition)
    model = world.actors["aggregator"].state.tasks[world.task].created.model
    world.append(TASKS.name, written(task_created(private_policy(), task=name, model=model)))
    world.feed("aggregator")

    def be_away(at: TopicPartition) -> Any:
        if at.topic == TASKS.name:
            raise LogUnavailable("away")
        return MemoryLog.bounds(world.log, at)

    with monkeypatch.context() as patch:
        patch.setattr(world.log, "bounds", be_away)
        with pytest.raises(LogUnavailable):
            world.feed("selector")
    world.settle()
    assert name in world.actors["selector"].state.tasks
    assert world.events(SELECTIONS.name, InputsDropped) == []
    world.round_of({name: np.ones(4, np.float32) for name in "abc"})
