"""What is in a body: itself in the tier plain, and in a sealed task what it was sealed around for this very update."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys
from actors.effects.sealing.opening import bind, open_contents
from schemas.sealing.envelopes import Contents, list_sizes, seal_body
from schemas.tensors import BodyError
from tests.worlds.builders import lease, policy, task_created, update_admitted

CREATED = task_created(policy(tier="sealed"))
CONTENTS = Contents(b"body", (1, 2))


def _seal(keys: EpochKeys, epoch: int = 0) -> bytes:
    binding = bind(CREATED, lease(of=CREATED), epoch=epoch)
    public_key = keys.make(CREATED, epoch).public_key
    return seal_body(CONTENTS, binding, public_key=public_key, sizes=list_sizes(CREATED.policy, 4))


def test_lease_and_admission_open_alike(tmp_path: Path) -> None:
    """Law 1: what the lease bound before the decision follows from the journal after it, for whoever recomputes."""
    keys = EpochKeys(tmp_path)
    tmp_path.chmod(0o700)
    envelope, held = _seal(keys), lease(of=CREATED, epoch=0)
    admitted = update_admitted(update=held.lease, device=held.device, version=held.version, epoch=0)
    for bound in (held, admitted):
        assert open_contents(CREATED, envelope, bound=bound, keys=keys) == CONTENTS


def test_a_plain_body_is_itself() -> None:
    """The tier plain takes the same way, and needs no key."""
    assert open_contents(task_created(), b"body", bound=lease(), keys=EpochKeys(None)) == Contents(b"body")


def test_an_epoch_that_the_body_was_not_sealed_under_opens_nothing(tmp_path: Path) -> None:
    """Neither without an epoch, nor under another, nor without its key."""
    keys = EpochKeys(tmp_path)
    tmp_path.chmod(0o700)
    envelope, held = _seal(keys), lease(of=CREATED, epoch=0)
    keys.make(CREATED, 1)
    for bound in (lease(of=CREATED), replace(held, epoch=1), replace(held, version=1)):
        with pytest.raises(BodyError, match="not_opened"):
            open_contents(CREATED, envelope, bound=bound, keys=keys)
    with pytest.raises(EpochKeyMissing):
        open_contents(CREATED, envelope, bound=replace(held, epoch=2), keys=keys)
