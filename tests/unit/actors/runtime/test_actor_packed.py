"""Records that hold many messages, as an actor takes them: one input and one outcome each, one batch for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.deciders.tallies import split
from actors.runtime import actor as actor_module
from actors.runtime.guard import StateHalfApplied
from ops.audit.replay import Audit
from schemas.events import (
    InputsDropped,
    JournalEvent,
    LeaseGranted,
    ModelPublished,
    Noticed,
    StateDigest,
    UpdateAdmitted,
)
from schemas.journal import Batch, open_record
from schemas.policy import Policy
from schemas.topics import CHECKINS, ROUNDS, SELECTIONS, UPDATES
from streams.log import CommitUncertain, Draft, LogUnavailable, TopicPartition, scan
from streams.memory import MemoryLog, MemoryWriter
from streams.packing import pack
from tests.judges.lawcheck import check
from tests.worlds.builders import ANCHOR, device_id, policy
from tests.worlds.federation import Federation, ScriptedDevice, describe_opening, open_actor

DEVICES = "abcdefgh"
RULES = policy(aggregation={"updates_per_round": 3})


class _Held:
    """What devices append, until somebody packs it; bodies go straight into the log."""

    def __init__(self, log: MemoryLog) -> None:
        self.partitions, self.reader, self._log = log.partitions, log.reader, log
        self.bounds = log.bounds
        self.messages: list[bytes] = []

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        if drafts[0].topic not in (CHECKINS.name, UPDATES.name):
            return self._log.append(drafts)
        self.messages += [draft.value or b"" for draft in drafts]
        return [0] * len(drafts)


class Packed(Federation):
    """A federation whose devices' messages come as its owner packs them."""

    def __init__(self, rules: Policy = RULES) -> None:
        super().__init__(rules)
        self.held = _Held(self.log)

    def device(self, name: str) -> ScriptedDevice:
        found = super().device(name)
        found._log = self.held  # type: ignore[assignment]
        return found

    def take(self) -> list[bytes]:
        """The messages that wait."""
        taken, self.held.messages = self.held.messages, []
        return taken

    def send(self, topic: str, *records: Sequence[bytes]) -> None:
        """One record for each of these lists."""
        for messages in records:
            self.append(topic, pack(messages))

    def lease(self, names: str = DEVICES) -> None:
        """A lease for each."""
        for name in names:
            self.device(name).check_in()
        self.send(CHECKINS.name, self.take())
        self.settle()

    def make_updates(self, names: str = DEVICES, *, inline: bool = True) -> list[bytes]:
        """An update of each under its newest lease, which nobody has sent."""
        for name in names:
            delta = np.array([ord(name) % 7, -1.0, 0.5, 0.25], np.float32)
            ScriptedDevice.submit(self.reading(name), delta, self.rules, inline=inline)
        return self.take()

    def reading(self, name: str) -> ScriptedDevice:
        """A device that reads answers from the log and hands its messages over."""
        device = self.device(name)
        device.answers = super().device(name).answers  # type: ignore[method-assign]
        return device

    def batches(self, topic: str) -> list[Batch]:
        """The records of a journal."""
        records = scan(self.log, TopicPartition(topic, self.partition))
        found = [open_record(record.value or b"") for record in records]
        return [one for one in found if isinstance(one, Batch)]


def _cut(messages: Sequence[bytes], sizes: Sequence[int]) -> list[list[bytes]]:
    """The same messages in records of these sizes, the last of which is as large as it needs to be."""
    rest, records = [*messages], []
    for size in sizes:
        if rest:
            records.append(rest[:size])
            rest = rest[size:]
    return [*records, *([rest] if rest else [])]


def _told(world: Federation, topic: str) -> tuple[list[Any], dict[Any, int]]:
    """What a journal decides, without the places of inputs and bodies; what it only counts, added up."""
    decided: list[Any] = []
    counted: dict[Any, int] = {}
    for decision in world.journal(topic):
        tally, rest = split(decision)
        decided.append([_placeless(event) for event in rest.events if not isinstance(event, StateDigest)])
        for event in tally.events:
            found = {"junk": event.count} if isinstance(event, InputsDropped) else event.counts  # type: ignore[union-attr]
            for reason, count in found.items():
                counted[reason] = counted.get(reason, 0) + count
    return [events for events in decided if events], counted


