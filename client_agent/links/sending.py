"""A body on its way to a gateway: as an upload that goes on where it was cut, until its address is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from client_agent.link import UpdateBody
from client_agent.links.requests import WINDOW, GatewayClient, Reply, Unreachable, wait_within
from schemas.http.device_protocol import (
    BODY_TYPE,
    LEASE,
    PARTIAL_TYPE,
    REPR_DIGEST,
    UPLOAD_COMPLETE,
    UPLOAD_LENGTH,
    UPLOAD_OFFSET,
    read_address,
    write_bytes,
    write_digest,
)
from schemas.http.signing import sign_request
from schemas.identifiers import BodyRef

# More in one request would be lost with it where a proxy passes on whole requests only.
PIECE_BYTES = 8 * 2**20
# In a row without a byte more that has come, whatever the gateway says meanwhile: the device tries again, later.
FAILURES_MAX = 6
# A clock may have lost its battery; what is further away is no time.
SKEW_S_MAX = 100 * 366 * 86_400
UPLOADS = "v1/uploads"


class Refused(Exception):
    """The gateway will not take this body."""


@dataclass(slots=True)
class _Sending:
    client: GatewayClient
    body: UpdateBody
    location: str = ""
    offset: int = 0

    async def advance(self) -> BodyRef | None:
        """One request; the address, once all has come and stands in the log. Raises Unreachable, Refused."""
        if not self.location:
            reply = await self._create()
        else:
            reply = await self._append()
        if reply.status == 404 and self.location:
            # The gateway was set up anew, and knows nothing of it.
            self.location, self.offset = "", 0
            return None
        if reply.status == 409:
            await self.find_offset()
            return None
        if reply.status >= 300:
            raise Refused(f"{reply.status} {reply.data[:300].decode(errors='replace')}")
        self.location = reply.headers.get("Location", self.location)
        if reply.headers.get(UPLOAD_COMPLETE) == "?1":
            return read_address(reply.data)
        self._go_to(reply)
        return None

    async def find_offset(self) -> None:
        """Ask how much has come. Raises Unreachable, Refused."""
        if not self.location:
            return
        reply = await self._ask("HEAD", self.location)
        if reply.status == 404:
            self.location, self.offset = "", 0
        elif reply.status < 300:
            self._go_to(reply)

    def _go_to(self, reply: Reply) -> None:
        offset = int(reply.headers[UPLOAD_OFFSET])
        if not 0 <= offset <= len(self.body.data):
            raise Refused(f"the gateway has {offset} of {len(self.body.data)} bytes")
        self.offset = offset

    async def _create(self) -> Reply:
        data = self.body.data
        # A short body needs one request; of a longer one nothing leaves before it can be resumed.
        is_short = len(data) <= PIECE_BYTES // 8
        headers = {
            "Content-Type": BODY_TYPE,
            UPLOAD_LENGTH: str(len(data)),
            UPLOAD_COMPLETE: "?1" if is_short else "?0",
            REPR_DIGEST: write_digest(self.body.sha256),
        }
        return await self._ask("POST", UPLOADS, data=data if is_short else b"", headers=headers)

    async def _append(self) -> Reply:
        piece = self.body.data[self.offset : self.offset + PIECE_BYTES]
        is_last = self.offset + len(piece) == len(self.body.data)
        headers = {
            "Content-Type": PARTIAL_TYPE,
            UPLOAD_OFFSET: str(self.offset),
            UPLOAD_COMPLETE: "?1" if is_last else "?0",
        }
        return await self._ask("PATCH", self.location, data=piece, headers=headers)

    async def _ask(
        self, method: str, path: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        url, key = self.client.resolve(path), self.body.key
        assert key is not None, "an upload without the key of its device"
        carried = {LEASE: write_bytes(self.body.sealed), **(headers or {})}
        signed = sign_request(method, url, headers=carried, key=key, at_s=time.time() + self.client.skew_s)
        reply = await self.client.ask(method, path, data=data, headers=signed)
        told = _find_skew(reply)
        if told is None or told == self.client.skew_s:
            return reply
        # The gateway has said how far this clock is off: signed anew, by its own, and once.
        self.client.skew_s = told
        signed = sign_request(method, url, headers=carried, key=key, at_s=time.time() + told)
        return await self.client.ask(method, path, data=data, headers=signed)


def _find_skew(reply: Reply) -> float | None:
    """By how much a gateway's clock is ahead of this one, where it refuses for that; whole seconds."""
    if reply.status != 401:
        return None
    try:
        told = msgspec.json.decode(reply.data, type=dict[str, object])
        now_s = msgspec.convert(told.get("now_s"), int)
    except msgspec.MsgspecError:
        return None
    skew_s = round(now_s - time.time())
    return float(skew_s) if told.get("code") == "clock_differs" and abs(skew_s) <= SKEW_S_MAX else None


async def send_body(client: GatewayClient, body: UpdateBody) -> BodyRef:
    """Upload a body; its address. Raises Refused, and Unreachable after many requests in a row that were in vain."""
    sending, failures, furthest = _Sending(client, body), 0, -1
    while True:
        error = Unreachable("the gateway takes no more of the body", WINDOW)
        is_cut = False
        try:
            if failures:
                await sending.find_offset()
            if (address := await sending.advance()) is not None:
                return address
        except Unreachable as caught:
            error, is_cut = caught, True
        # Further than ever: a gateway that goes back and forth would have all of it again and again.
        is_further, furthest = sending.offset > furthest, max(furthest, sending.offset)
        failures = int(is_cut) if is_further else failures + 1
        if failures >= FAILURES_MAX:
            raise error
        # A connection that was cut is no reason to wait; a gateway that says so is, and one that is not there.
        if error.is_told or failures > 1:
            await wait_within(error.window)
