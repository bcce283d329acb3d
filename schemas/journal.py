"""The journal's records, and the chain that ties them: batches under claims, each with the digest of the one before.

A record is believed for its signature. A claim comes with the certificate of its writer's key, and what follows it is
signed with that key. Whatever else stands in a journal was written by a stranger, and readers pass over it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import UPCASTERS, MalformedError, decode, encode
from schemas.certificates import Certified, Trust, parse_certified, read_certificate
from schemas.errors import FedlogError
from schemas.events import Event, JournalEvent
from schemas.identifiers import BodyRef, Count, PublicKey, Salt, Sha256, TimeMs
from schemas.signing import Signed, is_signed_by
from schemas.topics import JOURNALS

TAG = re.compile(r"[A-Za-z]+/[0-9]+")  # of an event: its name and its version
GENESIS = bytes(32)  # the head of a journal without records
NO_KEY = bytes(32)  # before the first claim; nothing is signed with it
WRITERS = {topic.name: topic.writer for topic in JOURNALS}


# Structs without references into cycles are kept from the cycle collector (`gc=False`): a state holds very many.
class JournalPosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """How far a journal has been read: the claim in force (its offset, its key), the last seq, and the chain's head."""

    claim: int = -1
    seq: int = -1
    head: Sha256 = GENESIS
    key: PublicKey = NO_KEY


class Position(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a decision rests on: the next offset of every input topic, for a journal also where its chain stands."""

    offsets: dict[str, Count] = {}
    journals: dict[str, JournalPosition] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The events that one input caused, at one log time; `topic` is empty for the host's own input (a release).

    `message` is the input's number in a record that holds many. All decisions on one record stand in one batch: the
    position after it passes the record as a whole.
    """

    topic: str
    offset: Count
    time_ms: TimeMs
    events: tuple[JournalEvent, ...]
    message: Count = 0


class WriterClaimed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="WriterClaimed/1"):
    """A new writer takes the journal over; batches of earlier claims after this record are a zombie's.

    `after` is the offset behind all that stood in the journal, so that a copy of an old claim is known for one. `nonce`
    is 32 random bytes, so that no batch of a zombie fits behind a claim that its writer has never read.
    """

    actor: str
    partition: Annotated[int, msgspec.Meta(ge=0, lt=1024)]
    after: Count
    nonce: Sha256


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="Batch/1"):
    """One journal record: decisions, and the position after them (law 2, 4 and 5). `claim` is its claim's offset."""

    seq: Count
    claim: Count
    prev: Sha256
    # Fresh random bytes in every batch, because its head is published: without them an outsider who can guess what
    # stands in the batch would know from the head whether the guess is right.
    nonce: Salt
    time_ms: TimeMs
    position: Position
    decisions: tuple[Decision, ...]


