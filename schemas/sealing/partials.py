"""The sum that a shard worker has made of some members of a sealed round, for the aggregator alone.

One of a single member is its update, so that it is sealed as updates are, and to the newest of their epochs: it opens
as long as one of them does.
"""

from __future__ import annotations

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.identifiers import Count, Deployment, RoundId, Sha256, TaskId
from schemas.policy.metrics import MetricSums
from schemas.sealing.envelopes import EpochSecret, seal
from schemas.tensors import BodyError

_LENGTH_BYTES = 2


class PartialBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="SealedPartial/1"):
    """What a partial sum was sealed for; `members_root` names whom it is of."""

    deployment: Deployment
    task: TaskId
    epoch: Count
    round: RoundId
    members_root: Sha256


def seal_partial(total: bytes, metrics: MetricSums | None, *, binding: PartialBinding, secret: EpochSecret) -> bytes:
    """The envelope around a sum and that of what its members report."""
    head = encode(metrics)
    # Not padded: how long a sum is follows from the task.
    plaintext = b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, total))
    return seal(plaintext, secret.public_key, info=encode(binding))


def open_partial(envelope: bytes, binding: PartialBinding, *, secret: EpochSecret) -> tuple[bytes, MetricSums | None]:
    """Both again. Raises BodyError."""
    plaintext = secret.open(envelope, encode(binding))
    start = _LENGTH_BYTES + int.from_bytes(plaintext[:_LENGTH_BYTES], "little")
    try:
        metrics = decode(plaintext[_LENGTH_BYTES:start], MetricSums | None)  # type: ignore[arg-type]
    except MalformedError as error:
        raise BodyError("body_malformed", f"a sealed sum holds something else: {error}") from error
    return plaintext[start:], metrics
