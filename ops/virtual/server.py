"""The server in one process: the actors of one partition, each given what it has not read whenever it is its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from actors.hosts.assembly import assemble
from actors.keys import RoleKey
from actors.runtime.actor import Actor
from actors.runtime.observer import Observer
from client_agent.running.loop import NEVER_MS
from schemas.canonical import encode
from schemas.events import Tick
from streams.log import Draft, EventLog, Record, TopicPartition, scan
from streams.memory import MemoryLog

# What an actor takes in one turn; a host's carrier hands out runs of this order.
RUN_MAX = 1_000
TICK_EVERY_MS = 1_000
DELETE_EVERY_MS = 600_000
# One task lives in one partition, and there is no other task.
PARTITION = 0
# 2000-01-01 00:00 UTC: nobody takes it for the time at which something happened.
START_MS = 946_684_800_000


@dataclass(slots=True)
class VirtualClock:
    """The only time that there is in a run; it passes when the run says so."""

    now_ms: int = START_MS

    def read_ms(self) -> int:
        """The time as append times have it."""
        return self.now_ms

    def read_s(self) -> float:
        """The same in seconds."""
        return self.now_ms / 1_000


def list_unread(actor: Actor[Any], log: EventLog, *topics: str) -> Iterator[Record]:
    """The inputs from these topics that an actor has not decided yet."""
    for topic in topics:
        yield from scan(log, TopicPartition(topic, actor.partition), start=actor.find_expected(topic))


def feed(actor: Actor[Any], log: EventLog, *, most: int = RUN_MAX) -> int:
    """Have an actor decide the next inputs that it has not decided yet, at most so many; how many there were."""
    records = list(islice(list_unread(actor, log, *actor.role.inputs), most))
    actor.handle(records)
    actor.work()
    return len(records)


class Server:
    """The actors of one partition, opened, in the order of their keys."""

    def __init__(
        self, log: MemoryLog, clock: VirtualClock, *, keys: Mapping[str, RoleKey], observers: Sequence[Observer] = ()
    ) -> None:
        self._log, self._clock = log, clock
        self._actors = [assemble(role, PARTITION, log=log, key=key, observers=observers) for role, key in keys.items()]
        self._ticked_ms = self._deleted_ms = clock.now_ms
        # Opened by claim and replay, as everywhere: the journals of a new log are empty.
        for actor in self._actors:
            actor.open()
            actor.work()

    def settle(self) -> int:
        """Feed every actor until none has anything left to read; how many inputs there were."""
        count = 0
        # Round after round, because what one decides another reads.
        while fed := sum(feed(actor, self._log) for actor in self._actors):
            count += fed
        return count

    def find_due_ms(self) -> int:
        """When the passing of time alone may change something."""
        return self._ticked_ms + TICK_EVERY_MS if self._list_ticks() else NEVER_MS

    def pass_time(self) -> None:
        """Mark the passing of time, and delete what no decision needs, as often as hosts do."""
        now_ms = self._clock.now_ms
        if now_ms - self._ticked_ms >= TICK_EVERY_MS:
            self._ticked_ms = now_ms
            self._log.append(self._list_ticks())
        if now_ms - self._deleted_ms >= DELETE_EVERY_MS:
            self._deleted_ms = now_ms
            for actor in self._actors:
                actor.delete_unneeded()

    def close(self) -> None:
        """Release the journals."""
        for actor in self._actors:
            actor.close()

    def _list_ticks(self) -> list[Draft]:
        topics = [actor.role.ticks for actor in self._actors if actor.role.ticks is not None and actor.wants_tick()]
        return [Draft(topic=topic, partition=PARTITION, value=encode(Tick())) for topic in topics]