def _placeless(event: JournalEvent) -> Any:
    """Without what differs wherever the same is told twice: places of bodies, and what is salted."""
    if isinstance(event, Noticed):
        return _placeless(event.fact)  # type: ignore[arg-type]
    changed: dict[str, Any] = {"salt": bytes(16), "members_root": None}
    if isinstance(event, UpdateAdmitted):
        changed["body"] = event.body.sha256
    return replace(event, **{name: value for name, value in changed.items() if hasattr(event, name)})


SIZES = st.lists(st.integers(1, 9), max_size=12)
JUNK = st.binary(max_size=9).map(lambda data: b"\xc1" + data)


def _play(
    order: Sequence[int], junk: Sequence[tuple[int, bytes]], sizes: Sequence[Sequence[int]], rules: Policy
) -> Packed:
    """Two turns of check-ins and updates, with repeats and junk among them, in records of these sizes."""
    world = Packed(rules)
    cuts = iter(sizes)
    for turn in range(2):
        for number in order:
            world.device(DEVICES[number]).check_in()
        checkins = world.take()
        for at, data in junk:
            checkins.insert(at % (len(checkins) + 1), data)
        world.send(CHECKINS.name, *_cut([*checkins, *checkins[:2]], next(cuts)))
        world.settle()
        updates = world.make_updates("".join(DEVICES[number] for number in order if number != 2 * turn))
        for at, data in junk:
            updates.insert(at % (len(updates) + 1), data)
        world.send(UPDATES.name, *_cut([*updates, *updates[1:4]], next(cuts)))
        world.settle()
    return world


@settings(max_examples=25)
@given(
    order=st.permutations(range(len(DEVICES))),
    junk=st.lists(st.tuples(st.integers(0, 12), JUNK), max_size=4),
    sizes=st.lists(SIZES, min_size=4, max_size=4),
    rules=st.sampled_from([RULES, policy(aggregation={"updates_per_round": 4}, compression={"codec": "int8"})]),
)
def test_packing_changes_no_decision(
    order: list[int], junk: list[tuple[int, bytes]], sizes: list[list[int]], rules: Policy
) -> None:
    """Laws 2 and 9: however a stream of messages is cut into records, each has the outcome that it has alone."""
    alone = _play(order, junk, [[1] * 64] * 4, rules)
    packed = _play(order, junk, sizes, rules)
    for topic in (SELECTIONS.name, ROUNDS.name):
        assert _told(packed, topic) == _told(alone, topic)
    assert check(packed.log, packed.partition, settled=True) == []
    audit = Audit(packed.log, packed.partition, anchor=ANCHOR, full=True, to=None).run()
    assert audit.verdict == "identical"
    assert audit.models == len(packed.events(ROUNDS.name, ModelPublished)) - 1 > 0


def test_each_message_has_its_own_place() -> None:
    """A decision names offset and number, and so does the address of a body that came in the message."""
    world = Packed()
    world.lease()
    world.send(UPDATES.name, world.make_updates("abc"))
    world.settle()
    decided = [d for d in world.journal(ROUNDS.name) if d.topic == UPDATES.name]
    assert [(decision.offset, decision.message) for decision in decided] == [(0, 0), (0, 1), (0, 2)]
    bodies = [event.body for event in world.events(ROUNDS.name, UpdateAdmitted)]
    assert [(body.offsets, body.message) for body in bodies] == [((0,), 0), ((0,), 1), ((0,), 2)]


def test_a_body_of_a_message_is_found_again() -> None:
    """A sum is recomputed from bodies in messages, by an actor that opens in the middle of a round."""
    world = Packed(policy(aggregation={"updates_per_round": 8}))
    world.lease()
    updates = world.make_updates()
    world.send(UPDATES.name, updates[:5])
    world.settle()
    world.start("aggregator")
    world.send(UPDATES.name, updates[5:])
    world.settle()
    assert len(world.events(ROUNDS.name, ModelPublished)) == 2
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run().verdict == "identical"


@pytest.mark.parametrize("at", range(5))
def test_junk_counts_alone(at: int) -> None:
    """A message that says nothing costs the others in its record nothing, wherever it stands."""
    world = Packed()
    world.lease("abcd")
    updates = world.make_updates("abcd")
    updates.insert(at, b"\xc1junk")
    world.send(UPDATES.name, updates)
    world.settle()
    assert len(world.events(ROUNDS.name, UpdateAdmitted)) == 4
    [dropped] = world.events(ROUNDS.name, InputsDropped)
    assert (dropped.count, dropped.first_offset, dropped.last_offset) == (1, 0, 0)


