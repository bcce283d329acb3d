"""A recorded history: one partition of a federation as a release wrote it, with the key of its operator.

The tar holds an export of every topic (its blocks are compressed), `operator.key`, and `states.json`: what digest the
state of each actor had at the end. `Retelling` makes one actor decide it all again.
"""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from actors.deciders.admission import UpdateChecked
from actors.deciders.aggregator import KeyMissing, ReleaseStored
from actors.deciders.decider import digest
from actors.deciders.drifting.judging import Distance
from actors.deciders.tallies import Tallies, split
from actors.effects.watching.drifting import measure_drift
from actors.hosts.assembly import assemble
from actors.keys import OperatorKey, RoleKey
from actors.runtime.actor import _drop
from actors.runtime.effects import Arrival
from actors.wiring import ROLES
from ops.audit.export import select_topics, write_export
from schemas.canonical import encode
from schemas.events import (
    DefectFound,
    JournalEvent,
    ModelPublished,
    RoundAbandoned,
    StateDigest,
    SumStored,
    UpdateAdmitted,
)
from schemas.identifiers import BodyRef
from schemas.journal import Batch, Chain, Decision
from schemas.tensors import unpack as unpack_vector
from schemas.topics import CLOCK, JOURNALS, MASKS, ROLLOUTS
from streams.bodies import BodyReader
from streams.exported import ExportedLog
from streams.log import Bounds, EventLog, Record, TopicPartition, scan
from streams.packing import unpack
from tests.judges.logbook import find_passed
from tests.worlds.builders import DEPLOYMENT, FOR_EVER_MS, KEY
from tests.worlds.story import told

FOLDER = Path(__file__).parent
KEY_FILE, STATES_FILE = "operator.key", "states.json"


@dataclass(frozen=True, slots=True)
class History:
    """An unpacked history."""

    log: ExportedLog
    partition: int
    key: OperatorKey
    deployment: bytes
    states: dict[str, str]

    def role_key(self, role: str) -> RoleKey:
        """What the operator of that time handed out."""
        return self.key.issue(role, self.deployment, until_ms=FOR_EVER_MS)


def record(path: Path, folder: Path) -> None:
    """Tell the story with the code of today, and keep what it leaves behind."""
    story = told()
    write_export(
        story.log, [story.partition], topics=select_topics(bodies=True, inputs=True), folder=folder / "log", key=KEY
    )
    states = {actor.role.journal: digest(actor.state).hex() for actor in story.actors.values()}
    (folder / "log" / STATES_FILE).write_text(json.dumps(states, indent=1))
    (folder / "log" / KEY_FILE).write_text(KEY.secret.hex() + "\n")
    with tarfile.open(path, "w") as tar:
        for file in sorted((folder / "log").iterdir()):
            about = tarfile.TarInfo(file.name)
            about.size = file.stat().st_size
            with file.open("rb") as data:
                tar.addfile(about, data)


class _Recorded(ExportedLog):
    """What was recorded before there were masks, or rollouts, has none of them."""

    def bounds(self, at: TopicPartition) -> Bounds:
        return super().bounds(at) if self._has(at) else Bounds(0, 0)

    def read(self, at: TopicPartition, position: int) -> tuple[list[Record], int]:
        return super().read(at, position) if self._has(at) else ([], position)

    def _has(self, at: TopicPartition) -> bool:
        is_new = at.topic in (MASKS.name, ROLLOUTS.name, CLOCK.name)
        return not is_new or bool(self.list_partitions([at.topic]))


def unpacked(path: Path, folder: Path) -> History:
    """Open a recorded history."""
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    log = _Recorded(folder)
    [partition] = log.list_partitions(topic.name for topic in JOURNALS)
    key = OperatorKey(bytes.fromhex((folder / KEY_FILE).read_text()))
    return History(log, partition, key, DEPLOYMENT, json.loads((folder / STATES_FILE).read_text()))


