"""One errand at a time to a gateway: a message until it has its answer, a task, a model."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass, field

import structlog

from client_agent.link import ModelMissing
from client_agent.links.requests import GatewayClient, Reply, Unreachable, draw_wait_s
from schemas.certificates import Trust
from schemas.creations import find_deployment, parse_creation
from schemas.events import TaskCreated
from schemas.http.device_protocol import APPENDED, LEASE, RECORD_TYPE, WAIT_S_MAX, write_bytes
from schemas.identifiers import BodyRef
from schemas.tensors import model_bytes_max

# How long one message is repeated before the device says it again itself.
PATIENCE_S = 120.0
_MILLISECONDS = re.compile("[0-9]{1,15}")
WAITING = {"Prefer": f"wait={WAIT_S_MAX}", "Content-Type": RECORD_TYPE}

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record of `tasks`, as a gateway passes it on."""

    value: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Errands:
    """What a link asks its gateway for."""

    client: GatewayClient
    trust: Trust
    # By device: before that it was asked not to come again.
    _not_before_s: dict[str, float] = field(default_factory=dict)

    async def exchange(self, path: str, message: bytes, *, device: str, sealed: bytes = b"") -> Reply | None:
        """The answer to a message; None after a while without any."""
        headers = {**WAITING, **({LEASE: write_bytes(sealed)} if sealed else {})}
        method, data, give_up_s = "POST", message, time.monotonic() + PATIENCE_S
        await asyncio.sleep(self._not_before_s.get(device, 0.0) - time.monotonic())
        while time.monotonic() < give_up_s:
            try:
                reply = await self.client.ask(method, path, data=data, headers=headers)
            except Unreachable as error:
                logger.info("gateway_unreachable", reason=str(error))
                wait_s = draw_wait_s(error.window)
                self._not_before_s[device] = time.monotonic() + wait_s
                await asyncio.sleep(wait_s)
                continue
            location = reply.headers.get("Location")
            if reply.status != 202 or location is None:
                return reply
            # It was taken, and is only asked about from here on; a gateway that holds no request is asked slowly.
            method, path, data = "GET", location, b""
            await asyncio.sleep(draw_wait_s(reply.window))
        return None

    async def find_task(self, name: str) -> TaskCreated | None:
        """How a task was created, as the operator signed it. Raises Unreachable."""
        if self.trust.deployment is None:
            founding = await self._read_record("v1/deployment")
            self.trust.deployment = find_deployment([founding] if founding else [], self.trust.operator)
        entry = await self._read_record(f"v1/tasks/{name}")
        created = None if entry is None else parse_creation(entry, self.trust.operator)
        if created is None or (created.task, created.deployment) != (name, self.trust.deployment):
            return None
        return created

    async def _read_record(self, path: str) -> _Entry | None:
        reply = await self.client.ask("GET", path)
        # Of no length, and not in any digits: Python reads neither of them without an error.
        time_ms = _MILLISECONDS.fullmatch(reply.headers.get(APPENDED, ""))
        return _Entry(reply.data, int(time_ms[0])) if reply.status == 200 and time_ms else None

    async def download(self, ref: BodyRef, size: int) -> bytes:
        """The bytes of a model; a download that is cut goes on where it was. Raises ModelMissing."""
        name, bytes_max, data = ref.sha256.hex(), model_bytes_max(size), bytearray()
        while True:
            try:
                async for piece in self.client.read_from(f"v1/models/{name}", len(data), etag=f'"{name}"'):
                    data += piece
                    # Counted as it comes, so that no gateway fills a device's memory.
                    if len(data) > bytes_max:
                        raise ModelMissing(f"the model in {ref} is longer than one of {size} parameters can be")
                break
            except Unreachable as error:
                await asyncio.sleep(draw_wait_s(error.window))
        if hashlib.sha256(data).digest() != ref.sha256:
            raise ModelMissing(f"what the gateway gives for the model in {ref} are other bytes")
        return bytes(data)
