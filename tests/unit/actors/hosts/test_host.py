"""The host loop without Faust: what it opens, seeks, hands on, acknowledges and lets go of, over the in-memory log."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from actors.hosts import assignment, host
from actors.hosts.host import HANGS_LOOKS, Host
from actors.hosts.inbox import Delivery, Inbox
from actors.hosts.metrics import WorkerMetrics
from actors.hosts.worker import Worker, WorkerOptions
from actors.runtime.actor import Actor
from actors.wiring import SELECTOR_ROLE
from schemas.canonical import encode
from schemas.events import Tick
from schemas.topics import CHECKINS, SELECTIONS
from streams.kafka.settings import KafkaSettings
from streams.log import CommitUncertain, Draft, EventLog, LogUnavailable, OffsetLost, TopicPartition, scan
from streams.memory import MemoryWriter, _Transaction
from streams.retry import Outage
from tests.worlds.builders import policy, role_key
from tests.worlds.federation import Federation

INPUTS = set(SELECTOR_ROLE.inputs)


class ScriptedCarrier:
    """Delivers from memory what its host asks for; a test changes the assignment, or delivers something else."""

    def __init__(self, log: EventLog, partition: int) -> None:
        self.inbox = Inbox()
        self.is_rebalancing, self.rebalances = False, 1
        self.assigned = {partition: INPUTS}
        self.sought: list[tuple[str, int]] = []
        self.acknowledged: list[tuple[str, int]] = []
        self._log = log

    def find_assigned(self) -> dict[int, set[str]]:
        """As the test says."""
        return self.assigned

    async def seek(self, at: TopicPartition, offset: int) -> None:
        """Note it, and deliver what there is from then on."""
        self.sought.append((at.topic, offset))
        await self.deliver(at, offset)

    async def deliver(self, at: TopicPartition, offset: int) -> None:
        """Put all records from an offset on into the inbox."""
        for record in scan(self._log, at, start=offset):
            place = (record.topic, record.offset)
            await self.inbox.put(Delivery(record, lambda place=place: self.acknowledged.append(place)))


class Hosting:
    """A host of selectors, beside a federation that has made a round without it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.world = Federation(policy())
        self.world.round_of({name: np.ones(4, np.float32) for name in "abc"})
        self.checkins = TopicPartition(CHECKINS.name, self.world.partition)
        self.carrier = ScriptedCarrier(self.world.log, self.world.partition)
        options = WorkerOptions(kafka=KafkaSettings(bootstrap_servers="nowhere:1"), key=role_key("selector"))
        log: Any = self.world.log
        log.outage = Outage("nowhere:1")
        self.host = Host(SELECTOR_ROLE, Worker(options, log, WorkerMetrics()), carrier=self.carrier)
        self._runner = runner

    @property
    def actor(self) -> Actor[Any]:
        """The actor of the task's partition."""
        return self.host._actors[self.world.partition]

    def turn(self, count: int = 1) -> None:
        """Take turns."""
        for _ in range(count):
            self._runner.run(self.host.turn())

    def check_in(self, *names: str) -> int:
        """Devices check in, and nothing is delivered yet; the end of the topic after that."""
        for name in names:
            self.world.device(name).check_in()
        return self.world.log.bounds(self.checkins).end

    def deliver(self, offset: int) -> None:
        """Deliver check-ins from an offset on."""
        self._runner.run(self.carrier.deliver(self.checkins, offset))

    def deliver_from(self, at: TopicPartition) -> None:
        """Deliver what is not decided yet of this input."""
        self._runner.run(self.carrier.deliver(at, self.host._actors[at.partition].find_expected(at.topic)))

    def ticks(self) -> int:
        """How many ticks there are among the check-ins."""
        return sum(record.value == encode(Tick()) for record in scan(self.world.log, self.checkins))

    def sample(self, name: str, **labels: str) -> float | None:
        """What the worker serves of its partition."""
        registry = self.host._worker.metrics.instruments.registry
        return registry.get_sample_value(name, {"partition": str(self.world.partition), **labels})


@pytest.fixture
def hosting() -> Iterator[Hosting]:
    """A host that has had no turn yet."""
    with asyncio.Runner() as runner:
        yield Hosting(runner)


def test_an_assigned_partition_is_opened_and_sought(hosting: Hosting) -> None:
    """Without any input: the journal is claimed, and every input sought to the position in it."""
    before = hosting.world.actors["selector"]
    hosting.turn()
    assert set(hosting.carrier.sought) == {(topic, before.find_expected(topic)) for topic in INPUTS}
    assert hosting.actor.state == before.state


def test_what_is_decided_is_acknowledged(hosting: Hosting) -> None:
    """Every delivered record has its outcome in the journal before its carrier hears of it."""
    end = hosting.check_in("d")
    hosting.turn()
    assert (CHECKINS.name, end - 1) in hosting.carrier.acknowledged
    assert hosting.actor.find_expected(CHECKINS.name) == end


