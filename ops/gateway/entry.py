"""What is refused before a byte of a body is read: a lease that does not hold or is over, a round that is, a size.

A header carries the lease, so that nothing needs to be uploaded to learn that nobody wants it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.refusals import LeaseOver, RoundOver, TooLarge, Unknown, Unproven, Unreadable
from schemas.canonical import MalformedError
from schemas.events import TaskCreated
from schemas.http.device_protocol import LEASE, read_bytes
from schemas.leases import Lease, open_lease
from schemas.sealing.envelopes import compute_stored_bytes_max

SEALED_BYTES_MAX = 1024
# Log time is the brokers' and this clock is ours: what the log would still take is not refused here.
DEADLINE_MARGIN_MS = 5_000
TASK_NAME_LETTERS_MAX = 128
# Leases whose signature was checked, 100 bytes each.
REMEMBERED_MAX = 20_000


def read_clock_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Entrant:
    """A lease that holds, as the device has it, and the task that it is of."""

    lease: Lease
    sealed: bytes
    created: TaskCreated

    @property
    def body_bytes_max(self) -> int:
        """No body of an update of this task is longer."""
        return compute_stored_bytes_max(self.created.policy, self.created.parameters)


@dataclass(frozen=True, slots=True)
class Entry:
    """Judges requests by their headers alone."""

    catalogue: Catalogue
    clock_ms: Callable[[], int] = read_clock_ms
    _signed: set[bytes] = field(default_factory=set)

    def admit(self, request: Request) -> Entrant:
        """The lease that a request carries, which is still good for an update. Raises Refusal."""
        return self.require_open(self.identify(request))

    def require_open(self, entrant: Entrant) -> Entrant:
        """The same lease, where it is still good for an update. Raises Refusal."""
        lease, created = entrant.lease, entrant.created
        if self.clock_ms() > lease.deadline_ms + DEADLINE_MARGIN_MS:
            raise LeaseOver
        if self.catalogue.is_closed(created.task):
            raise RoundOver(f"The task {created.task} is closed.", code="closed")
        if self.catalogue.is_stale(created, lease.version):
            raise RoundOver
        return entrant

    def identify(self, request: Request) -> Entrant:
        """The same of a lease that may be over: for whoever asks what became of an update. Raises Refusal."""
        sealed = _read_sealed(request)
        lease = self._open(sealed)
        found = self.catalogue.find_task(lease.task)
        # A lease names its policy: a task of the same name elsewhere is another.
        if found is None or found.created.policy_sha256 != lease.policy_sha256:
            raise Unknown("There is no such task here.", code="unknown_task")
        return Entrant(lease, sealed, found.created)

    def _open(self, sealed: bytes) -> Lease:
        # An update comes in two requests and more, and a signature costs more than all else that is looked at here.
        name = hashlib.sha256(sealed).digest()
        lease = open_lease(sealed, self.catalogue.trust, at_ms=self.clock_ms(), is_signed=name in self._signed)
        if lease is None:
            raise Unproven("No selector of this deployment has signed this lease.", code="lease_invalid")
        # Only what a selector has signed is remembered, so that strangers cannot fill the memory.
        if len(self._signed) >= REMEMBERED_MAX:
            self._signed.clear()
        self._signed.add(name)
        return lease


def require_length(request: Request, bytes_max: int) -> int:
    """How long a body says it is, at most `bytes_max`; 0 where it does not say. Raises TooLarge, Unreadable."""
    text = request.headers.get("content-length")
    if text is None:
        return 0
    # Digits alone: Python reads signs, spaces and underscores too.
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise Unreadable("Content-Length is no number.")
    if int(text) > bytes_max:
        raise TooLarge(f"{int(text):,} bytes, at most {bytes_max:,}.")
    return int(text)


def _read_sealed(request: Request) -> bytes:
    given = request.headers.getlist(LEASE)
    if len(given) != 1 or len(given[0]) > 2 * SEALED_BYTES_MAX:
        raise Unproven(f"A request of this kind carries its lease, once, in {LEASE}.", code="lease_missing")
    try:
        return read_bytes(given[0])
    except MalformedError as error:
        raise Unreadable(f"{LEASE}: {error}") from error
