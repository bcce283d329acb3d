"""The aggregator's threads: what is done ahead and behind changes when something happens, and nothing else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.arithmetic import sums
from actors.effects.aggregator import bodies, intake
from actors.effects.aggregator.bodies import Bodies
from actors.effects.aggregator.intake import Intake, UpdateBody
from actors.effects.aggregator.summation import PlainSum
from schemas.events import InputsDropped, ModelPublished, SumStored, UpdateRefused, UpdatesDeclined
from schemas.identifiers import BodyRef
from schemas.journal import Decision
from schemas.tensors import Quanta, clipping, encode_update
from schemas.topics import BODIES, CATALOGUE, ROUNDS, UPDATES
from streams.bodies import Absent, BodyReader, store
from streams.log import LogError, LogRefused, TopicPartition
from streams.memory import MemoryLog
from tests.worlds.builders import lease, policy, task_created
from tests.worlds.federation import Federation

RULES = policy(compression={"codec": "int8"})
AT = TopicPartition(BODIES.name, 0)
PARAMETERS = 6_000


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Measuring threads that end with the test."""
    with ThreadPoolExecutor(3) as pool:
        yield pool


# --- the same story, with threads and without ------------------------------------------------------------------------


def _story(threads: ThreadPoolExecutor | None, seed: int) -> list[Decision]:
    """Rounds of updates in large batches, with all that can be wrong among them; the aggregator's decisions."""
    rng = np.random.default_rng(seed)
    world = Federation(policy(compression={"codec": "int8"}, selection={"devices_expected": 40, "concurrency": 40}))
    if threads is not None:
        world.actors["aggregator"].use_threads(threads)
    for turn in range(3):
        devices = [world.device(f"{turn}-{number}") for number in range(8)]
        for device in devices:
            device.check_in()
        world.settle()
        for device in devices:
            delta = rng.normal(0, 3.0, 4).astype(np.float32)
            match int(rng.integers(6)):
                case 0:
                    device.submit_body(bytes(rng.integers(0, 256, 30, np.uint8)), codec="int8", inline=False)
                case 1:
                    device.append(UPDATES.name, b"junk")
                case 2:
                    device.submit(delta, world.rules, inline=False)
                    device.submit(-delta, world.rules, inline=False)
                case 3:
                    device.submit(delta, world.rules, inline=True)
                case _:
                    device.submit(delta, world.rules, inline=False)
        world.settle()
    if threads is not None:
        world.actors["aggregator"].close()
    return world.journal(ROUNDS.name)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_threads_change_no_decision(seed: int) -> None:
    """Law 6 and one outcome each: bad, repeated, inline and stored updates decide alike, and give the same sums."""
    # Salts that are all the same, because the two stories are compared event by event.
    with ThreadPoolExecutor(3) as pool, patch("os.urandom", bytes):
        told = [_comparable(_story(threads, seed)) for threads in (None, pool)]
    assert told[0] == told[1]
    assert any(isinstance(event, SumStored) for event in told[0])


def _comparable(decisions: list[Decision]) -> list[object]:
    """Every event; a model's body has a random name, so that of a publication only the content counts."""
    events = [event for decision in decisions for event in decision.events]
    return [event.model.sha256 if isinstance(event, ModelPublished) else event for event in events]


def test_the_story_has_what_it_is_told_for() -> None:
    """The comparison above covers refusals, repeats and junk, not good updates alone."""
    events = [event for seed in range(4) for decision in _story(None, seed) for event in decision.events]
    assert "body_malformed" in {event.reason for event in events if isinstance(event, UpdateRefused)}
    assert "duplicate" in {reason for event in events if isinstance(event, UpdatesDeclined) for reason in event.counts}
    assert any(isinstance(event, InputsDropped) for event in events)


# --- one intake -------------------------------------------------------------------------------------------------------


