"""Follows every task that names a helper, and lets it speak; `fedlog helper run` calls it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from actors.deciders.masking.heard import Heard, fold, fold_enrolment
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.hosts.helper.speaking import NoteStep, Speaker
from actors.hosts.helper.store import EPOCHS, HelperStore
from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust
from schemas.creations import find_deployment, find_faults, find_misplacement, parse_creation
from schemas.events import TaskCreated
from schemas.masking.statements import HelperSaid, digest_said, open_said
from schemas.signing import is_signed_by, parse_signed
from schemas.topics import MASKS, REGISTRY, ROUNDS, TASKS
from streams.journals import JournalBroken, JournalReader
from streams.log import EventLog, LogUnavailable, OffsetLost, Reader, Record, TopicPartition, scan
from streams.retry import RETRY_EVERY_S

POLL_S = 0.2

logger = structlog.get_logger()


@dataclass(slots=True)
class Followed:
    """One partition in which a task of this helper lives; `registry` is the registrar's, where one is pinned."""

    journal: JournalReader
    reader: Reader
    heard: Heard = field(default_factory=Heard)
    registry: JournalReader | None = None
    is_read: bool = False  # up to the end, once
    is_broken: bool = False


class HelperService:
    """One helper on one log, for one thread. `operator` is the public key that tasks are believed for.

    `registrars`: the public keys by which its owner believes who is enrolled; without any, the server's word counts.
    Raises LogError: then another one begins, with the same folder.
    """

    def __init__(
        self,
        log: EventLog,
        kept: HelperStore,
        *,
        operator: bytes,
        registrars: Collection[bytes] = (),
        note_step: NoteStep = lambda step: None,
    ) -> None:
        self._log, self._kept, self._operator, self._note_step = log, kept, operator, note_step
        self._registrars = registrars
        self._keys = EpochKeys(kept.folder / EPOCHS)
        self._trust: Trust | None = None
        self._created: dict[str, TaskCreated] = {}
        self._speakers: dict[str, Speaker] = {}
        self._followed: dict[int, Followed] = {}
        self._tasks = log.reader({TopicPartition(TASKS.name, number): 0 for number in range(log.partitions)})

    def step(self, timeout_s: float) -> int:
        """Read what has come, and say what is due; the number of records read."""
        is_busy = any(not followed.is_broken for followed in self._followed.values())
        count = self._learn(0.0 if is_busy else timeout_s)
        whole = {number: followed for number, followed in self._followed.items() if not followed.is_broken}
        for partition, followed in whole.items():
            count += self._follow(partition, followed, timeout_s=timeout_s / len(whole))
        return count

    def close(self) -> None:
        """Release the readers."""
        self._tasks.close()
        for followed in self._followed.values():
            followed.reader.close()

    def _learn(self, timeout_s: float) -> int:
        """Take note of tasks that name this helper; their partitions are followed from now on."""
        records = self._tasks.poll(timeout_s)
        if self._trust is None and records:
            deployment = find_deployment(scan(self._log, TopicPartition(TASKS.name, 0)), self._operator)
            self._trust = None if deployment is None else Trust(self._operator, deployment)
        for record in records:
            created = parse_creation(record, self._operator)
            if created is None or self._trust is None or created.deployment != self._trust.deployment:
                continue
            keys = created.policy.masked_by.public_keys if created.policy.is_masked else ()
            # The operator's word alone says whose masks these are.
            if self._kept.public_key not in keys or created.task in self._created:
                continue
            faults = [
                *find_misplacement(created, record.partition, partitions=self._log.partitions),
                *find_faults(created),
            ]
            if self._registrars and not created.policy.is_enrolled:
                faults.append("a registrar is pinned, and this task enrols nobody")
            if faults:
                logger.error("task_refused", task=created.task, faults=faults)
                continue
            self._begin(created, record.partition, helper=keys.index(self._kept.public_key))
        return len(records)

    def _begin(self, created: TaskCreated, partition: int, *, helper: int) -> None:
        self._created[created.task] = created
        speaker = self._speakers[created.task] = Speaker(
            self._log, partition, helper=helper, kept=self._kept, keys=self._keys, note_step=self._note_step
        )
        # From its own journal, and not from the topic, where others decide what is seen.
        own = [*self._list_own(created)]
        for statement, said in own:
            speaker.remember(statement, said)
        self._compare(created, partition, speaker=speaker, own=[statement for statement, _ in own])
        if partition not in self._followed:
            self._followed[partition] = self._follow_from_the_beginning(partition)
        logger.info("task_followed", task=created.task, helper=helper, partition=partition)

    def _follow_from_the_beginning(self, partition: int) -> Followed:
        at, registry = TopicPartition(ROUNDS.name, partition), TopicPartition(REGISTRY.name, partition)
        journal = JournalReader(at, trust=self._trust)
        if not self._registrars:
            return Followed(journal, self._log.reader({at: 0}))
        enrolling = JournalReader(registry, trust=self._trust)
        return Followed(journal, self._log.reader({at: 0, registry: 0}), Heard(enrolled={}), enrolling)

    def _list_own(self, created: TaskCreated) -> Iterator[tuple[bytes, HelperSaid]]:
        for statement in self._kept.said:
            if (said := open_said(statement, created)) is not None:
                yield statement, said

    def _compare(self, created: TaskCreated, partition: int, *, speaker: Speaker, own: list[bytes]) -> None:
        """Say again what the log lacks; where the log has more of this hand than the journal, it is behind."""
        known, seen = {digest_said(statement) for statement in own}, set[bytes]()
        for record in scan(self._log, TopicPartition(MASKS.name, partition)):
            if self._is_own(value := record.value or b"", created):
                seen.add(digest_said(value))
        if not seen <= known:
            logger.error("store_behind", task=created.task, folder=str(self._kept.folder), missing=len(seen - known))
            self._kept.mark_behind()
        for statement in own:
            if digest_said(statement) not in seen:
                speaker.append(statement)

    def _is_own(self, value: bytes, created: TaskCreated) -> bool:
        try:
            signed = parse_signed(value)
            said = decode(signed.payload, HelperSaid)
        except MalformedError:
            return False
        is_here = (said.deployment, said.event.task) == (created.deployment, created.task)
        return is_here and is_signed_by(signed, self._kept.public_key)

    def _follow(self, partition: int, followed: Followed, *, timeout_s: float) -> int:
        records = followed.reader.poll(timeout_s)
        try:
            for record in records:
                self._fold_record(followed, record)
        except JournalBroken as error:
            # Its tasks wait; those of other partitions do not rest on this journal.
            logger.error("journal_broken", partition=partition, error=str(error), do="mend it, then start this again")
            followed.is_broken = True
            return len(records)
        # What is long over must not be answered for on the way: keys may be gone, and nobody would listen. And who is
        # enrolled stands in the registry before anybody has a lease.
        if records or not followed.is_read:
            journals = [followed.journal, *([followed.registry] if followed.registry else [])]
            # The registry's end is asked for last: it holds whoever a round that was read by then may have.
            followed.is_read = all(followed.reader.position(j.at) >= self._log.bounds(j.at).end for j in journals)
        if followed.is_read:
            self._speak(partition, followed)
        return len(records)

    def _speak(self, partition: int, followed: Followed) -> None:
        assert self._trust is not None
        for name, task in followed.heard.tasks.items():
            # As the operator wrote it, and not as an aggregator repeats it.
            if self._created.get(name) == task.created:
                self._speakers[name].speak(task, self._trust, seen=followed.journal.position)

    def _fold_record(self, followed: Followed, record: Record) -> None:
        is_registry = record.topic == REGISTRY.name
        journal = followed.registry if is_registry and followed.registry is not None else followed.journal
        batch = journal.follow(record)
        events = [event for decision in batch.decisions for event in decision.events] if batch is not None else []
        # Of another registrar, whoever certified it, nothing is believed.
        if is_registry and journal.position.key not in self._registrars:
            return
        for event in events:
            (fold_enrolment if is_registry else fold)(followed.heard, event)


def run_service(log: EventLog, kept: HelperStore, *, operator: bytes, registrars: Collection[bytes] = ()) -> NoReturn:
    """Serve until the process is told to end; while no broker answers, wait. Raises LogRefused."""
    while True:
        service = None
        try:
            service = HelperService(log, kept, operator=operator, registrars=registrars)
            while True:
                service.step(POLL_S)
        except (LogUnavailable, OffsetLost) as error:
            # All that it knows is in its folder and in the log, so that another one begins.
            logger.warning("helper_begins_again", error=str(error))
            time.sleep(RETRY_EVERY_S)
        finally:
            if service is not None:
                service.close()
