"""Tasks and models: what everybody may read, as it stands in the log; models from a bounded cache on disk.

A model is named by its digest and never changes, so that anything between device and gateway may keep it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.refusals import LATER, SOON, Overloaded, Unknown, Unreadable
from schemas.http.device_protocol import APPENDED, BODY_TYPE, CODEC, RECORD_TYPE, RETRY
from schemas.identifiers import BodyRef
from schemas.rollouts import choose, write_production
from streams.bodies import Absent, BodyReader
from streams.log import EventLog, LogError, Record

CACHE_BYTES_MAX = 4 * 2**30
FETCHED_WITHIN_S = 60.0
# Each has a whole model in memory, and a thread that appends would have otherwise.
FETCHES_MAX = 2
IMMUTABLE = "public, max-age=31536000, immutable"
_DIGEST = re.compile("[0-9a-f]{64}")
_DEVICE, _COHORT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,62})?"), re.compile(r"[A-Za-z0-9._-]{0,32}")
# One range: thousands of a byte each would cost a hundred times what they bring.
_RANGE = re.compile("bytes=([0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})")


@dataclass(slots=True, eq=False)
class ModelCache:
    """Models as files, the one that was asked for longest ago leaves first. Each is fetched once for all who wait."""

    log: EventLog
    folder: Path
    bytes_max: int = CACHE_BYTES_MAX
    _sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _fetching: dict[str, asyncio.Task[Path]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES_MAX))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            # What an earlier process left half written has another name.
            if _DIGEST.fullmatch(path.name):
                self._sizes[path.name] = path.stat().st_size
            else:
                path.unlink()

    async def open(self, ref: BodyRef) -> Path:
        """The file with the bytes of a model. Raises Unknown, Overloaded."""
        name = ref.sha256.hex()
        if name in self._sizes:
            self._sizes.move_to_end(name)
            return self.folder / name
        fetching = self._fetching.get(name)
        if fetching is None:
            fetching = self._fetching[name] = asyncio.create_task(self._fetch(ref, name))
            fetching.add_done_callback(lambda _: self._fetching.pop(name, None))
        # Shielded: the first who asked may leave, and the others still wait.
        return await asyncio.shield(fetching)

    async def _fetch(self, ref: BodyRef, name: str) -> Path:
        path = self.folder / name
        # Anybody may ask, and for all models at once.
        async with self._turns:
            try:
                data = await asyncio.to_thread(self._read, ref)
            except LogError as error:
                raise Overloaded("Kafka does not give the model now.", code="log_away") from error
            if isinstance(data, Absent):
                raise Unknown("The log no longer holds this model.", code="model_gone")
            # Under another name until it is whole: the next process believes what it finds.
            written = path.with_suffix(".new")
            await asyncio.to_thread(written.write_bytes, data)
        written.replace(path)
        self._sizes[name] = len(data)
        self._make_room()
        return path

    def _read(self, ref: BodyRef) -> bytes | Absent:
        reader = BodyReader(self.log, ref.topic, ref.partition)
        try:
            return reader.fetch(ref, timeout_s=FETCHED_WITHIN_S)
        finally:
            reader.close()

    def _make_room(self) -> None:
        # The newest stays, even one that is larger than the cache: somebody is waiting for it.
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self.bytes_max:
            oldest, _ = self._sizes.popitem(last=False)
            (self.folder / oldest).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Downloads:
    """The resources that everybody may read."""

    catalogue: Catalogue
    models: ModelCache

    async def tell_deployment(self, request: Request) -> Response:
        """The record that founded the deployment."""
        del request
        if (founding := self.catalogue.founding) is None:
            raise Unknown("The deployment has no name yet.", code="not_founded")
        return _tell_record(founding)

    async def tell_task(self, request: Request) -> Response:
        """The record in which the operator created a task."""
        found = self.catalogue.find_task(request.path_params["task"])
        if found is None:
            raise Unknown("There is no such task here.", code="unknown_task")
        return _tell_record(found.record)

    async def tell_production(self, request: Request) -> Response:
        """What is in production of a task, with the records that say so; for a device that is named what it gets."""
        task, device = request.path_params["task"], request.query_params.get("device", "")
        cohort = request.query_params.get("cohort", "")
        if not (_DEVICE.fullmatch(device) and _COHORT.fullmatch(cohort)):
            raise Unreadable("device and cohort are names as a check-in has them.")
        if self.catalogue.find_task(task) is None:
            raise Unknown("There is no such task here.", code="unknown_task")
        standing = self.catalogue.find_production(task)
        chosen = choose(task, device, cohort=cohort, standing=standing) if device else None
        # A device that finds its own version needs to know of a trial, too.
        if (chosen if device else standing.promoted or standing.candidate) is None:
            raise Unknown("No version of this task is in production.", code="nothing_promoted")
        body = write_production(task, standing, chosen=chosen)
        # It changes with each step of the rollout; the models that it names never do.
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Cache-Control": "no-cache", RETRY: str(LATER)}
        if _names(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def fetch_model(self, request: Request) -> Response:
        """The bytes of a model, whole or a range of them."""
        name = request.path_params["sha256"]
        ref = self.catalogue.find_model(bytes.fromhex(name)) if _DIGEST.fullmatch(name) else None
        if ref is None:
            raise Unknown("There is no model with this digest here.", code="model_unknown")
        headers = {"ETag": f'"{name}"', "Cache-Control": IMMUTABLE, CODEC: ref.codec, RETRY: str(SOON)}
        if _names(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        if not _RANGE.fullmatch(request.headers.get("range", "bytes=0-")):
            raise Unreadable("One range of bytes at a time: bytes=FIRST-LAST.")
        return FileResponse(await self.models.open(ref), media_type=BODY_TYPE, headers=headers)


def _names(given: str, etag: str) -> bool:
    return given == "*" or etag in [each.strip().removeprefix("W/") for each in given.split(",")]


def _tell_record(record: Record) -> Response:
    headers = {APPENDED: str(record.time_ms), RETRY: str(SOON), "Cache-Control": "no-cache"}
    return Response(record.value, media_type=RECORD_TYPE, headers=headers)
