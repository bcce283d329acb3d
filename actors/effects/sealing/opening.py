"""What the body of an update was sealed for, and what is in it: the codec's bytes, in every tier.

It stands between body and codec, so that bodies take one way, whether inline or in chunks, by Kafka or by a gateway.
"""

from __future__ import annotations

from msgspec import UNSET

from actors.effects.sealing.epoch_keys import EpochKeys
from schemas.events import TaskCreated, UpdateAdmitted
from schemas.leases import Lease
from schemas.sealing.envelopes import Binding, Contents, open_body
from schemas.tensors import BodyError

# Either says all of it.
Bound = Lease | UpdateAdmitted


def open_contents(created: TaskCreated, body: bytes, *, bound: Bound, keys: EpochKeys) -> Contents:
    """What is in a body: itself, or in a sealed task what it was sealed around. Raises BodyError, EpochKeyMissing."""
    if not created.policy.is_sealed:
        return Contents(body)
    if bound.epoch is UNSET:
        raise BodyError("not_opened", "it names no epoch")
    return open_body(body, bind(created, bound, epoch=bound.epoch), secret=keys.require(created, bound.epoch))


def bind(created: TaskCreated, bound: Bound, *, epoch: int) -> Binding:
    """What a body under this lease has to be sealed for."""
    return Binding(
        deployment=created.deployment,
        task=created.task,
        policy_sha256=created.policy_sha256,
        epoch=epoch,
        lease=bound.lease if isinstance(bound, Lease) else bound.update,
        device=bound.device,
        version=bound.version,
    )
