"""Which answers a device obeys."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from client_agent.answers import OPEN_MAX, OpenCheckins, find_lease
from client_agent.identity import open_identity
from tests.worlds.builders import TASK, body_ref, granted, lease

ASKED = [f"check-in {number}".encode() for number in range(OPEN_MAX + 1)]


def _digest(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()


def test_a_check_in_has_one_answer() -> None:
    """Guarantee: the answer to a check-in is taken once, in any order; a repeat of the same bytes has its own."""
    asked = OpenCheckins()
    for message in (ASKED[0], ASKED[1], ASKED[0]):
        asked.note(message)
    assert [asked.take(_digest(ASKED[number])) for number in (1, 0, 0, 0, 1, 2)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_few_check_ins_are_open() -> None:
    """Guarantee: a device that is never answered does not remember for ever what it asked."""
    asked = OpenCheckins()
    for message in ASKED:
        asked.note(message)
    assert not asked.take(_digest(ASKED[0]))
    assert all(asked.take(_digest(message)) for message in ASKED[1:])


@pytest.mark.parametrize("changes", [{}, {"device": "other"}, {"task": "other"}, {"public_key": bytes(34)}])
def test_a_lease_is_of_this_device_task_and_key(tmp_path: Path, changes: dict[str, object]) -> None:
    """Guarantee: a lease that names another device, task or key is none, and neither is one with another model."""
    identity = open_identity(tmp_path, "a")
    held = msgspec.structs.replace(lease(identity.device, public_key=identity.public_key), **changes)
    assert find_lease(granted(held, body_ref("initial", "models")), identity, task=TASK) == (None if changes else held)
    assert find_lease(granted(held, body_ref("another", "models")), identity, task=TASK) is None
    assert find_lease(msgspec.structs.replace(granted(held), sealed=b"\xc1"), identity, task=TASK) is None
