"""One sealed task for one device; the server's decisions are the test's calls, and the test holds the private key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.effects.sealing.opening import bind
from client_agent.device import Device
from schemas.events import Granted, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease
from schemas.policy import Policy
from schemas.sealing.envelopes import Contents, EpochSecret, open_body
from schemas.sealing.epochs import EpochKey, sign_epoch_key
from schemas.tensors import Floats, from_grid, read_update
from streams.bodies import BodyReader
from tests.worlds.builders import role_key
from tests.worlds.device_world import World, policy

SECRET = EpochSecret(hashlib.sha512(b"epoch").digest() + hashlib.sha256(b"epoch").digest())


def sealed_policy(**changes: object) -> Policy:
    """The policy of a device's world, of the tier."""
    return policy(tier="sealed", **changes)


@dataclass
class SealedWorld(World):
    """Leases name epoch 3, whose key the aggregator has signed, or who `says` so."""

    says: str = "aggregator"

    def lease(self, number: int, holder: Device, **changes: object) -> Lease:
        return super().lease(number, holder, **{"epoch": 3, **changes})

    def grant(self, lease: Lease, model: BodyRef | None = None, **changes: Any) -> Granted:
        """The answer with the key; `changes` are of what is said about it."""
        key = EpochKey(deployment=lease.deployment, task=lease.task, epoch=3, public_key=SECRET.public_key)
        statement = sign_epoch_key(msgspec.structs.replace(key, **changes), role_key(self.says).signer)
        return msgspec.structs.replace(super().grant(lease, model), epoch_key=statement)

    def open(self, update: UpdateSubmitted) -> Contents:
        """What the device has put inside."""
        data = update.inline or BodyReader(self.log, update.body.topic, self.place).fetch(update.body)
        assert isinstance(data, bytes)
        return open_body(data, bind(self.created, read_lease(update.sealed), epoch=3), secret=SECRET)

    def seen(self, update: UpdateSubmitted) -> Floats:
        grid = read_update(self.open(update).body, self.policy, parameters=self.parameters).grid()
        return from_grid(grid, self.policy.clipping)
