"""The host of one actor on one partition, in small: what `actors.hosts.faust_app` does with Faust, one call a step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from actors.hosts.assembly import assemble
from actors.hosts.unseen import Unseen
from actors.keys import RoleKey
from actors.runtime.actor import Actor
from actors.runtime.inputs import Gap
from actors.wiring import ROLES
from schemas.canonical import encode
from schemas.events import Tick
from streams.log import Draft, LogUnavailable, Record, TopicPartition
from streams.memory import MemoryLog, MemoryReader
from tests.trials.simulation.faults import Faults
from tests.trials.simulation.shaky import HostLog, HostWriter, Killed

T = TypeVar("T")
OPENINGS_MAX = 60


class Worker:
    """One process. What it raises ends it; a broker that is away is waited for."""

    def __init__(self, name: str, partition: int, *, log: MemoryLog, faults: Faults, key: RoleKey) -> None:
        self._key = key
        self.name, self.partition = name, partition
        self.log = HostLog(log, faults)
        self.actor: Actor[Any] | None = None
        self.has_claimed = False
        self._random, self._hits = faults.random, faults.hits
        self._reader: MemoryReader | None = None
        self._unseen = Unseen()

    def open(self) -> None:
        """Claim, replay, seek every input, and do what the state waits for, whether any event comes or not."""
        self.actor = self._waited(self._opened, most=OPENINGS_MAX)
        self._hits["snapshots used"] += self.actor.opened.snapshot is not None
        self._seek()
        self._waited(self.actor.work)

    def feed(self, most: int, *, only: str | None = None) -> int:
        """The next records of all inputs, or of one, at most so many, mixed at random; how many there were."""
        topics = [only] if only else self._topics()
        records = self._mixed({topic: self._next(topic, most) for topic in topics}, most)
        if records:
            self._handle(records)
        return len(records)

    def stray(self) -> None:
        """A run from anywhere, as between a reset of the group's offsets and the seek that follows it."""
        starts = {topic: self._somewhere(topic) for topic in self._topics()}
        runs = {topic: self._read(topic, start, most=6) for topic, start in starts.items()}
        self._handle(self._mixed(runs, 12))
        self._seek()

    def tick(self) -> None:
        """Mark the passing of time where it matters."""
        topic = ROLES[self.name].ticks
        if topic is not None and self._actor().wants_tick():
            tick = Draft(topic=topic, partition=self.partition, value=encode(Tick()))
            self._waited(lambda: self.log.append([tick]))

    def housekeep(self) -> None:
        """Let go of what nobody needs."""
        self._waited(self._actor().delete_unneeded)

    def is_held_back(self) -> bool:
        """Whether readers do not see what it has committed, now as at the last look."""
        return self.actor is not None and bool(self._unseen.look(self.log.inner, self.actor.list_ends()))

    def close(self) -> None:
        """End in good order."""
        self._actor().close()

    @property
    def is_superseded(self) -> bool:
        """Whether another one has claimed its journal since, and it has blamed no input for what it did not know."""
        writer = getattr(self.actor and self.actor._journal, "_writer", None)
        return isinstance(writer, HostWriter) and writer.is_fenced() and not self._actor().guard.skips

    @property
    def unmade(self) -> bool:
        """Whether a commit was reported to it that the log does not hold."""
        writer = getattr(self.actor and self.actor._journal, "_writer", None)
        return isinstance(writer, HostWriter) and writer.unmade

    def _actor(self) -> Actor[Any]:
        assert self.actor is not None
        return self.actor

    def _topics(self) -> tuple[str, ...]:
        return ROLES[self.name].inputs

    def _opened(self) -> Actor[Any]:
        self.actor = assemble(self.name, self.partition, log=self.log, key=self._key)
        self.actor.open()
        return self.actor

    def _waited(self, call: Callable[[], T], *, most: int = 0) -> T:
        for tried in count(1):
            try:
                return call()
            except LogUnavailable as error:
                self._hits["calls repeated"] += 1
                # Two actors write into `published`: what a broker forgot to end there of the other's transaction is
                # ended by the other's claim, for which somebody in this one thread has to give way.
                if tried == most:
                    raise Killed("an opening that waits for somebody else") from error
        raise AssertionError("unreachable")

    def _seek(self) -> None:
        expected = {
            TopicPartition(topic, self.partition): self._actor().find_expected(topic) for topic in self._topics()
        }
        self._reader = self.log.reader(expected)

    def _next(self, topic: str, most: int) -> list[Record]:
        at = TopicPartition(topic, self.partition)
        assert self._reader is not None
        position = self._reader.position(at)
        # Most turns find nothing new, and this is the quickest way to see it.
        is_new = position < self.log.inner._partitions[at].high_watermark
        return self._read(topic, position, most=most) if is_new else []

    def _read(self, topic: str, start: int, *, most: int) -> list[Record]:
        return self.log.inner._read(TopicPartition(topic, self.partition), start, records_max=most)[0]

    def _somewhere(self, topic: str) -> int:
        bounds = self.log.inner.bounds(TopicPartition(topic, self.partition))
        return self._random.randint(bounds.beginning, bounds.end)

    def _mixed(self, runs: dict[str, list[Record]], most: int) -> list[Record]:
        """One run out of many, each in its own order."""
        turns = [topic for topic, run in runs.items() for _ in run]
        self._random.shuffle(turns)
        rest = {topic: iter(run) for topic, run in runs.items()}
        return [next(rest[topic]) for topic in turns[:most]]

    def _handle(self, records: list[Record]) -> None:
        actor = self._actor()
        self._hits["records redelivered"] += sum(r.offset < actor.find_expected(r.topic) for r in records)
        try:
            self._waited(lambda: actor.handle(records))
        except Gap:
            self._hits["gaps"] += 1
            self._seek()
        else:
            assert self._reader is not None
            for topic, offset in {r.topic: r.offset + 1 for r in records}.items():
                at = TopicPartition(topic, self.partition)
                self._reader.seek(at, max(offset, self._reader.position(at)))
            self._waited(actor.work)
