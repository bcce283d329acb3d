"""Whole stories over the in-memory log, drawn at random: the laws hold, and the logs alone prove it."""

from __future__ import annotations

import builtins
import dataclasses
import gc
import io
import os
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actors.deciders.decider import digest
from actors.hosts.assembly import assemble
from actors.runtime.actor import Actor
from actors.wiring import ROLES
from ops.audit.replay import Audit
from schemas.events import (
    CheckinsDeclined,
    InputsDropped,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundCharged,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.journal import Batch, Chain
from schemas.topics import CHECKINS, LEDGER, ROUNDS, SELECTIONS, UPDATES
from streams.log import Record, TopicPartition, scan
from tests.worlds.builders import ANCHOR, policy, role_key
from tests.worlds.federation import Federation

DEVICES = 5
ACTORS = sorted(ROLES)


class Story:
    """A federation, and what was sent into it: valid updates, valid check-ins and junk, by topic."""

    def __init__(self, world: Federation) -> None:
        self.world = world
        self.valid: dict[str, set[int]] = {UPDATES.name: set(), CHECKINS.name: set()}
        self.junk: Counter[str] = Counter()

    def check_in(self, device: int, battery: int) -> None:
        """A check-in, whatever came before."""
        self.world.device(f"d{device}").check_in(battery_percent=battery)
        self.valid[CHECKINS.name].add(self._end(CHECKINS.name) - 1)

    def submit(self, device: int, value: float) -> None:
        """An update under the newest lease that the device has ever got, used already or not."""
        sender = self.world.device(f"d{device}")
        if any(hasattr(answer, "sealed") for answer in sender.answers()):
            delta = np.array([value, -value, 0.5, value / 3], np.float32)
            inline = bool(device % 2)
            self.valid[UPDATES.name].add(sender.submit(delta, self.world.rules, inline=inline))

    def cycle(self, value: float) -> None:
        """Every device checks in and submits."""
        for device in range(DEVICES):
            self.check_in(device, 90)
        self.world.settle()
        for device in range(DEVICES):
            self.submit(device, value + device)
        self.world.settle()

    def interrupted(self, name: str, after: int) -> None:
        """The same, and one actor dies in the middle of it, with a buffer that may be neither empty nor full."""
        for device in range(DEVICES):
            self.check_in(device, 90)
        self.world.settle()
        for device in range(DEVICES):
            self.submit(device, 1.0 + device)
            self.world.settle()
            if device == after:
                self.restart(name)

    def repeat(self, number: int) -> None:
        """Any update once more, byte for byte."""
        records = self._records(UPDATES.name)
        valid = [record for record in records if record.offset in self.valid[UPDATES.name]]
        if valid:
            again = valid[number % len(valid)].value
            self.valid[UPDATES.name].add(self.world.device("d0").append(UPDATES.name, again or b""))

    def send_junk(self, topic: str, data: bytes) -> None:
        """Bytes that say nothing."""
        self.world.append(topic, data)
        self.junk[topic] += 1

    def restart(self, name: str) -> None:
        """The process dies and another one claims."""
        self.world.start(name)

    def redeliver(self, name: str, back: int) -> None:
        """Every input from an earlier offset on, as after a group offset that was reset."""
        actor = self.world.actors[name]
        records = [record for topic in actor.role.inputs for record in self._records(topic)[-back:]]
        actor.handle([record for record in records if record.offset < actor.find_expected(record.topic)])
        actor.work()

    def feed(self, name: str, most: int) -> None:
        """Some inputs to one actor, the others lag."""
        self.world.feed(name, most=most)

    def pass_time(self, ms: int) -> None:
        """Log time passes; leases may expire."""
        self.world.pass_ms(ms)

    def _records(self, topic: str) -> list[Record]:
        return [*scan(self.world.log, TopicPartition(topic, self.world.partition))]

    def _end(self, topic: str) -> int:
        return self.world.log.bounds(TopicPartition(topic, self.world.partition)).end


def _steps() -> st.SearchStrategy[list[tuple[str, tuple[Any, ...]]]]:
    device, actor = st.integers(0, DEVICES - 1), st.sampled_from(ACTORS)
    value = st.sampled_from([0.25, 1.0, -3.0, 9.5, float("nan"), 40.0])
    kinds = {
        "cycle": (st.sampled_from([0.5, 2.0]),),
        "interrupted": (actor, device),
        "check_in": (device, st.sampled_from([5, 90])),
        "submit": (device, value),
        "repeat": (st.integers(0, 20),),
        "send_junk": (
            st.sampled_from([UPDATES.name, CHECKINS.name]),
            st.binary(max_size=20).map(lambda data: b"\xc1" + data),
        ),
        "restart": (actor,),
        "redeliver": (actor, st.integers(1, 30)),
        "feed": (actor, st.integers(1, 7)),
        "pass_time": (st.sampled_from([10, 1_000, 70_000]),),
    }
    return st.lists(
        st.one_of(*[st.tuples(st.just(kind), st.tuples(*drawn)) for kind, drawn in kinds.items()]), max_size=14
    )


STEPS = _steps()
POLICIES = {
    "buffered": policy(aggregation={"updates_per_round": 2}, selection={"battery_min_percent": 50}),
    "fedasync": policy(aggregation={"updates_per_round": 1}, optimizer={"rule": "adam"}, compression={"codec": "topk"}),
    "synchronous": policy(
        aggregation={"updates_per_round": 3}, staleness={"max_versions": 0}, compression={"codec": "int8"}
    ),
    "short": policy(aggregation={"updates_per_round": 2}, stop={"versions_max": 3, "idle_s": 30.0}),
    "private": policy(
        aggregation={"updates_per_round": 2},
        privacy={"noise_multiplier": 1.0, "rho_max": 1.5},
        optimizer={"rule": "momentum"},
        stop={"versions_max": 6},
    ),
}


def played(world: Federation, steps: list[tuple[str, tuple[Any, ...]]]) -> Story:
    """The story, and then everything read to its end."""
    story = Story(world)
    for kind, arguments in steps:
        getattr(story, kind)(*arguments)
    world.settle()
    assert not any(actor.guard.defects for actor in world.actors.values())
    return story


@settings(max_examples=80)
@given(steps=STEPS, rules=st.sampled_from(sorted(POLICIES)))
def test_the_laws_hold_in_every_story(steps: list[tuple[str, tuple[Any, ...]]], rules: str) -> None:
    """Laws 1 to 8 over random stories with restarts, redelivery, duplicates and junk at any point."""
    world = Federation(POLICIES[rules])
    story = played(world, steps)
    _state_is_the_fold(world)
    _chains_are_whole(world)
    _each_input_has_one_outcome(story)
    _admissions_are_single(world)
    _versions_follow(world)
    _charged_before_published(world)
    audit = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert audit.verdict == "identical"
    assert audit.models == len(world.events(ROUNDS.name, ModelPublished)) - 1


def _state_is_the_fold(world: Federation) -> None:
    """Law 1: a new process has the state that the old one had, bit for bit, and nothing left to do."""
    for name in ACTORS:
        live = digest(world.actors[name].state)
        expected = {topic: world.actors[name].find_expected(topic) for topic in ROLES[name].inputs}
        reborn = world.start(name)
        assert digest(reborn.state) == live, name
        assert all(reborn.find_expected(topic) <= expected[topic] for topic in expected), name
    before = [len(world.journal(role.journal)) for role in ROLES.values()]
    world.settle()
    assert [len(world.journal(role.journal)) for role in ROLES.values()] == before


def _chains_are_whole(world: Federation) -> None:
    """Law 4: every journal is one chain, seq grows by one, positions and log time never fall."""
    for role in ROLES.values():
        chain = Chain(role.journal, world.partition)
        records = scan(world.log, TopicPartition(role.journal, world.partition))
        found = [chain.follow(record.offset, record.value or b"") for record in records]
        batches = [batch for batch in found if isinstance(batch, Batch)]
        assert [batch.seq for batch in batches] == [*range(len(batches))]
        for before, after in pairwise(batches):
            assert before.time_ms <= after.time_ms
            assert all(offset <= after.position.offsets[topic] for topic, offset in before.position.offsets.items())


def _each_input_has_one_outcome(story: Story) -> None:
    """Law 2: an update has one outcome or is counted, as junk is; a check-in is granted, declined or a repeat."""
    world = story.world
    outcomes = Counter(
        decision.offset
        for decision in world.journal(ROUNDS.name)
        for event in decision.events
        if isinstance(event, UpdateAdmitted | UpdateRefused)
    )
    counted = sum(sum(event.counts.values()) for event in world.events(ROUNDS.name, UpdatesDeclined))
    assert outcomes <= Counter(story.valid[UPDATES.name])
    assert outcomes.total() + counted == len(story.valid[UPDATES.name])
    for topic, journal in ((UPDATES.name, ROUNDS.name), (CHECKINS.name, SELECTIONS.name)):
        dropped = world.events(journal, InputsDropped)
        assert sum(event.count for event in dropped if event.topic == topic) == story.junk[topic]
    granted = len(world.events(SELECTIONS.name, LeaseGranted))
    declined = sum(sum(event.counts.values()) for event in world.events(SELECTIONS.name, CheckinsDeclined))
    assert granted + declined <= len(story.valid[CHECKINS.name])


def _admissions_are_single(world: Federation) -> None:
    """Laws 2, 8 and 9: one admission a lease, one place a round for a device, no device beyond its participations."""
    admitted = world.events(ROUNDS.name, UpdateAdmitted)
    assert max(Counter(event.update for event in admitted).values(), default=1) == 1
    assert max(Counter((event.round, event.device) for event in admitted).values(), default=1) == 1
    cap = world.rules.participations_cap
    taken = Counter(event.device for event in admitted)
    assert cap is None or max(taken.values(), default=0) <= cap
    full = Counter(event.round for event in admitted)
    assert max(full.values(), default=0) <= world.rules.aggregation.updates_per_round


def _versions_follow(world: Federation) -> None:
    """Versions are 0, 1, 2 and so on, each from a round of its own."""
    published = world.events(ROUNDS.name, ModelPublished)
    assert [event.version for event in published] == [*range(len(published))]
    rounds = [event.round for event in published[1:]]
    assert rounds == sorted(set(rounds))


def _charged_before_published(world: Federation) -> None:
    """Law 8: with privacy each published round was charged in the ledger, and noticed before it was published."""
    if world.rules.privacy is None:
        assert not world.events(LEDGER.name)
        return
    charges = {event.round: event for event in world.events(LEDGER.name, RoundCharged)}
    noticed: set[int] = set()
    for event in world.events(ROUNDS.name):
        if isinstance(event, Noticed) and isinstance(event.fact, RoundCharged):
            assert charges[event.fact.round] == event.fact
            noticed.add(event.fact.round)
        if isinstance(event, ModelPublished) and event.round is not None:
            assert event.round in noticed
    totals = [event.rho_total for event in charges.values()]
    assert totals == sorted(totals)
    assert max(totals, default=0.0) <= world.rules.privacy.rho_max


# --- law 1: pure ----------------------------------------------------------------------------------------------------

IMPURE: list[tuple[Any, tuple[str, ...]]] = [
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "process_time", "sleep")),
    (random, ("random", "randint", "choice", "shuffle", "getrandbits", "uniform", "Random")),
    (os, ("urandom", "getenv", "getrandom", "open", "read", "write", "stat")),
    (secrets, ("token_bytes", "token_hex", "randbits")),
    (np.random, ("default_rng", "normal", "random", "rand", "randint", "seed")),
    (builtins, ("open", "input", "print")),
    (io, ("open",)),
    (socket, ("socket", "create_connection")),
    (os.environ, ("get",)),
]


