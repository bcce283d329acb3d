"""Enrolments: a device brings the token that somebody carried to it, or asks to stay what it is; the registrar answers.

What a registrar would refuse at once costs the log nothing here. Only it knows the rest: quotas, and what is spent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from ops.gateway.access.limits import Limits
from ops.gateway.behind.appending import Appending
from ops.gateway.behind.board import Board
from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.entry import read_clock_ms, require_length
from ops.gateway.exchange import read_body, read_record_digest, tell_answer, tell_record
from ops.gateway.refusals import Expired, Unproven, Unreadable
from schemas.canonical import MalformedError, decode
from schemas.events import EnrolmentRequested
from schemas.identity.remedies import describe_refusal
from schemas.identity.requests import is_request_proven
from schemas.identity.tokens import SKEW_MS, open_token
from schemas.signing import parse_signed
from schemas.topics import ENROLMENTS, partition_of
from streams.log import Draft

PATH = "/v1/enrolments"
# A token of at most 1 KiB, two keys, and a signature each.
REQUEST_BYTES_MAX = 2_048


@dataclass(frozen=True, slots=True)
class Enrolments:
    """Requests to be enrolled, and what comes of them."""

    catalogue: Catalogue
    appending: Appending
    board: Board
    partitions: int
    limits: Limits
    clock_ms: Callable[[], int] = read_clock_ms

    async def ask(self, request: Request) -> Response:
        """A signed request, answered by the registrar: with a certificate, or why there is none."""
        self.appending.require_room(require_length(request, REQUEST_BYTES_MAX))
        message = await read_body(request, REQUEST_BYTES_MAX)
        key = hashlib.sha256(message).hexdigest()
        # A copy of what has been answered gets the same answer, also when its token has run out meanwhile.
        if (known := self.board.find(key)) is not None:
            return tell_record(known)
        asked, unit = self._read_request(message)
        await self.limits.take_device(asked.device, unit)
        partition = partition_of(asked.population, self.partitions)
        await self.appending.append([Draft(topic=ENROLMENTS.name, partition=partition, value=message)])
        return await tell_answer(request, self.board, key=key, at=f"{PATH}/{key}")

    async def hear(self, request: Request) -> Response:
        """The answer to a request that was sent before, by the digest of its record."""
        key = read_record_digest(request)
        return await tell_answer(request, self.board, key=key, at=f"{PATH}/{key}")

    def _read_request(self, message: bytes) -> tuple[EnrolmentRequested, str]:
        """What a device asks, and the class of its token; empty without one."""
        try:
            signed = parse_signed(message)
            asked = decode(signed.payload, EnrolmentRequested)
        except MalformedError as error:
            raise Unreadable(f"No request to be enrolled: {error}") from error
        trust, now_ms = self.catalogue.trust, self.clock_ms()
        if trust.deployment is None or not is_request_proven(signed, asked, deployment=trust.deployment):
            raise Unproven("The device has not signed this for this deployment.", code="signature_invalid")
        if asked.token is None:
            return asked, ""
        # Whoever may not make tokens cannot fill the topic with them.
        token = open_token(asked.token, trust=trust, at_ms=now_ms)
        if token is None or token.population != asked.population:
            raise Unproven(describe_refusal("bad_token"), code="bad_token")
        if now_ms > token.until_ms + SKEW_MS:
            raise Expired(describe_refusal("token_expired"), code="token_expired")
        return asked, f"{asked.population}/{token.device_class}"
