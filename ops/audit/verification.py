"""What can be checked of journals without a body: each one's chain, what they say of one another, and signed heads.

A chain shows whatever was changed, dropped, moved or inserted; but nothing follows its last record. So each batch also
says where the chains of the journals stood that its actor had read, and every version is announced with the head of its
journal, signed. Where none of these reaches, beyond the last checkpoint, nothing can tell that a tail was cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from msgspec import UNSET

from actors.wiring import ROLES
from ops.audit.chains import ChainReport, verify_chain
from ops.audit.findings import Finding
from schemas import creations
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.events import HelperEvent, ModelCosigned
from schemas.journal import Position
from schemas.masking.statements import FIRST, read_word
from schemas.published import Checkpoint, Head, find_deployment, is_vouched_for, parse_checkpoint
from schemas.topics import MASKS, PUBLISHED, ROUNDS, TASKS
from streams.log import EventLog, LogRefused, TopicPartition, scan
from streams.read_ahead import ReadAhead

Spoken = tuple[bytes, bytes, str]  # a helper's key, a deployment and a task: the words of each are a chain


def make_trust(log: EventLog, operator: bytes | None) -> Trust | None:
    """Whom a reader of this log believes: those whom the operator certified for its deployment."""
    if operator is None:
        return None
    try:
        records = scan(log, TopicPartition(TASKS.name, 0))
        return Trust(operator, creations.find_deployment(records, operator))
    # An export may lack the partition that names the deployment.
    except LogRefused:
        return Trust(operator)


class Verification:
    """Checks one partition: its journals, what they say of one another, its announcements, and other checkpoints.

    `operator` is the operator's public key; without it a signature is only checked against the key that it names.
    `helpers` are those of masked tasks whose word counts: each says, for every round, which journal it was shown.
    """

    def __init__(
        self, log: EventLog, partition: int, *, operator: bytes | None, helpers: Collection[bytes] = ()
    ) -> None:
        self.partition = partition
        self.checkpoints = 0
        self.words: Counter[bytes] = Counter()  # of each helper, those that say what it saw
        self._helpers = helpers
        self._log, self._trust = log, make_trust(log, operator)
        places = [TopicPartition(role.journal, partition) for role in ROLES.values()]
        self.reports = {place.topic: verify_chain(log, place, trust=self._trust) for place in places}

    def check(self, checkpoints: Iterable[Checkpoint] = ()) -> Iterator[Finding]:
        """Everything that is wrong, broken chains first."""
        for report in self.reports.values():
            if report.fault is not None:
                yield Finding(report.place, report.offset, report.fault)
        for report in self.reports.values():
            yield from self._check_links(report)
        # A broken chain explains most of what is wrong with announcements, so it is reported first.
        yield from self._check_announcements()
        yield from self._check_words()
        for given in checkpoints:
            if fault := self._find_stranger(given):
                heads = {TopicPartition(head.topic, head.partition) for head in given.heads}
                for at in sorted(at for at in heads if at.partition == self.partition):
                    yield Finding(at, None, f"checkpoint {given.id}: {fault}")
                continue
            for head in given.heads:
                if head.partition == self.partition and (fault := self._compare_head(head)):
                    fault = f"checkpoint {given.id}: {fault}{self._find_doubt(given)}"
                    yield Finding(TopicPartition(head.topic, head.partition), None, fault)

    def _find_stranger(self, given: Checkpoint) -> str | None:
        """Why its heads are not those of these journals, whoever signed it; None where they may be."""
        here = None if self._trust is None else self._trust.deployment
        there = None if self._trust is None else find_deployment(given, self._trust)
        if here is None or there is None or here == there:
            return None
        return (
            f"speaks of the journals of deployment {there.hex()[:16]}, and says nothing of these, of {here.hex()[:16]}"
        )

    def _find_doubt(self, given: Checkpoint) -> str:
        """What else than a changed journal may be behind a difference from a checkpoint; empty where nothing may."""
        # A copy that was saved without its certificate names no deployment, and its heads may be of other journals.
        if self._trust is None or find_deployment(given, self._trust) is not None:
            return ""
        # The key of a role is another in each deployment, so whoever has claimed a journal here speaks of these.
        if any(at.key == given.signed_by for report in self.reports.values() for _, at in report.positions):
            return ""
        return (
            f"; or the checkpoint is of another deployment: it names none, and {given.signed_by.hex()[:16]}, "
            "which signed it, has claimed no journal here"
        )

    def compare_signer(self, given: Checkpoint, *, at_ms: int = 0) -> str | None:
        """What is wrong with who signed a checkpoint, appended at `at_ms`; None for nothing."""
        if self._trust is None:
            return None
        if given.signed_by == self._trust.operator:
            # Its signature is under the heads of exports, of any of its deployments.
            return f"{given.id} is signed by the operator, who announces no version: it was copied here from an export"
        if fault := self._find_stranger(given):
            return f"{given.id} {fault}"
        if is_vouched_for(given, self._trust, at_ms=at_ms):
            return None
        return f"{given.id} is signed by {given.signed_by.hex()[:16]}, for which the operator does not vouch"

    def _check_links(self, report: ChainReport) -> Iterator[Finding]:
        """What an actor has read of another journal must be what stands there; the first difference of each."""
        topics = {topic for _, position in report.reported_inputs for topic in position.journals}
        for topic in sorted(topics):
            for offset, position in report.reported_inputs:
                if topic in position.journals and (fault := self._compare_link(topic, position)):
                    # Every later batch rests on the same record and would say the same again.
                    yield Finding(report.place, offset, fault)
                    break

    def _compare_link(self, topic: str, position: Position) -> str | None:
        other, until, at = self.reports.get(topic), position.offsets.get(topic, 0), position.journals[topic]
        if other is None:
            return f"has read {topic}, which is no journal"
        last, found = other.find_last(until)
        if self._is_unread(other, until) or found == at:
            return None
        return (
            f"has read {topic} below offset {until} up to seq {at.seq}, head {at.head.hex()[:16]}; "
            f"with the record at offset {last} there it is at seq {found.seq}, head {found.head.hex()[:16]}"
        )

    def _is_unread(self, report: ChainReport, until: int) -> bool:
        """Whether nothing can be said up to this offset: behind a fault, or written since the journal was read."""
        if report.fault is not None and until > (report.offset or 0):
            return True
        return until > report.end and self._log.bounds(report.place).end > report.end

    def _check_announcements(self) -> Iterator[Finding]:
        at = TopicPartition(PUBLISHED.name, self.partition)
        for record in ReadAhead(scan(self._log, at)):
            try:
                given = parse_checkpoint(record.value or b"")
            except MalformedError as error:
                yield Finding(at, record.offset, str(error))
                continue
            # Consumers may go by the key, so a wrong one hides a version from them.
            if record.key != given.task.encode():
                yield Finding(at, record.offset, f"{given.id} stands under another key")
            if fault := self.compare_signer(given, at_ms=record.time_ms):
                yield Finding(at, record.offset, fault)
                continue  # what a stranger says of heads is nothing to compare, and may be thousands of lines
            for head in given.heads:
                if fault := self._compare_head(head):
                    yield Finding(at, record.offset, f"{given.id}: {fault}")

    def _check_words(self) -> Iterator[Finding]:
        """What helpers have signed of the journal that they were shown, and that none of their words is gone."""
        at, known, here = TopicPartition(MASKS.name, self.partition), dict[Spoken, set[bytes]](), self._trust
        for record in scan(self._log, at) if self._helpers else ():
            if (read := read_word(record.value or b"", self._helpers)) is None:
                continue
            helper, said, digest = read
            if here is not None and here.deployment not in (None, said.deployment):
                continue
            before = known.setdefault((helper, said.deployment, said.event.task), {FIRST})
            # A helper that was not sure whether it was heard says the same again.
            if digest in before:
                continue
            if said.prev not in before:
                yield Finding(at, record.offset, f"helper {helper.hex()[:16]} had said more before this: it is gone")
            before.add(digest)
            # With each round that it answers for, and each model that it co-signs.
            if (seen := getattr(said.event, "seen", UNSET)) is not UNSET:
                self.words[helper] += 1
                head = Head(topic=ROUNDS.name, partition=self.partition, seq=seen.seq, head=seen.head.hex())
                if fault := self._compare_head(head):
                    where = f"{_name_subject(said.event)} of {said.event.task}"
                    yield Finding(at, record.offset, f"{where}: what helper {helper.hex()[:16]} was shown: {fault}")

    def _compare_head(self, head: Head) -> str | None:
        report = self.reports.get(head.topic)
        if report is None or head.partition != self.partition:
            return f"speaks of {TopicPartition(head.topic, head.partition)}, which is no journal here"
        self.checkpoints += 1
        heads = report.find_heads(head.seq)
        if head.head in heads or head.seq < 0:
            return None
        if heads:
            return f"{head.topic} had the head {head.head[:16]} at seq {head.seq}, and has {heads[0][:16]}: rewritten"
        # Behind a fault, or in what was written since, the head may well be the chain's.
        if report.fault is not None or self._log.bounds(report.place).end > report.end:
            return None
        return f"{head.topic} reached seq {head.seq}, and ends at seq {report.seq}: its tail is cut off"


def _name_subject(said: HelperEvent) -> str:
    """What a helper's word with a checkpoint is about."""
    return f"version {said.version}" if isinstance(said, ModelCosigned) else f"round {getattr(said, 'round', '?')}"
