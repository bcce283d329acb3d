"""The log as workers and devices see it in a simulated world: broken links, torn commits, deaths between writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from schemas.topics import ANSWERS
from streams.log import Bounds, CommitUncertain, Draft, LogUnavailable, Record, TopicPartition
from streams.memory import MemoryLog, MemoryReader, MemoryWriter, _Transaction
from tests.trials.simulation.faults import Faults


class Killed(BaseException):
    """The process ends here. No Exception: nothing in a process handles its own death."""


class HostLog:
    """What one worker sees. `reached` stands at every write; what `fuse` does there may kill or freeze the worker."""

    def __init__(self, log: MemoryLog, faults: Faults) -> None:
        self.inner, self.faults = log, faults
        self.partitions = log.partitions
        self.is_dead = False
        self.fuse: Callable[[str], None] | None = None
        self.left = 0

    def reached(self, step: str) -> None:
        """The worker is about to take this step, or has just taken it."""
        if self.is_dead:
            raise Killed(step)
        self.left -= 1
        if self.fuse is not None and self.left <= 0:
            fuse, self.fuse = self.fuse, None
            fuse(step)

    def _find_broker(self) -> None:
        if self.is_dead:
            raise Killed("a read")
        if self.faults.strikes("broker away"):
            raise LogUnavailable("simulated")

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        self._find_broker()
        self.reached("append")
        if self.faults.strikes("append unheard"):
            self.inner.append(drafts[: self.faults.random.randint(0, len(drafts))])
            raise LogUnavailable("simulated, after an append")
        offsets = self.inner.append(drafts)
        self.reached("appended")
        return offsets

    def bounds(self, at: TopicPartition) -> Bounds:
        self._find_broker()
        return self.inner.bounds(at)

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        # It always finds its broker, so that what else a seed draws does not depend on it.
        return self.inner.list_bounds(places)

    def find_written_end(self, at: TopicPartition) -> int:
        self._find_broker()
        return self.inner.find_written_end(at)

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        self._find_broker()
        return self.inner.first_since(at, time_ms)

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        self._find_broker()
        self.reached("delete")
        self.inner.delete_records(at, before_offset)
        self.faults.hits["bodies deleted"] += 1

    def reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        return HostReader(self.inner, positions)

    bulk_reader = reader

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> MemoryWriter:
        self._find_broker()
        self.reached("claim")
        return HostWriter(self, name, settles=settles)

    def close(self) -> None:
        """Nothing is held."""


class HostReader(MemoryReader):
    """Takes its time where an open transaction holds it back."""

    def poll(self, timeout_s: float) -> list[Record]:
        found = super().poll(timeout_s)
        if not found and any(offset < self._log.find_written_end(at) for at, offset in self._positions.items()):
            time.sleep(timeout_s)
        return found


class HostWriter(MemoryWriter):
    """A writer whose transactions tear."""

    def __init__(self, host: HostLog, name: str, *, settles: Collection[TopicPartition]) -> None:
        _forget_markers(host, name)
        super().__init__(host.inner, name, epoch=host.inner.writer(name, settles=settles)._epoch)
        self._host = host
        self._commits = 0
        self.unmade = False

    def commit(self, drafts: Sequence[Draft]) -> list[int]:
        if self._death is None and self.is_fenced() and self._leaks(drafts):
            self._log.append(drafts)
        offsets = super().commit(drafts)
        self._commits += 1
        return offsets

    def is_fenced(self) -> bool:
        return self._log._epochs[self._name] != self._epoch

    def _leaks(self, drafts: Sequence[Draft]) -> bool:
        """A batch alone may slip past the fence; a claim never, nor what the transaction would tie to it."""
        is_batch = self._commits > 0 and {draft.topic for draft in drafts} == {self._journal}
        return is_batch and self._host.faults.strikes("zombie's batch")

    @property
    def _journal(self) -> str:
        from actors.wiring import ROLES

        return ROLES[self._name.split(".")[0]].journal

    def begin(self) -> None:
        self._host.reached("begin")
        if self.is_fenced():
            self._host.faults.hits["writer fenced"] += 1
        super().begin()

    def put(self, drafts: Sequence[Draft]) -> list[int]:
        self._host.reached("put")
        offsets = super().put(drafts)
        self._host.reached("finish")
        return offsets

    def finish(self) -> None:
        self._check_fence()
        for kind in ("commit unmade", "commit aborted"):
            if self._host.faults.strikes(kind):
                self._log._finish(self._name, committed=False)
                if kind == "commit unmade":
                    self.unmade = True
                    return
                raise CommitUncertain("simulated: aborted")
        self._commit()
        self._host.reached("finished")
        if self._host.faults.strikes("commit unheard"):
            raise CommitUncertain("simulated: committed")

    def _commit(self) -> None:
        """Commit; where the broker crashes in it, it may be known as aborted, and the rest may be forgotten."""
        forgotten = _forget_markers(self._host, self._name)
        if forgotten and self._host.faults.later.random() < 0.3:
            self._log._finish(self._name, committed=False)
            raise CommitUncertain("simulated: aborted by a broker that crashed")
        super().finish()
        self._host.faults.promised += forgotten


def _forget_markers(host: HostLog, name: str) -> list[_Transaction]:
    """Perhaps some partitions of the open transaction of this name get no marker; what stays open there."""
    transaction = host.inner._transactions.get(name)
    if transaction is None or not transaction.first or not host.faults.strikes("marker forgotten"):
        return []
    places = sorted(transaction.first)
    chosen = host.faults.later.sample(places, host.faults.later.randint(1, len(places)))
    host.faults.hits.update(f"left open in {at.topic}" for at in chosen)
    host.inner.forget(name, chosen)
    return host.inner._forgotten[name][-len(chosen) :]


class Detour:
    """What is held up on its way, and until when."""

    def __init__(self) -> None:
        self._late: list[tuple[int, Draft]] = []

    def hold(self, draft: Draft, *, until_ms: int) -> None:
        """It comes later."""
        self._late.append((until_ms, draft))

    def land(self, log: MemoryLog, until_ms: float) -> None:
        """What is due arrives."""
        due = [draft for at_ms, draft in self._late if at_ms <= until_ms]
        self._late = [(at_ms, draft) for at_ms, draft in self._late if at_ms > until_ms]
        if due:
            log.append(due)


class DeviceLog:
    """What the devices of one process see: appends that are late, doubled or unheard of, answers as in a bad net."""

    def __init__(self, log: MemoryLog, faults: Faults, *, later: Callable[[Draft], None]) -> None:
        self.inner, self.faults, self._later = log, faults, later

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        if self.faults.strikes("device offline"):
            raise LogUnavailable("simulated")
        offsets: list[int] = []
        for draft in drafts:
            if self.faults.strikes("update late"):
                self._later(draft)
                continue
            for _ in range(1 + self.faults.strikes("update twice")):
                [offset] = self.inner.append([draft])
            offsets.append(offset)
        if len(offsets) < len(drafts) or self.faults.strikes("append unheard"):
            raise LogUnavailable("simulated, after an append")
        return offsets

    def reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        if {at.topic for at in positions} == {ANSWERS.name}:
            return AnswerReader(self.inner, positions, faults=self.faults)
        return self.inner.reader(positions)

    bulk_reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class AnswerReader(MemoryReader):
    """Answers that get lost, come late, twice, and in any order."""

    def __init__(self, log: MemoryLog, positions: Mapping[TopicPartition, int], *, faults: Faults) -> None:
        super().__init__(log, positions)
        self._faults = faults
        self._held: list[Record] = []

    def poll(self, timeout_s: float) -> list[Record]:
        held, self._held = self._held, []
        found: list[Record] = []
        for record in [*held, *super().poll(timeout_s)]:
            if self._faults.strikes("answer lost"):
                continue
            if self._faults.strikes("answer late"):
                self._held.append(record)
                continue
            found.append(record)
            if self._faults.strikes("answer twice"):
                self._held.append(record)
        if self._faults.strikes("answers shuffled"):
            self._faults.random.shuffle(found)
        return found