class Shelf(Bodies):
    """Bodies that tell which of them were fetched, in order, and by which thread."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, 0)
        self.fetched: list[int] = []
        self.fetchers: set[str] = set()
        self.failing: dict[int, Exception] = {}

    def find(self, ref: BodyRef) -> bytes | Absent:
        self.fetched.append(ref.offsets[0])
        self.fetchers.add(threading.current_thread().name)
        if ref.offsets[0] in self.failing:
            raise self.failing[ref.offsets[0]]
        return super().find(ref)


def _shelf(count: int) -> tuple[Shelf, list[UpdateBody]]:
    log = MemoryLog(CATALOGUE)
    deltas = [np.full(PARAMETERS, number + 1, np.float32) / 1000 for number in range(count)]
    bodies = [encode_update(delta, RULES) for delta in deltas]
    refs = [store(log, AT, data=body, upload_id=f"{n}", codec="int8") for n, body in enumerate(bodies)]
    model = BodyRef(
        topic="models", partition=0, offsets=(0,), sha256=hashlib.sha256().digest(), size=1, codec="float32"
    )
    task = task_created(RULES, model=model, parameters=PARAMETERS)
    return Shelf(log), [UpdateBody(PlainSum(task), ref, lease()) for ref in refs]


def test_what_is_under_way_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> None:
    """Back-pressure: however much is expected, no more is fetched than fits the budget, and in order, by one thread."""
    shelf, wanted = _shelf(12)
    monkeypatch.setattr(intake, "BUDGET_BYTES", 3 * wanted[0].bytes_max)
    ahead = Intake(shelf)
    ahead.use_threads(threads)
    ahead.expect(wanted)
    for number, one in enumerate(wanted):
        [future.result().result() for future, _ in ahead._ahead.values()]
        assert len(shelf.fetched) == min(12, number + 3)
        assert ahead.measure(one).fault is None
    assert shelf.fetched == [one.ref.offsets[0] for one in wanted]
    assert len(shelf.fetchers) == 1
    ahead.close()


def test_a_body_larger_than_the_budget_passes(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> None:
    """One update is always under way, whatever its size; nothing waits for ever."""
    monkeypatch.setattr(intake, "BUDGET_BYTES", 1)
    shelf, wanted = _shelf(4)
    ahead = Intake(shelf)
    ahead.use_threads(threads)
    ahead.expect(wanted)
    running = sums.RunningSum(PARAMETERS)
    for one in wanted:
        found = ahead.measure(one)
        assert found.quanta is not None
        ahead.add(partial(running.add, found.quanta, weight=1, scale=found.scale), nbytes=found.quanta.values.nbytes)
    ahead.settle()
    assert running.total().any()
    ahead.close()


def test_those_passed_over_make_room(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> None:
    """Updates that were expected and are refused unread hold nothing back, and can still be asked for."""
    shelf, wanted = _shelf(12)
    monkeypatch.setattr(intake, "BUDGET_BYTES", 2 * wanted[0].bytes_max)
    ahead = Intake(shelf)
    ahead.use_threads(threads)
    ahead.expect(wanted)
    assert ahead.measure(wanted[9]).fault is None
    assert not {one.key for one in wanted[2:9]} & {*ahead._ahead, *ahead._waiting}
    assert {one.key for one in wanted[10:]} == ahead._ahead.keys()
    assert ahead.measure(wanted[0]).fault is None
    ahead.expect(wanted[3:5])
    assert ahead._ahead.keys() == {one.key for one in wanted[3:5]}
    ahead.close()


def test_a_failure_belongs_to_its_own_update(threads: ThreadPoolExecutor) -> None:
    """What goes wrong in a thread is raised where that body is asked for, and nowhere else."""
    shelf, wanted = _shelf(3)
    shelf.failing = {wanted[1].ref.offsets[0]: LogRefused("no")}
    ahead = Intake(shelf)
    ahead.use_threads(threads)
    ahead.expect(wanted)
    assert ahead.measure(wanted[0]).fault is None
    with pytest.raises(LogError, match="no"):
        ahead.measure(wanted[1])
    assert ahead.measure(wanted[2]).fault is None
    ahead.close()


def test_what_fails_to_add_is_not_lost(threads: ThreadPoolExecutor) -> None:
    """A sum that could not be added to is never taken for a sum: the failure comes out before it is used."""
    ahead = Intake(_shelf(1)[0])
    ahead.use_threads(threads)
    two = Quanta.from_values(np.ones(2, np.int64))
    add = partial(sums.RunningSum(1).add, two, weight=1, scale=clipping.SCALE_ONE)
    ahead.add(add, nbytes=intake.ADDED_AT_ONCE_BYTES_MAX + 1)
    with pytest.raises(ValueError, match="broadcast"):
        ahead.settle()
    with pytest.raises(ValueError, match="broadcast"):
        ahead.add(add, nbytes=intake.ADDED_AT_ONCE_BYTES_MAX)
    ahead.close()


def test_two_threads_never_add_at_the_same_time(threads: ThreadPoolExecutor) -> None:
    """A small vector is added at once, but not while the thread that adds still has a vector in hand."""
    ahead = Intake(_shelf(1)[0])
    ahead.use_threads(threads)
    added, goes_on = list[str](), threading.Event()

    def add_slowly() -> None:
        goes_on.wait(60)
        added.append("large")

    ahead.add(add_slowly, nbytes=intake.ADDED_AT_ONCE_BYTES_MAX + 1)
    ahead.add(lambda: added.append("small"), nbytes=1)
    assert not added
    goes_on.set()
    ahead.settle()
    assert added == ["large", "small"]
    ahead.close()


def test_a_body_in_the_record_itself_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    """What an update brings along costs no second read of `updates`, only what lies elsewhere is looked for."""
    world = Federation(policy(compression={"codec": "int8"}))
    world.actors["aggregator"].use_threads(threads)
    fetched = list[str]()
    find = Bodies.find
    monkeypatch.setattr(Bodies, "find", lambda self, ref: fetched.append(ref.topic) or find(self, ref))
    for number, inline in enumerate((True, False)):
        device = world.device(f"device-{number}")
        device.check_in()
        world.settle()
        device.submit(np.ones(4, np.float32), world.rules, inline=inline)
        world.settle()
    world.actors["aggregator"].close()
    assert UPDATES.name not in fetched
    assert BODIES.name in fetched


def test_a_reader_that_nobody_asks_reads_no_further(
    monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    """Guarantee: what was read once holds no memory for what comes later; who asks again is answered again."""
    closed = list[str]()
    close = BodyReader.close
    monkeypatch.setattr(BodyReader, "close", lambda self: closed.append(threading.current_thread().name) or close(self))
    shelf, [first, second] = _shelf(2)
    ahead = Intake(shelf)
    ahead.use_threads(threads)
    ahead.expect([])
    assert ahead.find(first.ref) is not None
    assert closed == []
    monkeypatch.setattr(bodies, "IDLE_S", -1.0)
    monkeypatch.setattr(ahead, "_rest_s", 0.0)
    ahead.expect([])
    assert isinstance(ahead.find(second.ref), bytes)
    assert closed == [next(iter(shelf.fetchers))]
    ahead.close()
