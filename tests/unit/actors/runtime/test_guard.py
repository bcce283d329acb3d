"""Inputs on which our own code fails: each is recorded as a defect, alarmed and passed, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from actors.deciders.decider import digest
from actors.effects.aggregator import summation
from actors.hosts.assembly import assemble
from actors.runtime.actor import Actor
from actors.runtime.guard import InputPlace, Skip, SkipLevel, StateHalfApplied, describe
from schemas.canonical import encode
from schemas.events import (
    DefectFound,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    Outcome,
    RoundProposed,
    RoundWithheld,
    UpdateAdmitted,
    UpdateRefused,
)
from schemas.topics import CHECKINS, LEDGER, ROUNDS, SELECTIONS, UPDATES
from streams.log import LogUnavailable
from tests.judges.lawcheck import check
from tests.worlds.builders import device_id, device_ids, policy, role_key
from tests.worlds.federation import Federation

ONES = np.ones(4, np.float32)
PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}
ROUND_OF_ONE = {"updates_per_round": 1}
Call = Callable[..., Any]


def failing(call: Call, is_poison: Callable[[Any], bool], *, error: type[Exception] = ZeroDivisionError) -> Call:
    """`call`, which raises where its second argument is poison."""

    def fails(state: Any, *arguments: Any, **named: Any) -> Any:
        if is_poison(arguments[0]):
            raise error("what the device said")
        return call(state, *arguments, **named)

    return fails


def half(fold: Call, is_poison: Callable[[Any], bool]) -> Call:
    """`fold`, which raises where its event is poison after it has folded it."""

    def fails(state: Any, event: Any, time_ms: int) -> None:
        fold(state, event, time_ms)
        if is_poison(event):
            raise ZeroDivisionError

    return fails


def from_device(name: str) -> Callable[[Any], bool]:
    """Whatever a device has a part in."""
    return lambda fact: getattr(fact, "device", getattr(getattr(fact, "lease", None), "device", "")) == name


def replaced(actor: Actor[Any], **parts: Call) -> None:
    actor._decider = dataclasses.replace(actor._decider, **parts)


def reopened(world: Federation, name: str, **parts: Call) -> Actor[Any]:
    """What a host does with an actor whose state is half-way: the next one replays, and is told what failed."""
    actor = assemble(name, world.partition, log=world.log, key=role_key(name))
    actor.guard = world.actors[name].guard
    replaced(actor, **parts)
    actor.open()
    world.actors[name] = actor
    return actor


def leased(world: Federation, *names: str) -> None:
    for name in names:
        world.device(name).check_in()
    world.settle()


@pytest.fixture(autouse=True)
def alarms() -> Iterator[list[Any]]:
    """The log, caught."""
    with capture_logs() as lines:
        yield lines


def lawful(world: Federation) -> bool:
    """Every law holds, and what was passed is seen as such."""
    assert check(world.log, world.partition, settled=True, defects=True) == []
    return any(": a defect: " in fault for fault in check(world.log, world.partition, settled=True))


def test_a_decide_that_raises_is_passed(alarms: list[Any]) -> None:
    """Law 9: a check-in that our code cannot take is a defect with its offset, and an alarm; others get leases."""
    world = Federation(policy())
    selector = world.actors["selector"]
    replaced(selector, decide=failing(selector._decider.decide, from_device(device_id("b"))))
    leased(world, *"abc")
    [found] = world.events(SELECTIONS.name, DefectFound)
    assert (found.topic, found.first_offset, found.last_offset, found.number) == (CHECKINS.name, 1, 1, 0)
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("ac")
    [alarm] = [line for line in alarms if line["event"] == "defect"]
    assert (alarm["log_level"], alarm["where"]) == ("critical", f"{CHECKINS.name}[{world.partition}]@1 (0)")
    assert lawful(world)


def test_a_defect_says_nothing_that_a_device_said() -> None:
    """The journal names the exception's type and the place in our code; its text may be a device's."""
    world = Federation(policy())
    selector = world.actors["selector"]
    replaced(selector, decide=failing(selector._decider.decide, from_device(device_id("b"))))
    leased(world, "b")
    [found] = world.events(SELECTIONS.name, DefectFound)
    assert found.error.startswith("ZeroDivisionError at test_guard.py:")
    assert "device" not in found.error
    assert describe(ValueError("x" * 999)) == "ValueError"


@pytest.mark.parametrize("privacy", [None, PRIVATE], ids=["plain", "private"])
@pytest.mark.parametrize("broken", ["read_update", "decide"])
def test_a_leased_update_keeps_its_outcome(monkeypatch: pytest.MonkeyPatch, broken: str, privacy: Any) -> None:
    """Law 9: an update is refused as a defect, and zeroed with privacy, whether its body or its decision failed."""
    world = Federation(policy(**({"privacy": privacy} if privacy else {})))
    aggregator = world.actors["aggregator"]
    if broken == "decide":
        poison = from_device(device_id("b"))
        replaced(aggregator, decide=failing(aggregator._decider.decide, lambda f: poison(f) and f.fault is None))
    leased(world, *"abc")
    for name in "abc":
        with monkeypatch.context() as patch:
            if (broken, name) == ("read_update", "b"):
                patch.setattr(summation, "read_update", failing(summation.read_update, lambda _: True))
            world.device(name).submit(ONES, world.rules)
            world.settle()
    [found] = world.events(ROUNDS.name, DefectFound)
    assert (found.topic, found.first_offset) == (UPDATES.name, 1)
    zeroed = [event.zeroed for event in world.events(ROUNDS.name, UpdateAdmitted)]
    refused = [event.reason for event in world.events(ROUNDS.name, UpdateRefused)]
    assert (zeroed, refused) == (([None, "defect", None], []) if privacy else ([None, None], ["defect"]))
    told = [answer.outcome for answer in world.device("b").answers() if isinstance(answer, Outcome)]
    assert told == ["admitted" if privacy else "defect"]
    assert lawful(world)


def test_a_defect_on_a_journal_is_passed_alone() -> None:
    """One fact of another's record fails: it is named by its number, and the others of that record are decided."""
    world = Federation(policy(aggregation=ROUND_OF_ONE))
    selector = world.actors["selector"]
    replaced(selector, decide=failing(selector._decider.decide, lambda fact: isinstance(fact, RoundProposed)))
    world.round_of({"a": ONES})
    [found] = world.events(SELECTIONS.name, DefectFound)
    assert (found.topic, found.number) == (ROUNDS.name, 1)
    assert [event.lease for event in world.events(SELECTIONS.name, LeaseClosed)] != []
    noticed = [event.fact for event in world.events(SELECTIONS.name, Noticed)]
    assert [fact.version for fact in noticed if isinstance(fact, ModelPublished)] == [0, 1]
    assert lawful(world)


