"""An update as it stands in `updates`: its lease and signature checked, its body placed, nothing of it decided."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from actors.deciders.aggregator import UpdateChecked
from actors.effects.aggregator.intake import Wanted
from actors.keys import Seals
from schemas.canonical import decode
from schemas.events import BodyFault, TaskCreated, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.signing import is_signed_by, unsigned
from schemas.tensors import body_bytes_max
from schemas.topics import UPDATES, body_place
from streams.log import Record


@dataclass(frozen=True, slots=True)
class Leased:
    """An update whose lease and signature are valid, and its body where that is inline."""

    update: UpdateChecked
    inline: bytes | None


def leased(record: Record, seals: Seals) -> Leased | None:
    """An update with a valid lease and signature, its body not looked at. Raises MalformedError."""
    message = unsigned(record.value or b"")
    submitted = decode(message.payload, UpdateSubmitted)
    lease = seals.open(submitted.sealed)
    if lease is None or not is_signed_by(message, lease.public_key):
        return None
    body = submitted.body
    if submitted.inline is not None:
        body = _inline_ref(record, submitted.inline, codec=body.codec)
    update = UpdateChecked(
        lease=lease,
        body=body,
        samples=submitted.samples,
        append_ms=record.time_ms,
        clip_scale=0,
        fault=None,
    )
    return Leased(update, submitted.inline)


def wanted(created: TaskCreated, submitted: Leased) -> Wanted | BodyFault:
    """The body on which an update of this task hangs, or why it cannot be one."""
    policy, ref = created.policy, submitted.update.body
    if ref.size > body_bytes_max(policy.compression, created.parameters) or ref.codec != policy.compression.codec:
        return "body_malformed"
    if submitted.inline is None:
        topic, partition = body_place(created.task, submitted.update.lease.device, shards=policy.shard_count)
        # Without shards a body elsewhere is absent, as it was before there were any.
        elsewhere = ref.topic != topic or (policy.shard_count > 1 and ref.partition != partition)
        if elsewhere or not ref.is_well_formed():
            return "body_malformed"
    return Wanted(created, ref)


def _inline_ref(record: Record, inline: bytes, *, codec: str) -> BodyRef:
    return BodyRef(
        topic=UPDATES.name,
        partition=record.partition,
        offsets=(record.offset,),
        sha256=hashlib.sha256(inline).digest(),
        size=len(inline),
        codec=codec,
    )
