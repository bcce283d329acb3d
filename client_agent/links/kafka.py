"""What the devices of one process share: the log, one reader of answers, and each task and model fetched once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

import structlog

from schemas.canonical import MalformedError, decode
from schemas.creations import find_creation
from schemas.errors import FedlogError
from schemas.events import Answer, TaskCreated
from schemas.identifiers import BodyRef
from schemas.tensors import BodyError, Floats, unpack
from schemas.topics import ANSWERS, TASKS, partition_of
from streams.bodies import Absent, BodyReader, Upload, store_all
from streams.log import Draft, EventLog, LogUnavailable, OffsetLost, Record, TopicPartition, scan

K = TypeVar("K")
V = TypeVar("V")

MODELS_KEPT = 4
LADEN_BYTES = 4 * 2**20  # of bodies; what waits longer for company holds up the aggregator
TASKS_KEPT = 256

_log = structlog.get_logger(__name__)


class ModelMissing(FedlogError):
    """The model that a lease starts from cannot be read any more, or is not what the lease says."""

    code = "model_missing"


class Link:
    """The only way that devices of this process reach the log; used from one thread.

    Answers are read from now on: what was missed is answered again when a device asks again.
    """

    def __init__(self, log: EventLog, devices: Iterable[str]) -> None:
        self.log = log
        self._devices = frozenset(devices)
        places = {TopicPartition(ANSWERS.name, partition_of(device)) for device in self._devices}
        self._answers = log.bulk_reader({place: log.bounds(place).end for place in sorted(places)})
        self._places = places
        self._outgoing: list[Draft] = []
        self._uploads: list[tuple[str, Upload]] = []
        self._tasks: OrderedDict[str, TaskCreated] = OrderedDict()
        self._models: OrderedDict[bytes, Floats] = OrderedDict()
        self._readers: dict[TopicPartition, BodyReader] = {}

    def send(self, draft: Draft) -> None:
        """Append `draft` with the next `flush`; a device repeats what gets no answer, so it may be lost."""
        self._outgoing.append(draft)

    def flush(self) -> None:
        """Append what is to be sent, in order."""
        drafts, self._outgoing = self._outgoing, []
        if not drafts:
            return
        try:
            self.log.append(drafts)
        except LogUnavailable as error:
            _log.warning("log_unavailable", lost=len(drafts), error=str(error))

    def store(self, device: str, upload: Upload) -> None:
        """Store this body with the next call of `stored`, which may come to nothing."""
        self._uploads.append((device, upload))

    @property
    def is_laden(self) -> bool:
        """Whether so much is to be stored that it should not wait for more."""
        return sum(len(upload.data) for _, upload in self._uploads) >= LADEN_BYTES

    def stored(self) -> list[tuple[str, str, BodyRef]]:
        """Store what is to be stored: each device, the id of its upload, and where that lies now."""
        uploads, self._uploads = self._uploads, []
        try:
            refs = store_all(self.log, [upload for _, upload in uploads])
        except LogUnavailable as error:
            _log.warning("log_unavailable", lost=len(uploads), error=str(error))
            return []
        return [(device, upload.upload_id, ref) for (device, upload), ref in zip(uploads, refs, strict=True)]

    def answers(self, timeout_s: float) -> list[Answer]:
        """What came for this process's devices; empty after `timeout_s` without anything."""
        records = list[Record]()
        try:
            records += self._answers.poll(timeout_s)
            while more := self._answers.poll(0):
                records += more
        except OffsetLost:
            self._find_place()
        found = (_answer(record.value) for record in records)
        return [answer for answer in found if answer is not None and answer.device in self._devices]

    def task(self, name: str) -> TaskCreated | None:
        """How the task was created; None while the log does not know it."""
        if name not in self._tasks:
            place = TopicPartition(TASKS.name, partition_of(name))
            created = find_creation((record.value for record in scan(self.log, place)), name)
            if created is not None:
                _remember(self._tasks, (name, created), most=TASKS_KEPT)
        return self._tasks.get(name)

    def model(self, body: BodyRef, parameters: int) -> Floats:
        """The version in `body`, shape (parameters,), read-only. Raises ModelMissing."""
        if body.sha256 not in self._models:
            _remember(self._models, (body.sha256, self._download(body, parameters)), most=MODELS_KEPT)
        self._models.move_to_end(body.sha256)
        return self._models[body.sha256]

    def _download(self, body: BodyRef, parameters: int) -> Floats:
        place = TopicPartition(body.topic, body.partition)
        where = f"the model in {body}"
        if place not in self._readers:
            self._readers[place] = BodyReader(self.log, place.topic, place.partition, bulk=True)
        try:
            data = self._readers[place].fetch(body)
            if isinstance(data, Absent):
                raise ModelMissing(f"{where} is gone: {data.reason}")
            return unpack(data, "float32", count=parameters)
        except BodyError as error:
            raise ModelMissing(f"{where} cannot be read: {error}") from error

    def _find_place(self) -> None:
        """Go on at the end of each partition whose answers are gone, and in the others where they are."""
        for place in self._places:
            here, bounds = self._answers.position(place), self.log.bounds(place)
            self._answers.seek(place, here if bounds.beginning <= here <= bounds.end else bounds.end)

    def close(self) -> None:
        """Let go of the readers; the log stays open."""
        self._answers.close()
        for reader in self._readers.values():
            reader.close()


def _remember(cache: OrderedDict[K, V], item: tuple[K, V], *, most: int) -> None:
    cache[item[0]] = item[1]
    while len(cache) > most:
        cache.popitem(last=False)


def _answer(data: bytes | None) -> Answer | None:
    try:
        return decode(data or b"", Answer)  # type: ignore[arg-type]
    except MalformedError:
        return None
