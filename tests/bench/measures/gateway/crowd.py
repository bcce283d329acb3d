"""Devices that hand in updates to a gateway over raw connections; they train nothing, and make their own leases."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.keys import RoleKey
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.devices import tag_public_key
from schemas.events import Outcome, TaskCreated
from schemas.http.device_protocol import (
    BODY_TYPE,
    LEASE,
    RECORD_TYPE,
    REPR_DIGEST,
    UPLOAD_COMPLETE,
    UPLOAD_LENGTH,
    read_address,
    write_bytes,
    write_digest,
)
from schemas.http.signing import sign_request
from schemas.identifiers import BodyRef
from schemas.leases import sign_lease
from schemas.tensors import encode_update
from tests.bench.peers.raw_http import Connection
from tests.worlds.builders import lease, lease_id, signed, update_submitted

INLINE_BYTES_MAX = 16_384
UPLOADS = "/v1/uploads"
BODIES = 4  # different ones, by turns


class NotTaken(Exception):
    """The gateway has not taken an update, or the aggregator has not admitted it."""


@dataclass(frozen=True, slots=True)
class Update:
    """One update that is ready to be handed in: its lease, its body, and the headers of its upload."""

    key: Ed25519PrivateKey
    sealed: bytes
    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Devices of one task, each with a lease of its own."""

    created: TaskCreated
    selector: RoleKey
    port: int
    wait_s: int = 0  # for the outcome

    def prepare(self, numbers: range) -> list[Update]:
        """Updates of devices with these numbers, signed now."""
        return [*self._make(numbers)]

    async def hand_in(self, connection: Connection, update: Update) -> None:
        """All that a device does from a finished body on, to the answer. Raises NotTaken."""
        body: bytes | BodyRef = update.data
        if update.headers:
            status, _, told = await connection.ask("POST", UPLOADS, update.data, update.headers)
            if status not in (200, 201):
                raise NotTaken(f"upload: {status} {told[:300]!r}")
            body = read_address(told)
        status, _, told = await connection.send(self.write(update, body))
        if status == 200:
            outcome = decode(parse_certified(told).payload, Outcome)
            if outcome.outcome != "admitted":
                raise NotTaken(outcome.outcome)
        elif status != 202 or self.wait_s:
            raise NotTaken(f"update: {status} {told[:300]!r}")

    def write(self, update: Update, body: bytes | BodyRef) -> bytes:
        """The request that submits it, as it goes over the wire."""
        codec, task = self.created.policy.compression.codec, self.created.task
        message = signed(update_submitted(update.sealed, body, codec=codec, task=task), update.key)
        lines = [
            "POST /v1/updates HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Content-Length: {len(message)}",
            f"Content-Type: {RECORD_TYPE}",
            f"{LEASE}: {write_bytes(update.sealed)}",
            f"Prefer: wait={self.wait_s}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + message

    def _make(self, numbers: range) -> Iterator[Update]:
        created, rng = self.created, np.random.default_rng(1)
        scale = np.float32(1 / np.sqrt(created.parameters))
        drawn = [rng.standard_normal(created.parameters, np.float32) * scale for _ in range(BODIES)]
        bodies = [encode_update(each, created.policy) for each in drawn]
        until_ms = time.time_ns() // 1_000_000 + created.policy.lease_ms
        for number in numbers:
            key, data = Ed25519PrivateKey.generate(), bodies[number % BODIES]
            held = lease(
                f"device-{number}",
                of=created,
                lease=lease_id(number),
                public_key=tag_public_key(key),
                deadline_ms=until_ms,
            )
            sealed = sign_lease(held, self.selector.signer)
            is_short = len(data) <= INLINE_BYTES_MAX
            yield Update(key, sealed, data, {} if is_short else self._sign_upload(key, sealed, data))

    def _sign_upload(self, key: Ed25519PrivateKey, sealed: bytes, data: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": BODY_TYPE,
            LEASE: write_bytes(sealed),
            UPLOAD_LENGTH: str(len(data)),
            UPLOAD_COMPLETE: "?1",
            REPR_DIGEST: write_digest(hashlib.sha256(data).digest()),
        }
        url = f"http://127.0.0.1:{self.port}{UPLOADS}"
        return sign_request("POST", url, headers=headers, key=key, at_s=time.time())
