"""An export that agrees with itself, from a log that others go on writing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.keys import OperatorKey
from ops.audit.verification import ChainReport, verified
from schemas.canonical import MalformedError, decode
from schemas.journal import Batch, JournalRecord
from schemas.published import checkpoint, heads_said, signed
from schemas.topics import (
    ANSWERS,
    BODIES,
    CHECKINS,
    EVALUATIONS,
    JOURNALS,
    LEDGER,
    MODELS,
    PARTITIONS,
    PUBLISHED,
    ROUNDS,
    SELECTIONS,
    SHARDS,
    TASKS,
    UPDATES,
)
from streams import exported as files
from streams.journals import AcceptsResume, reject_all
from streams.log import EventLog, Record, TopicPartition

CHECKPOINT = "checkpoint.json"
# The order in which their ends are taken: whatever stands in one was caused by what stands in those after it, but for
# the ledger and `published`, which `_Cut` ends where they speak of rounds that came later.
_ALWAYS = (SELECTIONS, ROUNDS, LEDGER, PUBLISHED, TASKS, EVALUATIONS)
_BODIES = (UPDATES, BODIES, SHARDS, MODELS)
_INPUTS = (CHECKINS, ANSWERS)
_BY_DEVICE = frozenset((ANSWERS.name, SHARDS.name))


def topics_of(*, bodies: bool, inputs: bool) -> list[str]:
    """What an export holds, in the order in which it is taken."""
    return [topic.name for topic in (*_ALWAYS, *(_BODIES if bodies else ()), *(_INPUTS if inputs else ()))]


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, what the chains of its journals say, and whether their heads were signed."""

    parts: tuple[files.Part, ...]
    reports: tuple[ChainReport, ...]
    is_signed: bool


def exported(
    log: EventLog, partitions: Sequence[int], *, topics: Sequence[str], folder: Path, key: OperatorKey | None
) -> Export:
    """Copy these partitions of these topics into `folder`; with the key, the signed heads of their journals too.

    Raises FileExistsError where the folder is not empty.
    """
    accepts = key.accepts if key else reject_all
    # Answers lie by device, and so do the bodies of tasks with shards: those of a task are anywhere.
    chosen = {topic: range(PARTITIONS) if topic in _BY_DEVICE else partitions for topic in topics}
    places = [TopicPartition(topic, number) for topic in topics for number in chosen[topic]]
    ends = {at: log.bounds(at).end for at in places}
    rounds = {number: ends[TopicPartition(ROUNDS.name, number)] for number in partitions}
    manifest = files.export(log, ends, folder=folder, is_past=_Cut(log, rounds, accepts).is_past)
    there = files.ExportedLog(folder)
    journals = [TopicPartition(topic.name, number) for number in partitions for topic in JOURNALS]
    reports = tuple(verified(there, place, accepts_resume=accepts) for place in journals)
    if key is not None:
        heads = [report.head() for report in reports if report.stands]
        (folder / CHECKPOINT).write_bytes(
            signed(heads_said(heads, time.time_ns() // 1_000_000), key.checkpoint) + b"\n"
        )
    return Export(manifest.parts, reports, key is not None)


class _Cut:
    """Ends the ledger and `published` before their first record that rests on rounds behind the cut."""

    def __init__(self, log: EventLog, rounds: dict[int, int], accepts: AcceptsResume) -> None:
        self._log, self._rounds, self._accepts = log, rounds, accepts
        self._seqs: dict[int, int] = {}

    def is_past(self, record: Record) -> bool:
        """Whether this record came after the rounds that were taken."""
        if record.topic == LEDGER.name:
            return _read_of_rounds(record) > self._rounds[record.partition]
        return record.topic == PUBLISHED.name and _announced_seq(record) > self._seq(record.partition)

    def _seq(self, partition: int) -> int:
        if partition not in self._seqs:
            report = verified(self._log, TopicPartition(ROUNDS.name, partition), accepts_resume=self._accepts)
            self._seqs[partition] = report.stand(self._rounds[partition]).seq if report.fault is None else 2**63
        return self._seqs[partition]


def _read_of_rounds(record: Record) -> int:
    try:
        found: JournalRecord = decode(record.value or b"", JournalRecord)  # type: ignore[arg-type]
    except MalformedError:
        return -1  # the export shows what is there
    return found.position.offsets.get(ROUNDS.name, 0) if isinstance(found, Batch) else -1


def _announced_seq(record: Record) -> int:
    try:
        return max((head.seq for head in checkpoint(record.value or b"").heads), default=-1)
    except MalformedError:
        return -1