def test_a_charge_that_cannot_be_reckoned_is_withheld() -> None:
    """Law 8: unknown means refuse; the round is abandoned, and the task goes on with the next one."""
    world = Federation(policy(aggregation=ROUND_OF_ONE, privacy=PRIVATE))
    ledger = world.actors["privacy"]
    replaced(ledger, decide=failing(ledger._decider.decide, lambda f: isinstance(f, RoundProposed) and f.round == 0))
    world.round_of({"a": ONES})
    world.round_of({"b": ONES})
    assert [event.reason for event in world.events(LEDGER.name, RoundWithheld)] == ["mechanism"]
    assert [event.round for event in world.events(ROUNDS.name, ModelPublished)] == [None, 1]
    assert lawful(world)


@pytest.mark.parametrize("name", ["selector", "aggregator"])
def test_a_state_that_is_half_folded_is_never_used(name: str) -> None:
    """A fold fails in its middle: nothing of it is committed, the state is replayed, and then the input is passed."""
    world = Federation(policy())
    if name == "aggregator":
        leased(world, *"abc")
    event = {"selector": LeaseGranted, "aggregator": UpdateAdmitted}[name]
    broken = half(world.actors[name]._decider.evolve, lambda e: isinstance(e, event) and e.device == device_id("b"))
    replaced(world.actors[name], evolve=broken)
    for device in "abc":
        if name == "selector":
            world.device(device).check_in()
        else:
            world.device(device).submit(ONES, world.rules)
    with pytest.raises(StateHalfApplied):
        world.feed(name)
    reopened(world, name, evolve=broken)
    world.settle()
    topic = {"selector": SELECTIONS.name, "aggregator": ROUNDS.name}[name]
    assert [e.device for e in world.events(topic, event)] == device_ids("ac")
    assert len(world.events(topic, DefectFound)) == 1
    fresh = assemble(name, world.partition, log=world.log, key=role_key(name))
    fresh.open()
    assert digest(fresh.state) == digest(world.actors[name].state)
    assert lawful(world)


