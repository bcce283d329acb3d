"""Why a lease is given up, in one word of a closed list, and who is told."""

from __future__ import annotations

import errno
from typing import get_args

import pytest

from client_agent.compression import NotFiniteError
from client_agent.learning.allow_list import PluginNotAllowed
from client_agent.learning.data import DataError, TooFewClasses
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import ModelError
from client_agent.link import ModelMissing
from client_agent.outbox.giving_up import CAUSES, GivenUp, make_report, name_reason, noticing_full_disk
from schemas.canonical import decode
from schemas.devices import is_checkin_signed
from schemas.events import AbandonReason, LearningFailure, LeaseAbandoned
from schemas.signing import parse_signed
from tests.trials.simulation.devices import identity
from tests.worlds.builders import lease, policy, private_policy, task_created

REASONS: dict[str, Exception] = {
    "not_allowed": PluginNotAllowed("x"),
    "cannot_load": ModelError("x"),
    "model_missing": ModelMissing("x"),
    "task_unfit": GivenUp("x"),
    "overdue": GivenUp("x", reason="overdue"),
    "no_space": GivenUp("x", reason="no_space"),
    "training_failed": LearnerError("x"),
    "not_finite": NotFiniteError("x"),
    "failed": RuntimeError("x"),
    "too_few_classes": TooFewClasses("x"),
}


def _list_words(union: object) -> set[str]:
    return {word for part in get_args(union) for word in (_list_words(part) if get_args(part) else {part})}


def test_every_reason_has_a_cause() -> None:
    """The closed list and what can end a lease are the same; data that are no examples count as a training's fault."""
    assert {name_reason(error) for error in REASONS.values()} == {*REASONS} == _list_words(AbandonReason)
    assert name_reason(DataError("x")) == "training_failed"
    assert all(isinstance(error, CAUSES) for reason, error in REASONS.items() if reason != "failed")


@pytest.mark.parametrize("reason", REASONS)
def test_a_report_is_signed_and_small_and_says_one_word(reason: str) -> None:
    """Guarantee: it names the lease, holds nothing of the message, and no example's doing is told with privacy."""
    device = identity("phone")
    held = lease(device.device, public_key=device.public_key)
    secret = type(REASONS[reason])(f"{reason}: row 17 of my data")
    report = make_report(task_created(policy()), held, identity=device, error=REASONS[reason])
    assert report is not None
    assert len(report) < 400
    message = parse_signed(report)
    assert is_checkin_signed(message, device.public_key, deployment=held.deployment)
    said = decode(message.payload, LeaseAbandoned)
    assert (said.lease, said.device, said.reason) == (held.lease, device.device, reason)
    assert b"row 17" not in (make_report(task_created(policy()), held, identity=device, error=secret) or b"")
    private = make_report(task_created(private_policy()), held, identity=device, error=REASONS[reason])
    assert (private is None) == (reason in get_args(LearningFailure))


def test_only_a_full_disk_gives_a_lease_up() -> None:
    """A disk without room ends the lease; any other fault of the disk ends the device's work, as before."""
    with pytest.raises(GivenUp, match="no room") as raised, noticing_full_disk():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.reason == "no_space"
    with pytest.raises(PermissionError), noticing_full_disk():
        raise PermissionError(errno.EACCES, "Permission denied")


def test_with_privacy_no_device_tells_of_its_classes() -> None:
    """Guarantee: how many classes its examples have is nobody's business, whatever the list of words is made of."""
    device = identity("phone")
    held = lease(device.device, public_key=device.public_key)
    assert make_report(task_created(private_policy()), held, identity=device, error=TooFewClasses("x")) is None