class Retelling:
    """One actor of a history: its state as its journal has it, and what it would decide on the recorded inputs."""

    def __init__(self, history: History, name: str) -> None:
        self.decisions = self.digests = 0
        self.faults: list[str] = []
        self.history, self.name = history, name
        actor: Any = assemble(name, history.partition, log=history.log, key=history.role_key(name))
        self.state, self.decider, self._effects = actor.state, actor._decider, actor._effects
        self._inputs = {
            topic: [message for record in self._records(topic) for message in unpack(record)]
            for topic in ROLES[name].inputs
        }
        self._chains = {topic: Chain(topic, history.partition) for topic in ROLES[name].journal_inputs}
        self._time_ms = 0

    def run(self) -> None:
        """Decide every input again, in the order that the journal fixed, and compare with what it recorded."""
        journal = ROLES[self.name].journal
        chain = Chain(journal, self.history.partition)
        for record in self._records(journal):
            batch = chain.follow(record.offset, record.value or b"")
            if batch is not None:
                self._retell(batch, where=f"{journal}@{record.offset}")
        for topic in self._inputs:
            self._rest(topic)

    def _retell(self, batch: Batch, *, where: str) -> None:
        """One record: its inputs topic by topic, as the story's actors were given them; and what they add up to."""
        parts = [split(decision) for decision in batch.decisions]
        recorded = deque(decided for _, decided in parts if decided.events)
        tallies, failed = Tallies(), [e for counted, _ in parts for e in counted.events if isinstance(e, DefectFound)]
        for topic, inputs in self._inputs.items():
            while inputs and inputs[0].offset < batch.position.offsets.get(topic, 0):
                record = inputs.pop(0)
                place = (topic, record.offset, record.message)
                is_next = bool(recorded) and (recorded[0].topic, recorded[0].offset, recorded[0].message) == place
                expected = recorded.popleft() if is_next else None
                self._time_ms = expected.time_ms if expected else max(self._time_ms, record.time_ms)
                events = tuple(self._outcome(record, expected, failed=failed))
                found = Decision(topic=topic, offset=record.offset, time_ms=self._time_ms, events=events)
                counted, decided = split(found)
                if counted.events:
                    tallies.add(counted)
                self._compare(decided.events, expected, where=f"{where}, on {topic}@{record.offset}")
        for made in recorded:
            events = tuple(self._decided(self._make([*made.events]), made.time_ms))
            self._compare(events, made, where=f"{where}, by the host")
        said = [counted.events for counted, _ in parts if counted.events]
        if (summed := [decision.events for decision in tallies.make_decisions()]) != said:
            self.faults.append(f"{where}: counts {summed}, recorded {said}")

    def _records(self, topic: str) -> Iterator[Record]:
        log: EventLog = self.history.log
        return scan(log, TopicPartition(topic, self.history.partition))

    def _compare(self, found: tuple[JournalEvent, ...], recorded: Decision | None, *, where: str) -> None:
        self.decisions += recorded is not None
        told = [event for event in recorded.events if not isinstance(event, StateDigest)] if recorded else []
        if [encode(event) for event in found] != [encode(event) for event in told]:
            self.faults.append(f"{where}: decided {found}, recorded {told}")
        for event in recorded.events if recorded else ():
            if isinstance(event, StateDigest):
                self.digests += 1
                if event.sha256 != digest(self.state):
                    self.faults.append(f"{where}: the fold gives another digest")
                self.decider.evolve(self.state, event, recorded.time_ms if recorded else 0)

    def _rest(self, topic: str) -> None:
        """What stands behind the last decision gave none."""
        for record in self._inputs[topic]:
            self._time_ms = max(self._time_ms, record.time_ms)
            if events := self._outcome(record, None, failed=()):
                self.faults.append(f"{topic}@{record.offset}: decides {events}, and nothing was recorded")

    def _outcome(
        self, record: Record, recorded: Decision | None, *, failed: Iterable[DefectFound]
    ) -> list[JournalEvent]:
        """What one input gives. Where the code of that time failed on a fact, it is passed as it was then."""
        passed = [(event, {offset for offset, _ in find_passed(event)}) for event in failed]
        here = [event for event, offsets in passed if event.topic == record.topic and record.offset in offsets]
        events: list[JournalEvent] = []
        for number, fact in enumerate(self._facts(record), start=record.message):
            found = next((event for event in here if event.number == number), None)
            if found is None:
                events += self._decided(fact, self._time_ms, recorded=recorded)
                continue
            defect = msgspec.structs.replace(found, count=1, first_offset=record.offset, last_offset=record.offset)
            self.decider.evolve(self.state, defect, self._time_ms)
            salvaged = self._effects.fallback_input(self.state, record, said=fact)
            owed = () if salvaged is None else self._decided(salvaged, self._time_ms, recorded=recorded)
            events += [defect, *owed]
        return events

    def _facts(self, record: Record) -> list[Any]:
        chain = self._chains.get(record.topic)
        if chain is None:
            return [record]
        batch: Batch | None = chain.follow(record.offset, record.value or b"")
        return [event for decision in (batch.decisions if batch else ()) for event in decision.events]

    def _decided(self, fact: Any, time_ms: int, *, recorded: Decision | None = None) -> list[JournalEvent]:
        """Decide and fold one fact; a record of a plain input first has to be read, with its body."""
        arrival = self._effects.read(self.state, fact) if isinstance(fact, Record) else Arrival(fact)
        if arrival is None:
            return [_drop(fact)]
        events = self.decider.decide(self.state, _salted(arrival.input, recorded), time_ms)
        for event in events:
            self.decider.evolve(self.state, event, time_ms)
        return list(events)

    def _make(self, told: Sequence[JournalEvent]) -> object:
        """The host's own fact that a decision without an input rests on; the full replay makes the release anew."""
        match told:
            case [SumStored() as stored, ModelPublished() as published, *_]:
                return ReleaseStored(
                    task=stored.task,
                    round=stored.round,
                    sum_sha256=stored.sum_sha256,
                    model=published.model,
                    moments=published.moments,
                    distances=self._measure(published),
                )
            case [RoundAbandoned(reason="key_missing") as abandoned, *_]:
                return KeyMissing(task=abandoned.task, round=abandoned.round)
        raise AssertionError(f"no host makes a fact for {told}")

    def _measure(self, published: ModelPublished) -> tuple[Distance, ...] | UnsetType:
        """How far its answers are from their reference: of what is within its bounds the journal says nothing."""
        task = self.state.tasks[published.task]
        if task.drifts is UNSET:
            return UNSET
        reader = BodyReader(self.history.log, published.model.topic, published.model.partition)

        def fetch(ref: BodyRef) -> bytes:
            data = reader.fetch(ref)
            assert isinstance(data, bytes)
            return data

        vector = unpack_vector(fetch(published.model), published.model.codec, count=task.created.parameters)
        return measure_drift(task, vector, members=published.members, fetch=fetch)


def _salted(given: object, recorded: Decision | None) -> object:
    """An update with the salt that was drawn for it then: what is random is an input, and stands in the journal."""
    admitted = [event for event in (recorded.events if recorded else ()) if isinstance(event, UpdateAdmitted)]
    return replace(given, salt=admitted[0].salt) if admitted and isinstance(given, UpdateChecked) else given
