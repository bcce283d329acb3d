"""A lease that is given up: why, in a word of a closed list, and the signed report that frees its slot for others.

The message for people stays on the device. With privacy only what no example can cause is reported: for the rest a
zero vector is sent, so that who arrives says nothing about anybody's data.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import get_args

from client_agent.compression import NotFiniteError
from client_agent.identity import Identity
from client_agent.learning.allow_list import PluginNotAllowed
from client_agent.learning.data import DataError, TooFewClasses
from client_agent.learning.foreign import LearnerError
from client_agent.learning.plugins import PluginError
from client_agent.link import ModelMissing
from schemas.devices import sign_checkin
from schemas.errors import FedlogError
from schemas.events import AbandonReason, LearningFailure, LeaseAbandoned, TaskCreated
from schemas.leases import Lease

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class GivenUp(FedlogError):
    """There will be no update under this lease."""

    code = "lease_given_up"

    def __init__(self, message: str | None = None, *, reason: AbandonReason = "task_unfit") -> None:
        super().__init__(*([] if message is None else [message]))
        self.reason = reason


# Whatever else goes wrong ends the device's work for good.
CAUSES = (GivenUp, ModelMissing, NotFiniteError, PluginError, LearnerError)


def name_reason(error: Exception) -> AbandonReason:
    """The word for what has ended a lease."""
    match error:
        case GivenUp():
            return error.reason
        case PluginNotAllowed():
            return "not_allowed"
        case TooFewClasses():
            return "too_few_classes"
        # The data are a plugin too, and the only one whose failure may be that of an example.
        case DataError() | LearnerError():
            return "training_failed"
        case PluginError():
            return "cannot_load"
        case ModelMissing():
            return "model_missing"
        case NotFiniteError():
            return "not_finite"
    return "failed"


def make_report(created: TaskCreated | None, lease: Lease, *, identity: Identity, error: Exception) -> bytes | None:
    """The signed report that this lease is given up; None where an example may be the cause, under privacy."""
    reason = name_reason(error)
    if created is not None and created.policy.privacy is not None and reason in get_args(LearningFailure):
        return None
    abandoned = LeaseAbandoned(
        task=lease.task,
        device=lease.device,
        public_key=identity.public_key,
        lease=lease.lease,
        reason=reason,
        subject=lease.subject,
    )
    return sign_checkin(abandoned, identity.key, deployment=lease.deployment)


@contextlib.contextmanager
def noticing_full_disk() -> Iterator[None]:
    """What finds no room on the disk gives the lease up. Raises GivenUp."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise GivenUp(f"there is no room for the update: {error}", reason="no_space") from error
