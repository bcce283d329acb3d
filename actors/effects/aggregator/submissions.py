"""An update as it stands in `updates`: lease and signature checked, its body located, nothing of it decided.

Aggregator and shard worker read `updates` through this module.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from msgspec import UNSET

from schemas.certificates import Trust
from schemas.events import BodyFault, TaskCreated
from schemas.identifiers import BodyRef
from schemas.leases import Lease, open_lease
from schemas.masking.seeds import SEALED_SEED_BYTES
from schemas.policy import name_stored_codec
from schemas.policy.metrics import Fidelity
from schemas.sealing.envelopes import compute_stored_bytes_max
from schemas.topics import body_place
from schemas.updates import parse_update
from streams.log import Record


@dataclass(frozen=True, slots=True)
class Submission:
    """An update whose lease and signature are valid; `inline` is its body where that came in the record itself."""

    lease: Lease
    record_sha256: bytes
    body: BodyRef
    inline: bytes | None
    samples: int
    metrics: tuple[int, ...]
    fidelity: Fidelity | None
    append_ms: int
    submitted_at: tuple[int, int] = (0, 0)  # offset, and number in the record
    seals: tuple[bytes, ...] = ()  # of a masked update


def verify_update(record: Record, trust: Trust) -> Submission | None:
    """The update in a record; None without a valid lease and signature. Raises MalformedError."""
    signed = parse_update(record.value or b"")
    submitted = signed.submitted
    lease = open_lease(submitted.sealed, trust, at_ms=record.time_ms)
    # The key is the one in the sealed lease, never one that the update brings: a stolen lease is of no use.
    if lease is None or not signed.is_signed_by(lease.public_key):
        return None
    body = signed.locate_body(record.partition, record.offset, message=record.message)
    digest = hashlib.sha256(record.value or b"").digest()
    return Submission(
        lease,
        digest,
        body,
        submitted.inline,
        submitted.samples,
        submitted.metrics,
        submitted.fidelity,
        append_ms=record.time_ms,
        submitted_at=(record.offset, record.message),
        seals=() if submitted.seals is UNSET else submitted.seals,
    )


def locate_body(created: TaskCreated, submission: Submission) -> BodyRef | BodyFault:
    """The address of the body of an update of this task, or why it cannot be one; its bytes are not looked at."""
    policy, ref = created.policy, submission.body
    # Before any byte is fetched: a size that a device announces must not be able to fill our memory.
    if ref.size > compute_stored_bytes_max(policy, created.parameters) or ref.codec != name_stored_codec(policy):
        return "body_malformed"
    expected = len(policy.masked_by.helpers) if policy.is_masked else 0
    if [len(seal) for seal in submission.seals] != [SEALED_SEED_BYTES] * expected:
        return "body_malformed"
    if submission.inline is None:
        topic, partition = body_place(
            created.task, submission.lease.device, shards=policy.shard_count, partitions=created.partitions
        )
        # Without shards a wrong partition is not looked at here: the body is then reported as absent.
        is_elsewhere = ref.topic != topic or (policy.shard_count > 1 and ref.partition != partition)
        # Only a record of `updates` holds messages, and what it brings itself was located by us.
        if is_elsewhere or ref.message or not ref.is_well_formed():
            return "body_malformed"
    return ref
