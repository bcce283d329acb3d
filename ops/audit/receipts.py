"""Finds in a log what proves the outcome of one update. Called by `fedlog receipt`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import ModelPublished, Noticed, Outcome, TaskCreated, UpdateAdmitted
from schemas.identifiers import RoundId, TaskId, UpdateId
from schemas.published import AGGREGATOR, is_vouched_for, parse_checkpoint, version_id
from schemas.receipts.members import prove_membership
from schemas.receipts.receipt import ADMITTED, Exclusion, Inclusion, Receipt
from schemas.topics import ANSWERS, PUBLISHED, ROUNDS, partition_of
from streams.journals import read_decisions
from streams.log import EventLog, TopicPartition, scan


class ReceiptMissing(FedlogError):
    """The log cannot prove what became of an update; the message says why."""

    code = "receipt_missing"


class ReceiptWithheld(FedlogError):
    """A receipt of an admission to a private task says what only its operator may see, and hands to its participant."""

    exit_code = EXIT_USAGE
    code = "receipt_withheld"


def find(log: EventLog, task: TaskId, *, update: UpdateId, trust: Trust, is_operator: bool = True) -> Receipt:
    """The receipt of an update. Raises ReceiptMissing, ReceiptWithheld, JournalBroken."""
    at = TopicPartition(ROUNDS.name, partition_of(task, log.partitions))
    members: dict[RoundId, list[UpdateAdmitted]] = {}
    published: dict[RoundId | None, ModelPublished] = {}
    admitted: UpdateAdmitted | None = None
    is_private = False
    for _, decision, _ in read_decisions(log, at, trust=trust):
        for event in decision.events:
            match event:
                case Noticed(fact=TaskCreated(task=name, policy=policy)) if name == task:
                    is_private = policy.privacy is not None
                case UpdateAdmitted(task=name) if name == task:
                    members.setdefault(event.round, []).append(event)
                    admitted = event if event.update == update else admitted
                case ModelPublished(task=name, round=round_id) if name == task:
                    published[round_id] = event
    if admitted is None:
        return _find_exclusion(log, task, update=update, trust=trust)
    if is_private and not is_operator:
        raise ReceiptWithheld
    # A round that was abandoned, or waits for its charge, has no root that anybody has announced.
    version = published.get(admitted.round)
    if version is None:
        raise ReceiptMissing(f"{update} was admitted to round {admitted.round}, which has given no version (yet).")
    proof = prove_membership(members[admitted.round], update)
    return Inclusion(
        update=update,
        salt=admitted.salt.hex(),
        body_sha256=admitted.body.sha256.hex(),
        weight=admitted.weight,
        clip_scale=admitted.clip_scale,
        zeroed=admitted.zeroed or "",
        index=proof.index,
        path=tuple(node.hex() for node in proof.path),
        announcement=_find_announcement(log, version, trust=trust),
    )


def _find_announcement(log: EventLog, published: ModelPublished, *, trust: Trust) -> str:
    at = TopicPartition(PUBLISHED.name, partition_of(published.task, log.partitions))
    for record in scan(log, at):
        # Others may write to this topic, and what they write is no proof.
        with contextlib.suppress(MalformedError):
            found = parse_checkpoint(record.value or b"")
            if found.id == version_id(published) and is_vouched_for(found, trust, at_ms=record.time_ms):
                return (record.value or b"").decode()
    raise ReceiptMissing(f"{version_id(published)} is not announced; `fedlog verify` says what is missing.")


def _find_exclusion(log: EventLog, task: TaskId, *, update: UpdateId, trust: Trust) -> Exclusion:
    for answer, outcome in _read_outcomes(log, trust):
        if (outcome.task, outcome.update) == (task, update) and outcome.outcome != ADMITTED:
            return Exclusion(answer=answer.hex())
    raise ReceiptMissing(
        f"{task} has admitted no update {update}, and no answer about it is in the log: answers are kept for an hour. "
        "`fedlog query` says what the journals know of it."
    )


def _read_outcomes(log: EventLog, trust: Trust) -> Iterator[tuple[bytes, Outcome]]:
    # A device listens in one partition, but of an update that was only counted nobody knows the device any more.
    for number in range(log.partitions):
        for record in scan(log, TopicPartition(ANSWERS.name, number)):
            data = record.value or b""
            payload = trust.read(data, AGGREGATOR, at_ms=record.time_ms)
            if payload is not None:
                with contextlib.suppress(MalformedError):
                    yield data, decode(payload, Outcome)
