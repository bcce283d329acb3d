"""Check-ins and updates: a request brings a signed record, and waits for what selector or aggregator make of it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ops.gateway.access.limits import Limits
from ops.gateway.behind.appending import Appending
from ops.gateway.behind.board import Board
from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.entry import Entrant, Entry, require_length
from ops.gateway.refusals import SOON, TooLarge, Unknown, Unproven, Unreadable
from schemas.canonical import MalformedError, decode
from schemas.devices import is_checkin_signed, name_device
from schemas.events import DeviceCheckedIn, LeaseAbandoned
from schemas.http.device_protocol import RECORD_TYPE, RETRY, WAIT_S_MAX
from schemas.signing import parse_signed
from schemas.topics import CHECKINS, UPDATES, body_place, partition_of
from schemas.updates import SignedUpdate, parse_update
from streams.log import Draft

CHECKIN_BYTES_MAX = 2_048
# An inline body of at most 64 KiB, its lease, and what is beside them.
UPDATE_BYTES_MAX = 70_000
BODY_WAIT_S = 20.0

_WAIT = re.compile(r"(?:^|,)\s*wait=([0-9]{1,4})\s*(?:,|;|$)")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What devices say and hear in a sentence each."""

    entry: Entry
    catalogue: Catalogue
    appending: Appending
    board: Board
    partitions: int
    limits: Limits

    async def check_in(self, request: Request) -> Response:
        """A check-in, answered by the selector; or the report that a lease is given up, which nobody answers."""
        self.appending.require_room(require_length(request, CHECKIN_BYTES_MAX))
        message = await read_body(request, CHECKIN_BYTES_MAX)
        said, unit = self._read_checkin(message)
        key = hashlib.sha256(message).hexdigest()
        # A copy of what has been answered gets the same answer, and costs the log nothing; nor its device and class a
        # place, for whoever has seen the record can send it.
        if (known := self.board.find(key)) is not None:
            return tell_record(known)
        await self.limits.take_device(said.device, unit)
        await self._append(CHECKINS.name, said.task, message=message)
        if isinstance(said, LeaseAbandoned):
            return tell_accepted("")
        return await tell_answer(request, self.board, key=key, at=f"/v1/check-ins/{key}")

    async def hear_checkin(self, request: Request) -> Response:
        """The answer to a check-in that was sent before, by the digest of its record."""
        key = read_record_digest(request)
        return await tell_answer(request, self.board, key=key, at=f"/v1/check-ins/{key}")

    async def update(self, request: Request) -> Response:
        """A signed update, whose body is inside it or stored; answered by the aggregator."""
        entrant = self._admit(request)
        if isinstance(entrant, Response):
            return entrant
        self.appending.require_room(require_length(request, UPDATE_BYTES_MAX))
        message = await read_body(request, UPDATE_BYTES_MAX)
        _require_own(_read_update(message), entrant, partitions=self.partitions)
        await self.limits.take("device", entrant.lease.device)
        key = entrant.lease.lease
        # From here on it is the log that says what comes of it, whatever becomes of this connection.
        await self._append(UPDATES.name, entrant.lease.task, message=message)
        return await tell_answer(request, self.board, key=key, at=f"/v1/updates/{key}")

    async def hear_update(self, request: Request) -> Response:
        """What became of an update, by its lease, for whoever carries that."""
        key = request.path_params["lease"]
        # Ids of leases can be counted, and an outcome says which device took part and when.
        if self.entry.identify(request).lease.lease != key:
            raise Unproven("The request carries another lease than it asks about.", code="lease_differs")
        return await tell_answer(request, self.board, key=key, at=f"/v1/updates/{key}")

    def _admit(self, request: Request) -> Entrant | Response:
        """The lease that a request carries; or, where it is spent, what became of its update."""
        entrant = self.entry.identify(request)
        if (known := self.board.find(entrant.lease.lease)) is not None:
            return tell_record(known)
        return self.entry.require_open(entrant)

    def _read_checkin(self, message: bytes) -> tuple[DeviceCheckedIn | LeaseAbandoned, str]:
        """What a device says, and the class as which it has enrolled; empty where nobody asks for one."""
        try:
            signed = parse_signed(message)
            said: DeviceCheckedIn | LeaseAbandoned = decode(signed.payload, DeviceCheckedIn | LeaseAbandoned)  # type: ignore[arg-type]
        except MalformedError as error:
            raise Unreadable(f"No check-in: {error}") from error
        deployment, found = self.catalogue.deployment, self.catalogue.find_task(said.task)
        if deployment is None or found is None:
            raise Unknown(f"There is no task {said.task} here.", code="unknown_task")
        is_own = said.device == name_device(said.public_key)
        if not (is_own and is_checkin_signed(signed, said.public_key, deployment=deployment)):
            raise Unproven("The device has not signed this for this deployment.", code="signature_invalid")
        if not isinstance(said, DeviceCheckedIn):
            return said, ""
        return said, self.catalogue.standing.require(said, found.created, at_ms=self.entry.clock_ms())

    async def _append(self, topic: str, task: str, *, message: bytes) -> None:
        draft = Draft(topic=topic, partition=partition_of(task, self.partitions), value=message)
        await self.appending.append([draft])