JournalRecord = WriterClaimed | Batch


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a state stands in canonical bytes, as it was at the StateDigest that closes one journal record.

    `offset` and `record_sha256` are that record's, `code` is a digest of the source that folded, `size` the length of
    the state's bytes before compression. It is no history: an actor that cannot use it replays the journal.
    """

    format: Literal[1] = 1
    code: Sha256
    offset: Count
    record_sha256: Sha256
    size: Count
    body: BodyRef


class ChainBroken(FedlogError):
    """A record does not follow the one before it; `what` says what was expected, the message also where."""

    code = "chain_broken"

    def __init__(self, what: str, *, offset: int | None = None) -> None:
        super().__init__(what if offset is None else f"offset {offset}: {what}")
        self.what = what


class OutOfStep(ChainBroken):
    """A batch that reads well is not the next one: it, or what stands before it, is not what was written."""

    code = "chain_out_of_step"


@dataclass(slots=True)
class Chain:
    """Follows one journal partition; gives each valid batch, passes over zombies and strangers, stops at all else.

    `trust` None takes a claim for what it says: for a person who has not got the operator's public key.
    """

    topic: str
    partition: int
    trust: Trust | None = None
    at: JournalPosition = field(default_factory=JournalPosition)
    zombies: int = 0  # batches of superseded writers
    strangers: int = 0  # records that no writer of this journal signed, and copies of such as it did

    def follow(self, offset: int, data: bytes, *, time_ms: TimeMs = 0) -> Batch | None:
        """Take the record at `offset`, appended at `time_ms`.

        Raises ChainBroken, and then the chain stands where it stood.
        """
        try:
            message = parse_certified(data)
        except MalformedError:
            self._pass_over(offset)
            return None
        try:
            record: JournalRecord = decode(message.payload, JournalRecord)  # type: ignore[arg-type]
        except MalformedError as error:
            if not self._is_signed(message, self._find_certified_key(message, time_ms=time_ms) or self.at.key):
                self._pass_over(offset)
                return None
            if unknown := _list_unknown_tags(message.payload):
                raise ChainBroken(f"{unknown}: this release is too old to read that", offset=offset) from error
            raise ChainBroken(f"not a journal record ({error})", offset=offset) from error
        match record:
            case WriterClaimed() if (key := self._find_claimed_key(message, record, time_ms=time_ms)) is not None:
                # A claim moves the head and not the seq: it ties itself to what stands before, and decides nothing.
                self.at = self._move(claim=offset, head=_digest(self.at.head, data), key=key)
            case Batch() if not message.certificate and self._is_signed(message, self.at.key):
                return self._batch(offset, record, data=data)
            case _:
                self._pass_over(offset)
        return None

    def append(self, batch: Batch, data: bytes) -> None:
        """The same step for the writer itself, which need not read back what it has just committed."""
        self.at = self._move(seq=batch.seq, head=hashlib.sha256(data).digest())

    def _pass_over(self, offset: int) -> None:
        # Whoever opens a journal claims it first. Before that there is no key to judge by, and nothing to lose either.
        if self.at.claim < 0:
            raise ChainBroken("stands before the first claim of a writer that the operator certified", offset=offset)
        self.strangers += 1

    def _find_claimed_key(self, message: Certified, claim: WriterClaimed, *, time_ms: TimeMs) -> bytes | None:
        """The key under which the writer that claims the journal will sign; None where it may not, or did before."""
        if claim.partition != self.partition or claim.after <= self.at.claim:
            return None
        key = self._find_certified_key(message, time_ms=time_ms)
        return key if key is not None and self._is_signed(message, key) else None

    def _find_certified_key(self, message: Certified, *, time_ms: TimeMs) -> bytes | None:
        """The key that comes with a certificate for this journal's writer, held when the record was appended."""
        if self.trust is not None:
            return self.trust.find_key(message.certificate, WRITERS.get(self.topic, ""), at_ms=time_ms)
        try:
            return read_certificate(message.certificate).public_key
        except MalformedError:
            return None

    def _is_signed(self, message: Certified, key: bytes) -> bool:
        # It is a point of small order, under which anybody finds a signature in about four tries.
        if key == NO_KEY:
            return False
        signed = _bind(message.payload, topic=self.topic, partition=self.partition)
        return is_signed_by(Signed(signed, message.signature), key)

    def _batch(self, offset: int, batch: Batch, *, data: bytes) -> Batch | None:
        # The log fences writers only from their next commit on, so one record of an older claim can still come late.
        if batch.claim < self.at.claim:
            self.zombies += 1
            return None
        # Its writer never writes a number twice: somebody has copied it.
        if batch.claim == self.at.claim and batch.seq <= self.at.seq:
            self._pass_over(offset)
            return None
        # One message names one difference; the claim comes first, because a wrong one explains the others.
        expected = {"claim": self.at.claim, "seq": self.at.seq + 1, "prev": self.at.head}
        for name, value in expected.items():
            if (found := getattr(batch, name)) != value:
                what = f"{name} is {_format(found)}, the chain expects {_format(value)}"
                raise OutOfStep(what, offset=offset)
        self.at = self._move(seq=batch.seq, head=hashlib.sha256(data).digest())
        return batch

    def _move(self, **changes: Any) -> JournalPosition:
        return msgspec.structs.replace(self.at, **changes)


def sign_record(
    record: bytes, *, topic: str, partition: int, key: Ed25519PrivateKey, certificate: bytes = b""
) -> bytes:
    """What is written into a journal partition: a record's bytes, signed for this place; a claim has a certificate."""
    return encode(Certified(record, key.sign(_bind(record, topic=topic, partition=partition)), certificate))


def open_record(data: bytes) -> JournalRecord:
    """What stands in a journal, whoever wrote it. Raises MalformedError."""
    return decode(parse_certified(data).payload, JournalRecord)  # type: ignore[arg-type]


def _bind(record: bytes, *, topic: str, partition: int) -> bytes:
    """What a signature covers: a role has one key for all partitions, and a copy in another of them is nothing."""
    return f"{topic}/{partition}/".encode() + record


def _list_unknown_tags(data: bytes) -> str:
    """The tags in a record that this release does not know, because a newer one wrote them."""
    with contextlib.suppress(ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        return ", ".join(sorted(set(_iterate_tags(msgspec.msgpack.decode(data))) - _KNOWN - UPCASTERS.keys()))
    return ""


def _iterate_tags(plain: Any) -> Iterator[str]:
    match plain:
        case {"type": str(tag), **rest}:
            # A field named `type` with another form belongs to a value, not to an event.
            if TAG.fullmatch(tag):
                yield tag
            yield from _iterate_tags(rest)
        case dict() | list():
            for value in plain.values() if isinstance(plain, dict) else plain:
                yield from _iterate_tags(value)


def _digest(*parts: bytes) -> bytes:
    """A digest over the digests of the parts, so that no two splits of the same bytes agree."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _format(value: Any) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)


_TAGGED: tuple[type[msgspec.Struct], ...] = (*Event.__subclasses__(), Batch, WriterClaimed)
_KNOWN = {str(kind.__struct_config__.tag) for kind in _TAGGED}
