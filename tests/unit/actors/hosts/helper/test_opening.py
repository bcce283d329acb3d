"""What a helper finds in the records of a round's members, whatever the aggregator says of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.deciders.masking.heard import HeardTask, Member
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.hosts.helper.opening import Opened, Opener, read_records
from actors.hosts.helper.store import EPOCHS
from schemas.events import UpdateAdmitted
from schemas.leases import read_lease, sign_lease
from schemas.topics import ROUNDS
from tests.worlds.builders import KEY, role_key, signed, update_submitted
from tests.worlds.masking.federation import MaskedFederation, masked_policy

ONES = np.ones(4, np.float32)


@pytest.fixture
def world(tmp_path: Path) -> MaskedFederation:
    """Three devices have leases, and nobody has sent anything."""
    world = MaskedFederation(masked_policy(tmp_path), tmp_path)
    world.check_in("a", "b", "c")
    return world


def _open(world: MaskedFederation, *, models: dict[int, bytes] | None = None, **changes: Any) -> Opened:
    """What helper 1 finds, where the aggregator says other things of the first member."""
    heard = world.helpers[1]._followed[world.partition].heard.tasks[world.task]
    task, known = HeardTask(world.created), heard.models if models is None else models
    admitted: list[UpdateAdmitted] = world.events(ROUNDS.name, UpdateAdmitted)
    admitted[0] = msgspec.structs.replace(admitted[0], **changes)
    places = [each.submitted_at for each in admitted if isinstance(each.submitted_at, tuple)]
    keys = EpochKeys(world.folder / "1" / EPOCHS)
    opener = Opener(task, 1, trust=role_key("aggregator").trust(), keys=keys, models=known)
    return opener.open(
        [Member(each, True) for each in admitted], read_records(world.log, world.partition, places=places)
    )


def test_each_member_that_counts_has_its_seed(world: MaskedFederation) -> None:
    """One seed a member, with its weight; of one that is zeroed none, and its record is looked at all the same."""
    for name in "abc":
        world.submit(name, ONES)
    world.settle()
    opened = _open(world)
    assert (len(opened.seeds), opened.fault) == (3, None)
    assert [seed.weight for seed in opened.seeds] == [15] * 3
    assert len(_open(world, zeroed="body_absent").seeds) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"update": "f" * 32},
        {"device": "somebody"},
        {"version": 1},
        {"epoch": 1},
        {"subject": "0" * 32},
        {"submitted_at": (0, 0)},
        {"submitted_at": (10**9, 0)},
        {"submitted_at": (1, 5)},
    ],
    ids=lambda changes: str(next(iter(changes.items()))),
)
def test_what_the_aggregator_says_is_what_the_device_signed(world: MaskedFederation, changes: dict[str, Any]) -> None:
    """Another update, device, version, epoch, person or place is not the member's record; and it is said whose."""
    world.append("updates", b"junk")
    for name in "abc":
        world.submit(name, ONES)
    world.settle()
    opened = _open(world, **changes)
    assert opened.fault == "signature"
    assert len(opened.blamed) == 1


def test_a_body_that_was_exchanged_is_seen(world: MaskedFederation) -> None:
    """The masks were made for one vector, and another in its place would be taken off wrongly."""
    for name in "abc":
        world.submit(name, ONES)
    world.settle()
    [first, second, _] = world.events(ROUNDS.name, UpdateAdmitted)
    assert first.body.sha256 != second.body.sha256
    assert _open(world, body=second.body).fault == "signature"


def test_a_model_that_was_made_for_one_device_is_nobody_s(world: MaskedFederation) -> None:
    """The lease names what the device was given: where the log has another under that version, there is no answer."""
    for name in "abc":
        world.submit(name, ONES)
    world.settle()
    opened = _open(world, models={0: bytes(32)})
    assert opened.fault == "model"
    assert len(opened.blamed) == 3


@pytest.mark.parametrize("forged", ["device", "selector", "nobody"])
def test_nobody_else_signs_for_a_device_or_a_selector(world: MaskedFederation, forged: str) -> None:
    """An aggregator that makes members up has neither key."""
    for name in "abc":
        world.submit(name, ONES)
    world.settle()
    granted, sent = world.device("a").granted(), world.mask("a", ONES)
    assert sent.envelope is not None
    sealed = granted.sealed
    if forged == "selector":
        sealed = sign_lease(read_lease(sealed), role_key("aggregator").signer)
    submitted = update_submitted(sealed, sent.envelope, codec="ring32", task=world.task)
    submitted = msgspec.structs.replace(submitted, seals=sent.seals)
    signer = KEY.signing if forged == "device" else world.device("a").key
    offset = world.device("a").append("updates", signed(submitted, signer))
    # Of this very body, so that nothing but the signature is wrong.
    body = world.events(ROUNDS.name, UpdateAdmitted)[0].body
    body = msgspec.structs.replace(body, sha256=hashlib.sha256(sent.envelope).digest())
    opened = _open(world, submitted_at=(offset, 0), body=body)
    assert opened.fault == ("signature" if forged != "nobody" else None)
