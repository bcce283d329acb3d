"""A world behind a gateway, and requests to it byte by byte, for tests."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from client_agent.identity import Identity, open_identity
from client_agent.link import UpdateBody
from ops.gateway.gates import Outside
from schemas.devices import sign_checkin
from schemas.events import DeploymentFounded, Outcome
from schemas.http.device_protocol import LEASE, write_bytes
from schemas.http.signing import sign_request
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease, sign_lease
from schemas.published import Head, describe_version, sign_statement
from schemas.updates import sign_update
from streams.log import Draft, EventLog
from tests.worlds.builders import (
    DEPLOYMENT,
    KEY,
    OperatorKey,
    device_checked_in,
    lease,
    lease_id,
    model_published,
    role_key,
    update_submitted,
    written,
)
from tests.worlds.device_world import TASK, World, policy
from tests.worlds.gateway.served import served

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """What a refusal says."""
        assert self.headers["content-type"] == "application/problem+json"
        told: dict[str, Any] = json.loads(self.data)
        return told


@dataclass(slots=True)
class Behind:
    """A world, the address of its gateway, and one device with its key."""

    world: World
    url: str
    phone: Identity
    folder: Path

    def ask(
        self, method: str, path: str, data: bytes = b"", headers: Mapping[str, str] | None = None, **more: str
    ) -> Told:
        """One request on a connection of its own; words in `more` are headers."""
        named = {**(headers or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        if path.startswith("/v1/uploads") and LEASE in named and "Signature" not in named:
            named = self.sign(method, path, named)
        return ask(self.url, method, path, data=data, headers=named)

    def sign(self, method: str, path: str, headers: Mapping[str, str], *, at_s: float | None = None) -> dict[str, str]:
        """The headers with the phone's signature, made now."""
        url = urljoin(self.url, path)
        return sign_request(
            method, url, headers=headers, key=self.phone.key, at_s=time.time() if at_s is None else at_s
        )

    def checkin(self, **changes: Any) -> bytes:
        """A signed check-in of the phone."""
        name = changes.pop("device", self.phone.device)
        said = device_checked_in(name, public_key=self.phone.public_key, **changes)
        return sign_checkin(said, self.phone.key, deployment=DEPLOYMENT)

    def lease(self, number: int = 1, **changes: Any) -> bytes:
        """A lease of the phone, sealed, for an hour from now."""
        plain = lease(self.phone.device, of=self.world.created, public_key=self.phone.public_key)
        until_ms = time.time_ns() // 1_000_000 + HOUR_MS
        named = msgspec.structs.replace(plain, **{"lease": lease_id(number), "deadline_ms": until_ms, **changes})
        return sign_lease(named, role_key("selector").signer)

    def update(self, sealed: bytes, body: bytes | BodyRef = b"body") -> bytes:
        """A signed update of the phone under a lease."""
        codec = self.world.policy.compression.codec
        return sign_update(update_submitted(sealed, body, codec=codec), self.phone.key)

    def settle(self, message: bytes, sealed: bytes, outcome: str = "admitted") -> Outcome:
        """The aggregator says what became of an update."""
        under: Lease = read_lease(sealed)
        said = Outcome(
            device=under.device,
            task=under.task,
            update=under.lease,
            record_sha256=hashlib.sha256(message).digest(),
            outcome=outcome,
        )
        self.world.say(said)
        return said

    def announce(self, version: int, *, key: OperatorKey = KEY) -> None:
        """An aggregator of this operator publishes a version."""
        signer, at = role_key("aggregator", key=key).signer, self.world.place
        head = Head(topic="rounds", partition=at, seq=version, head="00" * 32)
        statement = describe_version(model_published(version), 1, head=head)
        self.world.append("published", at, sign_statement(statement, signer.key, certificate=signer.certificate))


def ask(url: str, method: str, path: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None) -> Told:
    """One request to a gateway on a connection of its own."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request(method, path, data or None, dict(headers or {}))
        answer = connection.getresponse()
        return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def carrying(sealed: bytes, **more: str) -> dict[str, str]:
    """Headers with a lease."""
    return {LEASE: write_bytes(sealed), **{name.replace("_", "-"): value for name, value in more.items()}}


def body_of(behind: Behind, sealed: bytes, data: bytes) -> UpdateBody:
    """A body as the phone's outbox hands it over."""
    return UpdateBody(
        task=TASK,
        device=behind.phone.device,
        update=read_lease(sealed).lease,
        codec="float32",
        shards=1,
        data=data,
        sealed=sealed,
        key=behind.phone.key,
    )


@contextmanager
def opened(
    folder: Path,
    world: World | None = None,
    *,
    wrap: Callable[[EventLog], EventLog] = lambda log: log,
    outside: Outside | None = None,
) -> Iterator[Behind]:
    """A gateway before a world, by default one of small updates; `wrap` puts something between it and the log."""
    world = world or World(policy())
    founded = written(DeploymentFounded(deployment=DEPLOYMENT))
    world.log.append([Draft(topic="tasks", partition=0, value=founded)])
    phone = open_identity(folder / "phone", "phone", secret=hashlib.sha256(b"phone").digest())
    with served(wrap(world.log), folder / "gateway", outside=outside) as url:
        yield Behind(world, url, phone, folder)


def wait_until(is_so: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Wait, with an end."""
    give_up_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up_s, "not within its time"
        time.sleep(0.005)