def test_a_gap_is_sought_again(hosting: Hosting) -> None:
    """A carrier that skips records is sent back, on every input, and what it skipped is decided before the rest."""
    hosting.turn()
    expected, end = hosting.actor.find_expected(CHECKINS.name), hosting.check_in("d", "e")
    hosting.carrier.sought.clear()
    hosting.deliver(end - 1)
    hosting.turn(2)
    assert (CHECKINS.name, expected) in hosting.carrier.sought
    assert {topic for topic, _ in hosting.carrier.sought} == INPUTS
    assert hosting.actor.find_expected(CHECKINS.name) == end


def test_a_rebalance_is_answered_with_a_seek(hosting: Hosting) -> None:
    """A rebalance moves inputs to the group's offsets, so that they are sought anew after it, and not during it."""
    hosting.turn()
    hosting.carrier.sought.clear()
    hosting.carrier.rebalances, hosting.carrier.is_rebalancing = 2, True
    hosting.turn()
    assert hosting.carrier.sought == []
    hosting.carrier.is_rebalancing = False
    hosting.turn()
    assert {topic for topic, _ in hosting.carrier.sought} == INPUTS


def test_records_of_a_lost_partition_are_dropped(hosting: Hosting) -> None:
    """Its next host decides them; acknowledged here, they could be lost to it."""
    hosting.turn()
    hosting.check_in("d")
    hosting.carrier.assigned = {}
    hosting.deliver(0)
    hosting.turn()
    assert (hosting.host._actors, hosting.carrier.acknowledged) == ({}, [])