async def tell_answer(request: Request, board: Board, *, key: str, at: str) -> Response:
    """What was answered under a key, after as long a wait as is asked for; else where to ask for it later."""
    found = await board.wait(key, read_wait_s(request))
    return tell_accepted(at) if found is None else tell_record(found)


def read_record_digest(request: Request) -> str:
    """The record whose answer a path asks for. Raises Unknown."""
    digest: str = request.path_params["digest"]
    if not _DIGEST.fullmatch(digest):
        raise Unknown
    return digest


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body of a request. Raises TooLarge, Unreadable."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            async for part in request.stream():
                size += len(part)
                # Counted as it comes: what a header says of the length proves nothing.
                if size > bytes_max:
                    raise TooLarge(f"More than {bytes_max:,} bytes.")
                parts.append(part)
    except ClientDisconnect as error:
        raise Unreadable("The connection has ended.", code="cut") from error
    except TimeoutError as error:
        raise Unreadable(f"The body did not arrive within {BODY_WAIT_S:g} s.", code="too_slow") from error
    return b"".join(parts)


def _read_update(message: bytes) -> SignedUpdate:
    try:
        return parse_update(message)
    except MalformedError as error:
        raise Unreadable(f"No update: {error}") from error


def _require_own(update: SignedUpdate, entrant: Entrant, *, partitions: int) -> None:
    """Raises Refusal for an update that is not of the device and the lease that were let in."""
    submitted = update.submitted
    if submitted.sealed != entrant.sealed:
        raise Unproven("The update is of another lease than the request.", code="lease_differs")
    if not update.is_signed_by(entrant.lease.public_key):
        raise Unproven("The device of the lease has not signed this.", code="signature_invalid")
    if submitted.body.size > entrant.body_bytes_max:
        raise TooLarge(f"A body of {submitted.body.size:,} bytes, at most {entrant.body_bytes_max:,}.")
    if submitted.inline is None:
        created = entrant.created
        place = body_place(created.task, entrant.lease.device, shards=created.policy.shard_count, partitions=partitions)
        if (submitted.body.topic, submitted.body.partition) != place:
            raise Unreadable("The body of the update is not stored where those of its task are.")


def read_wait_s(request: Request) -> float:
    """How long a request wants to wait for its answer, as far as it may."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(found[1]), WAIT_S_MAX) if found else 0.0


def tell_record(value: bytes) -> Response:
    """An answer as it stands in the log."""
    return Response(value, media_type=RECORD_TYPE, headers={RETRY: str(SOON), "Cache-Control": "no-store"})


def tell_accepted(at: str) -> Response:
    """It stands in the log; the answer is asked for at this address, if there is going to be one."""
    headers = {RETRY: str(SOON), "Cache-Control": "no-store", **({"Location": at} if at else {})}
    return Response(status_code=202, headers=headers)
