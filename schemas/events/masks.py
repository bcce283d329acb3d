"""Helpers of masked tasks: topic `masks`. Each signs and chains what it says (`schemas.masking.statements`)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.identifiers import BodyRef, Count, DeviceId, RoundId, Sha256, TaskId, UpdateId, Version

# ML-KEM-768's encapsulation key, then X25519's public key.
MASK_KEY_BYTES = 1184 + 32
HELPERS_MAX = 2
HelperNumber = Annotated[int, msgspec.Meta(ge=0, lt=HELPERS_MAX)]
# fmt: off
MaskRefusal = Literal[
    # repeated: a member twice; root: these are not the members; signature: of device or lease, or their update is gone
    "repeated", "root", "signature", "weights", "effective_size", "model", "bound", "seal", "epoch_over",
    # participations: beyond the cap of one device; store_behind: this helper has lost what it had said
    # mechanism: another noise than the policy's
    "mechanism", "participations", "round_over", "store_behind", "defect",
    # not_enrolled: by no registrar that this helper's owner has pinned
    "not_enrolled",
]
# fmt: on


class MaskKeyOpened(Event):
    """Devices may seal seeds to this key of the helper, under leases that name this epoch."""

    task: TaskId
    helper: HelperNumber
    epoch: Count
    public_key: Annotated[bytes, msgspec.Meta(min_length=MASK_KEY_BYTES, max_length=MASK_KEY_BYTES)]


class MaskKeyDestroyed(Event):
    """No seed under this epoch opens any more. `over`: the aggregator needs it no longer; `lost`: it was not there."""

    task: TaskId
    helper: HelperNumber
    epoch: Count
    reason: Literal["over", "lost"]


class JournalSeen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Where the chain of `rounds` stood when a helper had read it: the seq of its last batch, and its head."""

    seq: Count
    head: Sha256


class RoundBound(Event):
    """The helper will answer for this proposal, and for none else that has one of its updates, ever.

    `proposal`: the sha256 of the canonical RoundProposed, mechanism included. `units`: as whom each update's device
    counts, in the order of `updates`. `seen` is the journal that the helper was shown: every version's model is in it.
    """

    task: TaskId
    helper: HelperNumber
    round: RoundId
    proposal: Sha256
    updates: tuple[UpdateId, ...]
    units: tuple[DeviceId, ...]
    seen: JournalSeen | UnsetType = UNSET


class MasksSummed(Event):
    """The weighted sum of the members' masks modulo 2^32: what comes off the sum of this proposal."""

    task: TaskId
    helper: HelperNumber
    round: RoundId
    proposal: Sha256
    body: BodyRef


class MasksRefused(Event):
    """The helper does not answer for this proposal, for this reason; `updates`: those to blame, as far as it knows."""

    task: TaskId
    helper: HelperNumber
    round: RoundId
    proposal: Sha256
    reason: MaskRefusal
    updates: tuple[UpdateId, ...] = ()


class ModelCosigned(Event):
    """Of this version the helper has been shown this model, and will co-sign no other for it, ever.

    `seen`: the checkpoint behind it, up to where it had read the journal in which the version stands.
    """

    task: TaskId
    helper: HelperNumber
    version: Version
    model_sha256: Sha256
    seen: JournalSeen


class ModelRefused(Event):
    """The helper does not co-sign this model, so that no device trains on it.

    `another`: it has co-signed another one for the version; `first`: version 0 is not the one that the operator signed.
    """

    task: TaskId
    helper: HelperNumber
    version: Version
    model_sha256: Sha256
    reason: Literal["another", "first", "store_behind"]


HelperEvent = MaskKeyOpened | MaskKeyDestroyed | RoundBound | MasksSummed | MasksRefused | ModelCosigned | ModelRefused
