"""Exports a log that others go on writing, so that what is exported agrees with itself. `fedlog export-log` runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.keys import OperatorKey
from actors.wiring import ROLES
from ops.audit.chains import ChainReport, verify_chain
from ops.audit.verification import make_trust
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.journal import Batch
from schemas.published import Head, describe_heads, is_vouched_for, parse_checkpoint, sign_statement
from schemas.topics import (
    ANSWERS,
    BODIES,
    CHECKINS,
    CLOCK,
    ENROLMENTS,
    EVALUATIONS,
    MASKS,
    MODELS,
    PUBLISHED,
    SHARDS,
    TASKS,
    UPDATES,
)
from streams import exported as files
from streams.journals import JournalBroken, JournalReader
from streams.log import EventLog, Record, TopicPartition

CHECKPOINT = "checkpoint.json"
_ALWAYS = (PUBLISHED, TASKS, EVALUATIONS, MASKS)
_BODIES = (UPDATES, BODIES, SHARDS, MODELS)
_INPUTS = (CHECKINS, ENROLMENTS, CLOCK, ANSWERS)
_BY_DEVICE = frozenset((ANSWERS.name, SHARDS.name))


def select_topics(*, bodies: bool, inputs: bool) -> list[str]:
    """What an export holds, in the order in which it is taken: journals, in that of `actors.wiring`, come first.

    End offsets of effects are taken before those of their causes, so that the export never holds an effect without its
    cause. `_Cut` trims the exceptions.
    """
    others = (*_ALWAYS, *(_BODIES if bodies else ()), *(_INPUTS if inputs else ()))
    return [*(role.journal for role in ROLES.values()), *(topic.name for topic in others)]


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, what the chains of its journals say, and whether their heads were signed."""

    parts: tuple[files.Part, ...]
    reports: tuple[ChainReport, ...]
    is_signed: bool


def write_export(
    log: EventLog,
    partitions: Sequence[int],
    *,
    topics: Sequence[str],
    folder: Path,
    key: OperatorKey | bytes | None,
) -> Export:
    """Copy these partitions of these topics into `folder`; with the key, the signed heads of their journals too.

    The public key alone signs nothing. Without either a stranger's number in `published` may end that topic early.
    Raises FileExistsError where the folder is not empty.
    """
    operator = key.public_key if isinstance(key, OperatorKey) else key
    trust = make_trust(log, operator)
    # The partition of an answer, and of a body of a task with shards, is the device's: a task's are anywhere.
    chosen = {topic: range(log.partitions) if topic in _BY_DEVICE else partitions for topic in topics}
    # The name of the deployment stands in the first partition, and tells its creations from those of another.
    chosen[TASKS.name] = sorted({0, *partitions})
    places = [TopicPartition(topic, number) for topic in topics for number in chosen[topic]]
    ends = {at: log.bounds(at).end for at in places}
    manifest = files.export(log, ends, folder=folder, is_past=_Cut(log, ends, trust).is_past)
    written = files.ExportedLog(folder)
    journals = [TopicPartition(role.journal, number) for number in partitions for role in ROLES.values()]
    reports = tuple(verify_chain(written, place, trust=trust) for place in journals)
    # Without the operator's key an export is as good, but where its journals ended cannot be proven later.
    if isinstance(key, OperatorKey):
        heads = [report.head for report in reports if report.positions]
        deployment = None if trust is None else trust.deployment
        statement = describe_heads(heads, time.time_ns() // 1_000_000, deployment=deployment)
        (folder / CHECKPOINT).write_bytes(sign_statement(statement, key.signing) + b"\n")
    return Export(manifest.parts, reports, isinstance(key, OperatorKey))


class _Cut:
    """Ends a topic before its first record that rests on journal records behind their end.

    That may be so in `published`, and in a journal whose writer reads one that was taken before it.
    """

    def __init__(self, log: EventLog, ends: Mapping[TopicPartition, int], trust: Trust | None) -> None:
        self._log, self._ends, self._trust = log, ends, trust
        self._earlier = _list_earlier_inputs()
        self._seqs: dict[TopicPartition, int] = {}
        self._journals: dict[TopicPartition, JournalReader | None] = {}  # None: off its chain from here on

    def is_past(self, record: Record) -> bool:
        """Whether this record came after the journals that were taken before it."""
        # `published` follows the aggregator's journal in the same transaction but is copied later.
        if record.topic == PUBLISHED.name:
            return any(self._is_past(head, record.partition) for head in self._find_heads(record))
        inputs = [TopicPartition(topic, record.partition) for topic in self._earlier.get(record.topic, ())]
        # Few journals are looked into here, because decoding takes as long as all the rest of an export.
        if not inputs or (batch := self._follow(record)) is None:
            return False
        return any(batch.position.offsets.get(at.topic, 0) > self._ends[at] for at in inputs)

    def _follow(self, record: Record) -> Batch | None:
        """The batch that a journal's record is; None for what readers pass over, which is exported as it is."""
        journal = self._journals.setdefault(record.at, JournalReader(record.at, trust=self._trust))
        try:
            return None if journal is None else journal.follow(record)
        except JournalBroken:
            self._journals[record.at] = None
            return None

    def _find_heads(self, record: Record) -> Sequence[Head]:
        try:
            given = parse_checkpoint(record.value or b"")
        except MalformedError:
            return ()
        # A stranger's number, or one that was announced elsewhere, would end the topic here for every auditor. The
        # operator announces nothing: its signature is under the heads of exports, which name no deployment.
        if self._trust is not None and (
            given.signed_by == self._trust.operator or not is_vouched_for(given, self._trust, at_ms=record.time_ms)
        ):
            return ()
        # All of them: a step of a rollout rests on another journal than a version does.
        return given.heads

    def _is_past(self, head: Head, partition: int) -> bool:
        """Whether a journal was taken before the batch of which something is announced."""
        journal = TopicPartition(head.topic, partition)
        return head.partition == partition and journal in self._ends and head.seq > self._find_seq(journal)

    def _find_seq(self, journal: TopicPartition) -> int:
        if journal not in self._seqs:
            report = verify_chain(self._log, journal, trust=self._trust)
            self._seqs[journal] = report.find_last(self._ends[journal])[1].seq if report.fault is None else 2**63
        return self._seqs[journal]


def _list_earlier_inputs() -> dict[str, list[str]]:
    """The inputs of each journal's writer that are journals of rows before its own."""
    journals = [role.journal for role in ROLES.values()]
    return {
        role.journal: [topic for topic in role.inputs if topic in journals[: journals.index(role.journal)]]
        for role in ROLES.values()
    }
