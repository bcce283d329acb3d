"""A federation whose task is masked: real helpers in folders of their own, and devices that mask as a real one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from actors.hosts.helper.service import HelperService
from actors.hosts.helper.store import HelperStore, create_store, read_public_key
from client_agent.local_update import Protected, mask_update
from schemas.canonical import decode
from schemas.creations import sign_task_event
from schemas.events import DeploymentFounded, Granted, HelperEvent, TaskCreated
from schemas.identifiers import BodyRef
from schemas.leases import read_lease
from schemas.masking.ring import RING
from schemas.masking.statements import HelperSaid
from schemas.policy import Policy
from schemas.signing import parse_signed
from schemas.tensors import encode_update, read_update
from schemas.topics import MASKS, TASKS
from streams.bodies import Upload, store_all
from streams.log import Draft, TopicPartition, scan
from tests.worlds.builders import DEPLOYMENT, KEY, policy
from tests.worlds.federation import Federation, ScriptedDevice

HELPERS = 2


def masked_policy(
    folder: Path, *, helpers: int = HELPERS, masked: Mapping[str, Any] | None = None, **changes: Any
) -> Policy:
    """A small policy of the tier, whose helpers have their folders in this one."""
    places = [folder / str(number) for number in range(helpers)]
    names = [(read_public_key(place) if place.exists() else create_store(place)).hex() for place in places]
    table = {"helpers": tuple(names), **(masked or {})}
    return policy(**{"tier": "masked", "masked": table, "compression": {"codec": "float32"}, **changes})


def mask_as(granted: Granted, created: TaskCreated, body: bytes) -> Protected:
    """What a device under this lease sends in the place of a body."""
    quanta = read_update(body, created.policy, parameters=created.parameters)
    return mask_update(created, read_lease(granted.sealed), quanta=quanta, granted=granted)


class MaskedFederation(Federation):
    """With helpers, which `settle` lets speak too; `registrars` are those that they have pinned."""

    registrars: tuple[bytes, ...] = ()

    def __init__(self, rules: Policy, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.helpers: dict[int, HelperService] = {}
        self.stores: dict[int, HelperStore] = {}
        super().__init__(rules, **options)
        founded = sign_task_event(DeploymentFounded(deployment=DEPLOYMENT), KEY.signing)
        self.log.append([Draft(topic=TASKS.name, partition=0, value=founded)])
        for number in range(len(rules.masked_by.helpers)):
            self.start_helper(number)
        self.settle()

    def start_helper(self, number: int, note_step: Callable[[str], None] = lambda step: None) -> HelperService:
        """Begin a helper, as a new process would after the one before died."""
        self.stop_helper(number)
        self.stores[number] = store = HelperStore(self.folder / str(number))
        service = HelperService(
            self.log, store, operator=KEY.public_key, registrars=self.registrars, note_step=note_step
        )
        self.helpers[number] = service
        return service

    def stop_helper(self, number: int) -> None:
        """End a helper, wherever it is."""
        if number in self.helpers:
            self.helpers.pop(number).close()
            self.stores.pop(number).close()

    def settle(self) -> None:
        """Feed every actor and every helper until nobody has anything left to read."""
        while True:
            super().settle()
            if not sum(helper.step(0.0) for helper in self.helpers.values()):
                return

    def mask(self, name: str, delta: object, *, granted: Granted | None = None) -> Protected:
        """What a device would send under its newest lease."""
        body = encode_update(np.asarray(delta, np.float32), self.rules)
        return mask_as(granted or self.device(name).granted(), self.created, body)

    def submit(self, name: str, delta: object, *, inline: bool = True) -> int:
        """A device submits under its newest lease; return the offset."""
        return self.send(self.device(name), self.mask(name, delta), inline=inline)

    def send(
        self, device: ScriptedDevice, sent: Protected, *, lease: Granted | None = None, inline: bool = True
    ) -> int:
        """Append an update with these bytes and seals."""
        assert sent.envelope is not None
        body: bytes | BodyRef = sent.envelope
        if not inline:
            named = {"upload_id": device.name, "codec": RING, "known_sha256": sent.sha256}
            [body] = store_all(self.log, [Upload(at=device.place, data=sent.envelope, **named)])
        return device.submit_body(body, codec=RING, lease=lease, seals=sent.seals)

    def said(self, *kinds: type[HelperEvent]) -> list[Any]:
        """What helpers have said, in the order of the topic, of these kinds or all."""
        records = scan(self.log, TopicPartition(MASKS.name, self.partition))
        events = [decode(parse_signed(record.value or b"").payload, HelperSaid).event for record in records]
        return [event for event in events if not kinds or isinstance(event, kinds)]
