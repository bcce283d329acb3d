"""Which answers a device obeys: only those to what it asked itself, and only for itself, its task and its key.

`Device` asks here before it acts on anything that stands in `answers`, where others may write too.
"""

from __future__ import annotations

import hashlib

from client_agent.identity import Identity
from schemas.canonical import MalformedError
from schemas.events import Granted
from schemas.identifiers import TaskId
from schemas.leases import Lease, read_lease

# A device repeats a check-in that got no answer, and whichever answer comes first is good.
OPEN_MAX = 16


class OpenCheckins:
    """The check-ins of this process that have no answer yet; a restarted device simply checks in again."""

    def __init__(self) -> None:
        # A list, because a repeat may have the same bytes, and may then have a second answer.
        self._digests: list[bytes] = []

    def note(self, message: bytes) -> None:
        """The check-in `message`, as it stands in the log, was handed over."""
        self._digests = [*self._digests, hashlib.sha256(message).digest()][-OPEN_MAX:]

    def take(self, checkin_sha256: bytes) -> bool:
        """Whether this is the answer to one of them, which then has its answer."""
        if checkin_sha256 not in self._digests:
            return False
        self._digests.remove(checkin_sha256)
        return True


def find_lease(granted: Granted, identity: Identity, *, task: TaskId) -> Lease | None:
    """The lease in an answer; None where it is another device's, task's or key's, or the answer names another model."""
    try:
        lease = read_lease(granted.sealed)
    except MalformedError:
        return None
    is_own = (lease.device, lease.task, lease.public_key) == (identity.device, task, identity.public_key)
    return lease if is_own and lease.model_sha256 == granted.model.sha256 else None