def test_an_outcome_that_cannot_be_folded_either_is_given_up() -> None:
    """The poison is in the very outcome that a lease is owed: the second time it is passed bare, and never a third."""
    world = Federation(policy(privacy=PRIVATE))
    leased(world, *"ab")
    broken = half(world.actors["aggregator"]._decider.evolve, lambda e: isinstance(e, UpdateAdmitted))
    replaced(world.actors["aggregator"], evolve=broken)
    world.device("a").submit(ONES, world.rules)
    for level in (SkipLevel.WITHOUT_BODY, SkipLevel.ENTIRELY):
        with pytest.raises(StateHalfApplied):
            world.feed("aggregator")
        assert world.actors["aggregator"].guard.skips[InputPlace(UPDATES.name, 0)].level is level
        reopened(world, "aggregator", evolve=broken)
    world.settle()
    assert [e.topic for e in world.events(ROUNDS.name, DefectFound)] == [UPDATES.name]
    assert world.events(ROUNDS.name, UpdateAdmitted) == []
    assert lawful(world)


def flooding(decide: Call, is_poison: Callable[[Any], bool], *, size: int = 1_000_000) -> Call:
    """`decide`, which says the same of poison again and again, in so many bytes."""

    def says(state: Any, fact: Any, time_ms: int) -> list[Any]:
        events = decide(state, fact, time_ms)
        return events * (size // len(encode(events))) if is_poison(fact) else events

    return says


def test_a_decision_larger_than_a_record_is_passed() -> None:
    """Law 5: what no record could hold is refused before it is folded; a record of that size would stop all readers."""
    world = Federation(policy())
    selector = world.actors["selector"]
    replaced(selector, decide=flooding(selector._decider.decide, from_device(device_id("b"))))
    leased(world, *"abc")
    [found] = world.events(SELECTIONS.name, DefectFound)
    assert (found.first_offset, found.error.split(" ")[0]) == (1, "DecisionTooLarge")
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("ac")
    assert lawful(world)


def test_a_leased_update_with_too_large_a_decision_keeps_its_outcome() -> None:
    """The decision without the body is small again."""
    world = Federation(policy())
    aggregator = world.actors["aggregator"]
    poison = from_device(device_id("b"))
    replaced(aggregator, decide=flooding(aggregator._decider.decide, lambda fact: poison(fact) and fact.fault is None))
    leased(world, *"ab")
    for name in "ab":
        world.device(name).submit(ONES, world.rules)
    world.settle()
    assert [event.reason for event in world.events(ROUNDS.name, UpdateRefused)] == ["defect"]
    assert [event.device for event in world.events(ROUNDS.name, UpdateAdmitted)] == device_ids("a")
    assert lawful(world)


def test_facts_of_one_record_share_its_room() -> None:
    """A record of another journal is one decision: what fits is decided, and the rest of it is passed one by one."""
    world = Federation(policy(aggregation=ROUND_OF_ONE))
    leased(world, "a")
    world.device("a").submit(ONES, world.rules)
    world.feed("aggregator")
    selector = world.actors["selector"]
    # Either of the two facts of that record fits, and not both.
    poison = (UpdateAdmitted, RoundProposed)
    large = flooding(selector._decider.decide, lambda fact: isinstance(fact, poison), size=300_000)
    replaced(selector, decide=large)
    world.settle()
    [found] = world.events(SELECTIONS.name, DefectFound)
    assert (found.topic, found.number, found.error.split(" ")[0]) == (ROUNDS.name, 1, "DecisionTooLarge")
    assert len(world.events(SELECTIONS.name, LeaseClosed)) > 1_000
    noticed = [event.fact for event in world.events(SELECTIONS.name, Noticed)]
    assert [fact.version for fact in noticed if isinstance(fact, ModelPublished)] == [0, 1]


def test_a_journal_that_could_not_be_folded_is_read_again() -> None:
    """What stood before a failing record is committed with the position before it, so that the next life reads it."""
    world = Federation(policy(aggregation=ROUND_OF_ONE))
    world.device("a").check_in()
    world.feed("selector")
    world.device("a").submit(ONES, world.rules)
    world.feed("aggregator")
    world.device("b").check_in()
    broken = half(world.actors["selector"]._decider.evolve, lambda e: isinstance(e, LeaseClosed))
    replaced(world.actors["selector"], evolve=broken)
    with pytest.raises(StateHalfApplied):
        world.feed("selector")
    reopened(world, "selector", evolve=broken)
    world.settle()
    assert [(e.topic, e.number) for e in world.events(SELECTIONS.name, DefectFound)] == [(ROUNDS.name, 0)]
    assert {e.device for e in world.events(SELECTIONS.name, LeaseGranted)} == set(device_ids("ab"))
    assert lawful(world)


def test_a_broker_that_is_away_is_no_defect() -> None:
    """An answer that does not come says nothing about an input: it is decided when it is handed in again."""
    world = Federation(policy())
    effects = world.actors["selector"]._effects
    honest, effects.read = effects.read, failing(effects.read, lambda _: True, error=LogUnavailable)
    world.device("a").check_in()
    with pytest.raises(LogUnavailable):
        world.feed("selector")
    effects.read = honest
    world.settle()
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("a")
    assert check(world.log, world.partition, settled=True) == []


def _away() -> None:
    raise LogUnavailable("no broker answers")


def test_a_record_is_never_decided_in_two_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 2: a broker goes away amid a journal's record; what was folded of it is thrown away, and replayed."""
    world = Federation(policy(aggregation=ROUND_OF_ONE))
    leased(world, "a")
    world.device("a").submit(ONES, world.rules)
    world.feed("aggregator")
    selector = world.actors["selector"]
    replaced(selector, decide=failing(selector._decider.decide, lambda fact: isinstance(fact, RoundProposed)))
    monkeypatch.setattr(selector._journal, "require_alone", _away)
    with pytest.raises(StateHalfApplied):
        world.feed("selector")
    reopened(world, "selector")
    world.settle()
    assert len(world.events(SELECTIONS.name, LeaseClosed)) == 1
    assert world.events(SELECTIONS.name, DefectFound) == []
    assert check(world.log, world.partition, settled=True) == []


def test_a_journals_record_can_be_decided_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 2: a broker goes away before anything of a record is folded; the same actor takes it when it comes again."""
    world = Federation(policy(aggregation=ROUND_OF_ONE))
    leased(world, "a")
    world.device("a").submit(ONES, world.rules)
    world.feed("aggregator")
    selector = world.actors["selector"]
    with monkeypatch.context() as patch:
        patch.setattr(selector._journal, "require_alone", _away)
        decide = failing(selector._decider.decide, lambda fact: isinstance(fact, UpdateAdmitted))
        patch.setattr(selector, "_decider", dataclasses.replace(selector._decider, decide=decide))
        with pytest.raises(LogUnavailable):
            world.feed("selector")
    world.settle()
    assert len(world.events(SELECTIONS.name, LeaseClosed)) == 1
    assert world.events(SELECTIONS.name, DefectFound) == []
    assert check(world.log, world.partition, settled=True) == []


def test_what_killed_before_is_passed_unseen() -> None:
    """An input that a supervisor names is a defect without being looked at, and in the journal before the next one."""
    world = Federation(policy())
    selector = world.actors["selector"]
    selector.guard.skips[InputPlace(CHECKINS.name, 1)] = Skip(SkipLevel.WITHOUT_BODY, "died 3 times")
    seen: list[tuple[InputPlace | None, int]] = []
    selector.guard.mark_in_hand = lambda at: seen.append((at, len(world.events(SELECTIONS.name, DefectFound))))
    for name in "abc":
        world.device(name).check_in()
    world.settle()
    assert [e.device for e in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("ac")
    assert [e.error for e in world.events(SELECTIONS.name, DefectFound)] == ["died 3 times"]
    hands = [(at.offset, passed) for at, passed in seen if at is not None]
    assert hands == [(0, 0), (1, 0), (2, 1)]
    assert [at for at, _ in seen[1::2]] == [None] * 3
