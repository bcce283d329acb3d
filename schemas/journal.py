"""The journal's records, and the chain that ties them: batches under claims, each with the digest of the one before."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from schemas.canonical import UPCASTERS, MalformedError, decode, encode
from schemas.errors import FedlogError
from schemas.events import Event, JournalEvent
from schemas.identifiers import BodyRef, Count, Salt, Sha256, TimeMs

TAG = re.compile(r"[A-Za-z]+/[0-9]+")  # of an event: its name and its version
GENESIS = bytes(32)  # the head of a journal without records


# Structs without references into cycles are kept from the cycle collector (`gc=False`): a state holds very many.
class JournalPosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """How far a journal has been read: the claim in force (its offset), the last seq, and the chain's head."""

    claim: int = -1
    seq: int = -1
    head: Sha256 = GENESIS


class Position(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a decision rests on: the next offset of every input topic, for a journal also where its chain stands."""

    offsets: dict[str, Count] = {}
    journals: dict[str, JournalPosition] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The events that one input caused, at one log time; `topic` is empty for the host's own input (a release)."""

    topic: str
    offset: Count
    time_ms: TimeMs
    events: tuple[JournalEvent, ...]


class WriterClaimed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="WriterClaimed/1"):
    """A new writer takes the journal over; batches of earlier claims after this record are a zombie's.

    `nonce` is 32 random bytes, so that no batch of a zombie fits behind a claim that its writer has never read.
    """

    actor: str
    partition: int
    nonce: Sha256


class ChainResumed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ChainResumed/1"):
    """The operator accepts the journal as it stands and lets readers go on, and signs that (Ed25519).

    `seq` and `head` are where the chain goes on from; `reason` is for people.
    """

    partition: int
    seq: int
    head: Sha256
    reason: str
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


def resume_payload(resumed: ChainResumed) -> bytes:
    """What the signature of a ChainResumed covers: all of it but the signature."""
    return encode(msgspec.structs.replace(resumed, signature=bytes(64)))


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


JournalRecord = WriterClaimed | ChainResumed | Batch


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
    """Follows one journal partition; gives each valid batch, skips and counts a zombie's, stops at anything else."""

    at: JournalPosition = field(default_factory=JournalPosition)
    zombies: int = 0
    accepts_resume: Callable[[ChainResumed], bool] = lambda _: False

    def follow(self, offset: int, data: bytes) -> Batch | None:
        """Take the record at `offset`. Raises ChainBroken, and then the chain stands where it stood."""
        try:
            record: JournalRecord = decode(data, JournalRecord)  # type: ignore[arg-type]
        except MalformedError as error:
            if unknown := _list_unknown_tags(data):
                raise ChainBroken(f"{unknown}: this release is too old to read that", offset=offset) from error
            raise ChainBroken(f"not a journal record ({error})", offset=offset) from error
        match record:
            case WriterClaimed():
                # A claim moves the head and not the seq: it ties itself to what stands before, and decides nothing.
                self.at = self._move(claim=offset, head=_digest(self.at.head, data))
            case ChainResumed():
                if not self.accepts_resume(record):
                    raise ChainBroken("a ChainResumed that the operator did not sign", offset=offset)
                # The claim stays: an operator repairs the chain and does not take the journal over.
                self.at = JournalPosition(claim=self.at.claim, seq=record.seq, head=record.head)
            case Batch():
                return self._batch(offset, record, data=data)
        return None

    def append(self, batch: Batch, data: bytes) -> None:
        """The same step for the writer itself, which need not read back what it has just committed."""
        self.at = self._move(seq=batch.seq, head=hashlib.sha256(data).digest())

    def _batch(self, offset: int, batch: Batch, *, data: bytes) -> Batch | None:
        # The log fences writers only from their next commit on, so one record of an older claim can still come late.
        if batch.claim < self.at.claim:
            self.zombies += 1
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


_TAGGED: tuple[type[msgspec.Struct], ...] = (*Event.__subclasses__(), Batch, WriterClaimed, ChainResumed)
_KNOWN = {str(kind.__struct_config__.tag) for kind in _TAGGED}
