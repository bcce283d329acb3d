"""One masked task for one device; the server's decisions are the test's calls, and the test has the helpers' keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from client_agent.device import Device
from client_agent.setting import DeviceSetting
from schemas.events import Granted, JournalSeen, MaskKeyOpened, ModelCosigned, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease
from schemas.masking.ring import expand_mask, read_words, unmask
from schemas.masking.seeds import open_seed, write_header
from schemas.masking.statements import HelperSaid, join_statements, sign_said
from schemas.policy import Policy
from schemas.sealing.envelopes import EpochSecret
from schemas.tensors import Floats, Grid, from_grid
from streams.bodies import BodyReader
from tests.worlds.device_world import World, policy

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2)]
PUBLIC = [key.public_key().public_bytes_raw() for key in KEYS]
SECRETS = [
    EpochSecret(hashlib.sha512(b"epoch %d" % number).digest() + hashlib.sha256(b"epoch %d" % number).digest())
    for number in (1, 2)
]


def masked_policy(**changes: object) -> Policy:
    """The policy of a device's world, of the tier."""
    table = {"helpers": [key.hex() for key in PUBLIC]}
    made = policy(**changes)
    plain = msgspec.to_builtins(made)
    return msgspec.convert({**plain, "tier": "masked", "masked": table, "compression": {"codec": "float32"}}, Policy)


@dataclass
class MaskedWorld(World):
    """Leases name epoch 3, for which both helpers have signed their keys; devices know the `pinned` ones."""

    pinned: frozenset[bytes] = frozenset()
    cosigned: Callable[[Lease], tuple[bytes, ...]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cosigned = lambda lease: (self.cosign(0, lease), self.cosign(1, lease))

    def setting(self, folder: Path, **options: Any) -> DeviceSetting:
        return replace(super().setting(folder, **options), helpers=self.pinned)

    def lease(self, number: int, holder: Device, **changes: object) -> Lease:
        return super().lease(number, holder, **{"epoch": 3, **changes})

    def say(self, number: int, **changes: Any) -> bytes:
        """What one helper says of its key; `changes` are of that."""
        said = {"task": self.created.task, "helper": number, "epoch": 3, "public_key": SECRETS[number].public_key}
        event = MaskKeyOpened(**{**said, **changes})
        whole = HelperSaid(deployment=self.created.deployment, seq=0, prev=bytes(32), event=event)
        return sign_said(whole, KEYS[number])

    def grant(self, lease: Lease, model: BodyRef | None = None, statements: tuple[bytes, ...] | None = None) -> Granted:
        """The answer with the helpers' keys."""
        joined = join_statements((self.say(0), self.say(1)) if statements is None else statements)
        cosigned = UNSET if self.cosigned is None else join_statements(self.cosigned(lease))
        return msgspec.structs.replace(super().grant(lease, model), epoch_key=joined, cosigned=cosigned)

    def cosign(self, number: int, lease: Lease, *, key: int | None = None, **changes: Any) -> bytes:
        """What one helper says of the model of a lease; `changes` are of that, and `key` is another's."""
        said = {"task": lease.task, "helper": number, "version": lease.version, "model_sha256": lease.model_sha256}
        seen = JournalSeen(seq=7, head=bytes(32))
        event = ModelCosigned(**{**said, "seen": seen, **changes})
        whole = HelperSaid(deployment=self.created.deployment, seq=1, prev=bytes(32), event=event)
        return sign_said(whole, KEYS[number if key is None else key])

    def unmask(self, update: UpdateSubmitted) -> Grid:
        """The vector that the device has masked, as both helpers together could tell."""
        data = update.inline or BodyReader(self.log, update.body.topic, self.place).fetch(update.body)
        assert isinstance(data, bytes)
        assert isinstance(update.seals, tuple)
        header, digest = write_header(read_lease(update.sealed)), hashlib.sha256(data).digest()
        seeds = [
            open_seed(seal, helper, header=header, body_sha256=digest, secret=SECRETS[helper])
            for helper, seal in enumerate(update.seals)
        ]
        masks = [expand_mask(seed, j, header=header, count=self.parameters) for j, seed in enumerate(seeds)]
        return unmask(read_words(data, parameters=self.parameters), masks)

    def seen(self, update: UpdateSubmitted) -> Floats:
        return from_grid(self.unmask(update), self.policy.clipping)
