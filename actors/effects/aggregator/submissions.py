"""An update as it stands in `updates`: its lease and signature checked, its body placed, nothing of it decided."""

from __future__ import annotations

from dataclasses import dataclass

from actors.deciders.aggregator import UpdateChecked
from actors.effects.aggregator.intake import Wanted
from actors.keys import Seals
from schemas.events import BodyFault, TaskCreated
from schemas.tensors import body_bytes_max
from schemas.topics import body_place
from schemas.updates import parse_update
from streams.log import Record


@dataclass(frozen=True, slots=True)
class Leased:
    """An update whose lease and signature are valid, and its body where that is inline."""

    update: UpdateChecked
    inline: bytes | None


def leased(record: Record, seals: Seals) -> Leased | None:
    """An update with a valid lease and signature, its body not looked at. Raises MalformedError."""
    signed = parse_update(record.value or b"")
    submitted = signed.submitted
    lease = seals.open(submitted.sealed)
    if lease is None or not signed.is_signed_by(lease.public_key):
        return None
    update = UpdateChecked(
        lease=lease,
        body=signed.locate_body(record.partition, record.offset),
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