def test_a_record_that_comes_twice_counts_once() -> None:
    """Delivered again it is nothing; appended again each message in it is a repeat."""
    world = Packed()
    world.lease("ab")
    updates = world.make_updates("ab")
    world.send(UPDATES.name, updates)
    world.settle()
    records = [*scan(world.log, TopicPartition(UPDATES.name, world.partition))]
    world.actors["aggregator"].handle(records)
    assert _told(world, ROUNDS.name)[1] == {}
    world.send(UPDATES.name, updates)
    world.settle()
    assert _told(world, ROUNDS.name)[1] == {"duplicate": 2}
    assert len(world.events(ROUNDS.name, UpdateAdmitted)) == 2


def test_a_digest_stands_behind_all_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that falls due inside a record is that of the state after it, and closes the batch."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 3)
    world = Packed()
    world.lease()
    assert world.events(SELECTIONS.name, LeaseGranted)
    for batch in world.batches(SELECTIONS.name):
        events = [event for decision in batch.decisions for event in decision.events]
        assert not any(isinstance(event, StateDigest) for event in events[:-1])
    assert world.events(SELECTIONS.name, StateDigest)
    assert describe_opening(open_actor(world, "selector", whole=True)) == describe_opening(world.actors["selector"])


def test_a_record_is_decided_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a journal's record has no room for all messages of one, none of them stands in it."""
    world = Packed()
    monkeypatch.setattr("actors.runtime.journal._BATCH_BYTES", 700)
    world.lease()
    found = [
        {(decision.topic, decision.offset) for decision in batch.decisions if decision.topic == CHECKINS.name}
        for batch in world.batches(SELECTIONS.name)
    ]
    places = [place for batch in found for place in batch]
    assert len(places) == len(set(places)) > 0
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == len(DEVICES)


class _Dying(MemoryWriter):
    """Dies at one step of its commits."""

    step, left = "", 0

    def _passes(self, step: str) -> None:
        if step == _Dying.step:
            _Dying.left -= 1
            if _Dying.left < 0:
                raise RuntimeError("the process dies")

    def begin(self) -> None:
        self._passes("begin")
        super().begin()

    def put(self, drafts: Sequence[Draft]) -> list[int]:
        put = super().put(drafts)
        self._passes("put")
        return put

    def finish(self) -> None:
        self._passes("finish")
        super().finish()
        self._passes("finished")


@pytest.mark.parametrize("step", ["begin", "put", "finish", "finished"])
@pytest.mark.parametrize("left", [0, 1])
def test_a_crash_loses_all_of_a_record_or_nothing(step: str, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a process dies that decides packed records, the next one decides each message exactly once."""
    world = Packed()
    world.lease()
    updates = world.make_updates()
    world.send(UPDATES.name, updates[:4], updates[4:])
    # Each record is a batch of its own.
    monkeypatch.setattr("actors.runtime.journal._BATCH_BYTES", 700)
    actor = world.actors["aggregator"]
    monkeypatch.setattr(_Dying, "step", step)
    monkeypatch.setattr(_Dying, "left", left)
    actor._journal._writer.__class__ = _Dying  # type: ignore[assignment]
    with pytest.raises(CommitUncertain):
        actor.handle([*scan(world.log, TopicPartition(UPDATES.name, world.partition))])
    world.start("aggregator")
    world.settle()
    admitted = world.events(ROUNDS.name, UpdateAdmitted)
    assert sorted(event.device for event in admitted) == sorted(map(device_id, DEVICES))
    assert check(world.log, world.partition, settled=True) == []


@pytest.mark.parametrize("at", range(4))
def test_a_broker_that_leaves_between_messages_undoes_the_record(at: int) -> None:
    """A body that cannot be fetched in the middle of a record: nothing of it is decided, and it comes again."""
    world = Packed()
    world.lease("abcd")
    world.send(UPDATES.name, world.make_updates("abcd", inline=False))
    actor = world.actors["aggregator"]
    measure, calls = actor._effects._intake.measure, iter(range(4))  # type: ignore[attr-defined]

    def failing(body: Any) -> Any:
        if next(calls, 9) == at:
            raise LogUnavailable("gone")
        return measure(body)

    records = [*scan(world.log, TopicPartition(UPDATES.name, world.partition))]
    undone = LogUnavailable if at == 0 else StateHalfApplied
    with patch.object(actor._effects._intake, "measure", failing), pytest.raises(undone):  # type: ignore[attr-defined]
        actor.handle(records)
    assert not [d for d in world.journal(ROUNDS.name) if d.topic == UPDATES.name]
    world.start("aggregator")
    world.settle()
    assert len(world.events(ROUNDS.name, UpdateAdmitted)) == 4