def test_half_a_partition_is_never_opened(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor needs all of its inputs: half of them for long means that workers disagree, which ends this one."""
    hosting.carrier.assigned = {hosting.world.partition: {CHECKINS.name}}
    hosting.turn()
    assert hosting.host._actors == {}
    monkeypatch.setattr(assignment, "UNEVEN_FOR_S", -1.0)
    with pytest.raises(RuntimeError, match="by halves"):
        hosting.turn()


def test_deleted_inputs_end_the_host(hosting: Hosting) -> None:
    """Inputs that were deleted before they were decided are lost; to go on would hide that."""
    end = hosting.check_in("d", "e")
    hosting.world.log.delete_records(hosting.checkins, end - 1)
    with pytest.raises(OffsetLost, match="deleted before they were decided"):
        hosting.turn()


def test_a_broker_that_is_away_is_waited_for(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """An opening that met no broker is repeated from its claim on, by a new actor."""
    monkeypatch.setattr("streams.retry.RETRY_EVERY_S", 0.0)
    made: list[Actor[Any]] = []
    assemble = host.assemble

    def unavailable() -> None:
        raise LogUnavailable("away")

    def failing(*place: Any, **parts: Any) -> Actor[Any]:
        made.append(assemble(*place, **parts))
        if len(made) < 3:
            monkeypatch.setattr(made[-1], "open", unavailable)
        return made[-1]

    monkeypatch.setattr(host, "assemble", failing)
    hosting.turn()
    assert hosting.actor is made[2]


def test_ticks_are_sent_where_time_matters(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector with open leases is told of the time, and one without is not."""
    monkeypatch.setattr(hosting.host._timers.tick, "is_due", lambda: True)
    hosting.turn()
    assert hosting.ticks() == 0
    hosting.check_in("d")
    hosting.deliver(hosting.actor.find_expected(CHECKINS.name))
    hosting.turn()
    assert hosting.ticks() == 1


@pytest.mark.parametrize(("alone_until_s", "calls"), [(0.0, 1), (1e12, 0)], ids=["later", "at first"])
def test_a_host_begins_alone(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch, alone_until_s: float, calls: int
) -> None:
    """In the first seconds one thread does all, so that the input that kills is the one recorded as current."""
    hosting.turn()
    threads: list[Any] = []
    monkeypatch.setattr(hosting.actor, "use_threads", threads.append)
    monkeypatch.setattr(hosting.host, "_alone_until_s", alone_until_s)
    hosting.turn()
    assert len(threads) == calls


@pytest.mark.parametrize("alone_until_s", [0.0, 1e12], ids=["later", "at first"])
def test_partitions_are_decided_side_by_side(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch, alone_until_s: float
) -> None:
    """No partition waits for the commit of another one's, but for the first seconds, when one thread does all."""
    other = (hosting.world.partition + 1) % hosting.world.log.partitions
    hosting.carrier.assigned[other] = INPUTS
    hosting.turn()
    monkeypatch.setattr(hosting.host, "_alone_until_s", alone_until_s)
    together, most, under_way = threading.Barrier(2), 0, set[int]()
    handle = Actor.handle

    def handle_slowly(actor: Actor[Any], records: Any) -> None:
        nonlocal most
        assert actor.partition not in under_way, "two threads in one actor"
        under_way.add(actor.partition)
        most = max(most, len(under_way))
        if not alone_until_s:
            together.wait(60)
        handle(actor, records)
        under_way.remove(actor.partition)

    monkeypatch.setattr(Actor, "handle", handle_slowly)
    places = [hosting.checkins, TopicPartition(CHECKINS.name, other)]
    for at in places:
        hosting.world.log.append([Draft(**at._asdict(), value=b"junk")])
        hosting.deliver_from(at)
    hosting.turn()
    assert most == (1 if alone_until_s else 2)
    assert [hosting.host._actors[at.partition].find_expected(at.topic) for at in places] == [
        hosting.world.log.bounds(at).end for at in places
    ]


def test_what_a_host_has_in_hand_is_decided_before_it_ends(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ended in the midst would leave a transaction open, which holds readers back."""
    hosting.turn()
    begun, decided = threading.Event(), list[int]()

    def handle_slowly(actor: Actor[Any], records: Any) -> None:
        begun.set()
        time.sleep(0.2)
        decided.append(actor.partition)

    async def interrupt() -> None:
        turning = asyncio.ensure_future(hosting.host.turn())
        await asyncio.to_thread(begun.wait)
        turning.cancel()

    monkeypatch.setattr(Actor, "handle", handle_slowly)
    hosting.world.log.append([Draft(**hosting.checkins._asdict(), value=b"junk")])
    hosting.deliver_from(hosting.checkins)
    hosting._runner.run(interrupt())
    hosting.host.finish()
    assert decided == [hosting.world.partition]


def test_a_doubt_in_one_partition_ends_the_host(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3 holds beside partitions that go well: what one commit leaves open is raised, and ends all of them."""
    other = (hosting.world.partition + 1) % hosting.world.log.partitions
    hosting.carrier.assigned[other] = INPUTS
    hosting.turn()
    monkeypatch.setattr(hosting.host, "_alone_until_s", 0.0)

    def doubt(records: Any) -> None:
        raise CommitUncertain("simulated")

    monkeypatch.setattr(hosting.host._actors[other], "handle", doubt)
    for at in (hosting.checkins, TopicPartition(CHECKINS.name, other)):
        hosting.world.log.append([Draft(**at._asdict(), value=b"junk")])
        hosting.deliver_from(at)
    with pytest.raises(CommitUncertain, match="simulated"):
        hosting.turn()


def test_metrics_show_an_opening_and_its_lag(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker serves is of the actors that it hosts."""
    monkeypatch.setattr(hosting.host._timers.lag, "is_due", lambda: True)
    hosting.turn()
    assert hosting.sample("fedlog_replayed_decisions") == len(hosting.world.journal(SELECTIONS.name))
    assert hosting.sample("fedlog_input_lag_records", topic=CHECKINS.name) == 0
    hosting.check_in("d", "e")
    hosting.turn()
    assert hosting.sample("fedlog_input_lag_records", topic=CHECKINS.name) == 2


def _forget_markers(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> TopicPartition:
    """Have the selector's newest commit hold readers back as one does that a broker has forgotten, till a new claim."""
    at, log = TopicPartition(SELECTIONS.name, hosting.world.partition), hosting.world.log
    log._transactions["forgotten"] = _Transaction(first={at: hosting.actor.list_ends()[at] - 1})
    start_writer = log.writer

    def start_next(name: str, *, settles: Collection[TopicPartition] = ()) -> MemoryWriter:
        log._transactions.pop("forgotten", None)
        return start_writer(name, settles=settles)

    monkeypatch.setattr(log, "writer", start_next)
    return at


def test_commits_that_nobody_sees_are_shown(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broker has forgotten is ended by a claim, also where an actor commits nothing more by itself."""
    hosting.turn()
    hosting.check_in("d")
    hosting.turn()
    monkeypatch.setattr(hosting.host._timers.lag, "is_due", lambda: True)
    at, before = _forget_markers(hosting, monkeypatch), hosting.actor
    held = hosting.world.log.bounds(at).end
    with capture_logs() as lines:
        hosting.turn(HANGS_LOOKS)
        assert hosting.world.partition not in hosting.host._actors
        hosting.turn()
    assert hosting.actor is not before
    assert hosting.world.log.bounds(at).end > held
    hangs = [line for line in lines if line["event"] == "transaction_hangs"]
    assert [(line["topic"], line["partition"], line["offset"]) for line in hangs] == [(*at, held)]


def test_commits_that_are_seen_late_are_waited_for(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker is written behind the answer to a commit: one that is late for a moment makes nobody claim again."""
    hosting.turn()
    hosting.check_in("d")
    hosting.turn()
    monkeypatch.setattr(hosting.host._timers.lag, "is_due", lambda: True)
    _forget_markers(hosting, monkeypatch)
    before = hosting.actor
    hosting.turn()
    hosting.world.log._transactions.pop("forgotten")
    hosting.turn(2)
    assert hosting.actor is before