class ImpureError(BaseException):
    """A decider asked the world. No Exception, because an actor makes an outcome of each of those (law 9)."""


def _forbidden(was: Callable[..., Any]) -> Callable[..., Any]:
    """Raises in this thread; clients that other tests have left running go on as ever."""
    here = threading.get_ident()

    def forbidden(*arguments: Any, **named: Any) -> Any:
        if threading.get_ident() == here:
            raise ImpureError
        return was(*arguments, **named)

    return forbidden


@contextmanager
def sealed_off() -> Iterator[None]:
    """Clock, entropy, environment and I/O raise, in this thread's own code: no finalizer of another test runs here."""
    kept = [(module, name, getattr(module, name)) for module, names in IMPURE for name in names]
    collects = gc.isenabled()
    gc.disable()
    try:
        for module, name, was in kept:
            setattr(module, name, _forbidden(was))
        yield
    finally:
        for module, name, was in kept:
            setattr(module, name, was)
        vars(os.environ).pop("get", None)
        if collects:
            gc.enable()


def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, sealed off from the world."""

    def sealed(*arguments: Any) -> Any:
        with sealed_off():
            return call(*arguments)

    return sealed


class Guarded(Federation):
    """A federation whose deciders run sealed off; the actors around them do not."""

    def start(self, name: str) -> Actor[Any]:
        """As ever, with the decider guarded before the journal is replayed."""
        actor = assemble(name, self.partition, log=self.log, key=role_key(name))
        pure = actor._decider
        actor._decider = dataclasses.replace(pure, decide=guarded(pure.decide), evolve=guarded(pure.evolve))
        actor.open()
        actor.work()
        self.actors[name] = actor
        return actor


def test_the_guard_raises() -> None:
    """The test of purity can fail: a decider that asks the clock, chance, the environment or a file is caught."""
    asking: list[Callable[[], object]] = [
        lambda: time.time(),  # noqa: PLW0108 - looked up when it is called
        lambda: random.random(),  # noqa: PLW0108
        lambda: os.urandom(1),
        lambda: os.environ.get("HOME"),
        lambda: open("x"),  # noqa: PTH123, SIM115
    ]
    for impure in asking:
        with pytest.raises(ImpureError):
            guarded(impure)()
    assert time.time() > 0


# Without the phase that explains: its tracer asks the disk about every file that it meets, inside the guard too.
@settings(max_examples=25, phases=set(Phase) - {Phase.explain})
@given(steps=STEPS, rules=st.sampled_from(sorted(POLICIES)))
def test_decide_and_evolve_are_pure(steps: list[tuple[str, tuple[Any, ...]]], rules: str) -> None:
    """Law 1: all three deciders run a whole random story with clock, entropy, environment and I/O patched to raise."""
    world = Guarded(POLICIES[rules])
    story = played(world, [("cycle", (1.0,)), *steps, ("pass_time", (70_000,))])
    assert story.valid[CHECKINS.name]
    assert world.events(SELECTIONS.name, LeaseGranted)


@pytest.mark.parametrize("rules", sorted(POLICIES))
def test_each_policy_reaches_a_version(rules: str) -> None:
    """The stories are no idle ones: with every policy of theirs, two cycles give a version."""
    world = Federation(POLICIES[rules])
    played(world, [("cycle", (1.0,)), ("cycle", (2.0,))])
    assert len(world.events(ROUNDS.name, ModelPublished)) > 1
