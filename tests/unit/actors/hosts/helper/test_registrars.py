"""A helper whose owner has pinned a registrar: whom it takes for people, whatever selector and operator say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.events import MaskKeyOpened, MasksRefused, ModelPublished, RoundAbandoned, RoundBound
from schemas.topics import ROUNDS
from tests.worlds.builders import role_key
from tests.worlds.identity.enrolling import EnrolledDevice, EnrolledFederation
from tests.worlds.masking.federation import MaskedFederation, masked_policy

ONES = np.ones(4, np.float32)
REGISTRAR = role_key("registrar").signer.key.public_key().public_bytes_raw()
# As the operator could certify one, too.
ANOTHER = role_key("aggregator").signer.key.public_key().public_bytes_raw()


class EnrolledMaskedFederation(MaskedFederation, EnrolledFederation):
    """Devices that enrol; its helpers believe the registrars with these keys."""

    registrars = (REGISTRAR,)

    def device(self, name: str) -> EnrolledDevice:
        """The same one each time, with its certificate."""
        known: dict[str, EnrolledDevice] = self.__dict__.setdefault("devices", {})
        return known.setdefault(name, EnrolledFederation.device(self, name))


def _begin(folder: Path, *registrars: bytes, identity: str = "enrolled") -> EnrolledMaskedFederation:
    kind = type("Federation", (EnrolledMaskedFederation,), {"registrars": registrars})
    world: EnrolledMaskedFederation = kind(masked_policy(folder, identity=identity), folder)
    return world


def _run_round(world: EnrolledMaskedFederation) -> None:
    for name in "abc":
        world.enrolled(name)
    world.round_of(dict.fromkeys("abc", ONES))


@pytest.mark.parametrize("registrars", [(REGISTRAR,), (ANOTHER, REGISTRAR)], ids=["one", "two"])
def test_whom_a_pinned_registrar_has_enrolled_is_answered_for(tmp_path: Path, registrars: tuple[bytes, ...]) -> None:
    """While a registrar's key is exchanged both are pinned."""
    world = _begin(tmp_path, *registrars)
    _run_round(world)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]


def test_whom_another_registrar_has_enrolled_is_nobody(tmp_path: Path) -> None:
    """Whatever key the operator certifies: devices of its own making fill no round of a helper that has pinned one."""
    world = _begin(tmp_path, ANOTHER)
    _run_round(world)
    assert world.said(RoundBound) == []
    refused = world.said(MasksRefused)
    assert {(event.reason, len(event.updates)) for event in refused} == {("not_enrolled", 3)}
    assert [event.reason for event in world.events(ROUNDS.name, RoundAbandoned)] == ["masks_refused"]


def test_what_a_restart_reads_is_the_same(tmp_path: Path) -> None:
    """Who is enrolled stands in the log, and in no folder of the helper's."""
    world = _begin(tmp_path, REGISTRAR)
    for name in "abc":
        world.enrolled(name)
    for number in range(2):
        world.start_helper(number)
    world.round_of(dict.fromkeys("abc", ONES))
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]


def test_a_task_that_enrols_nobody_is_not_followed(tmp_path: Path) -> None:
    """There is no registrar to be believed: the helper makes no key for it, and no lease is ever granted."""
    world = _begin(tmp_path, REGISTRAR, identity="open")
    assert world.said(MaskKeyOpened) == []
