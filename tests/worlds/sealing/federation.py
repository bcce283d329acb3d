"""A federation whose task is sealed, with devices that seal as a real one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from actors.effects.sealing.epoch_keys import EpochKeys
from client_agent.answers import find_epoch_key
from client_agent.compression import Compressed
from client_agent.local_update import LocalUpdate, seal_update
from schemas.events import Granted, TaskCreated
from schemas.leases import read_lease
from schemas.policy import Policy
from schemas.tensors import encode_update
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


def sealed_policy(**changes: Any) -> Policy:
    """A small policy of the tier."""
    return policy(**{"tier": "sealed", **changes})


def seal_as(granted: Granted, created: TaskCreated, body: bytes, *, metrics: tuple[int, ...] = ()) -> bytes:
    """What a device under this lease sends in the place of a body."""
    lease = read_lease(granted.sealed)
    made = LocalUpdate(Compressed(body, None), metrics)
    sealed = seal_update(created, lease, made=made, key=find_epoch_key(granted, lease))
    assert sealed is not None
    return sealed


class SealedFederation(Federation):
    """With a folder of epoch keys, which every aggregator of it shares."""

    epoch_keys: Path

    def __init__(self, rules: Policy, folder: Path, **options: Any) -> None:
        super().__init__(rules, epoch_keys=folder, **options)

    def list_held(self) -> list[int]:
        """The epochs whose key lies in the folder."""
        keys = EpochKeys(self.epoch_keys)
        return [number for number in range(100) if keys.find(self.created, number) is not None]

    def submit(self, name: str, delta: object, *, metrics: tuple[int, ...] = (), inline: bool = True) -> int:
        """A device submits under its newest lease; return the offset."""
        device = self.device(name)
        body = encode_update(np.asarray(delta, np.float32), self.rules)
        sent = seal_as(device.granted(), self.created, body, metrics=metrics)
        return device.submit_body(sent, codec=self.rules.compression.codec, inline=inline)
