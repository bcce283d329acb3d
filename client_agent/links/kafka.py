"""The link over the log itself: for devices that may reach Kafka, such as a fleet's, and for tests in memory.

Bodies and messages of all devices in the process are held back and appended together, messages many to a record: an
append and a record cost more than the bytes in them. Each task and model is fetched once for all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import structlog

from client_agent.answers import is_believed
from client_agent.link import LinkUnavailable, ModelMissing, StoredBody, UpdateBody
from schemas.canonical import MalformedError, decode
from schemas.certificates import Certified, Trust, parse_certified
from schemas.creations import find_creation, find_deployment
from schemas.events import Answer, Outcome, TaskCreated
from schemas.identifiers import BodyRef
from schemas.tensors import BodyError, Floats, model_bytes_max, unpack
from schemas.topics import (
    ANSWERS,
    CHECKINS,
    ENROLMENTS,
    MODELS,
    TASKS,
    UPDATES,
    Topic,
    answer_partition,
    body_place,
    partition_of,
)
from streams.bodies import Absent, BodyReader, Upload, store_all
from streams.log import Draft, EventLog, LogUnavailable, OffsetLost, Record, TopicPartition, scan
from streams.packing import append_packed
from streams.retry import retry_until_available

K = TypeVar("K")
V = TypeVar("V")

Keep = Callable[[Outcome, bytes], None]

MODELS_MAX = 6
TASKS_MAX = 256
# Answers taken in one step: whoever writes more than a device can read must not keep it from its work.
ANSWERS_MAX = 10_000
# Bodies held back beyond this are stored at once: the aggregator would wait for bytes that wait for company.
HELD_BACK_BYTES_MAX = 4 * 2**20

logger = structlog.get_logger(__name__)


class KafkaLink:
    """A `Link` that appends to the log and reads from it; the log stays open when it is closed.

    `operator` is the operator's public key: nothing is passed on for which the operator does not vouch. It hears the
    answers from now on: an answer that came earlier is given again when the device asks again.

    `keep` gets each outcome as the aggregator signed it, before anybody obeys it: a device may prove it later.
    """

    def __init__(
        self, log: EventLog, operator: bytes, devices: Iterable[str], *, keep: Keep = lambda outcome, message: None
    ) -> None:
        self._log, self._trust, self._keep = log, Trust(operator), keep
        self._devices = frozenset(devices)
        self._answer_places = {
            TopicPartition(ANSWERS.name, answer_partition(device, log.partitions)) for device in self._devices
        }
        # One reader for all partitions, because each reader has connections and buffers of its own.
        self._answers = log.bulk_reader({at: log.bounds(at).end for at in sorted(self._answer_places)})
        self._drafts: list[Draft] = []
        self._bodies: list[UpdateBody] = []
        self._stored: list[StoredBody] = []
        self._tasks: OrderedDict[str, TaskCreated] = OrderedDict()
        self._models: OrderedDict[bytes, Floats] = OrderedDict()
        self._body_readers: dict[TopicPartition, BodyReader] = {}

    def check_in(self, task: str, message: bytes) -> None:
        """Append the check-in with the next `send`."""
        self._hold_back(CHECKINS, task, message=message)

    def abandon(self, task: str, message: bytes) -> None:
        """Append the report with the next `send`, where the selector reads."""
        self._hold_back(CHECKINS, task, message=message)

    def enrol(self, population: str, message: bytes) -> None:
        """Append the request with the next `send`."""
        self._hold_back(ENROLMENTS, population, message=message)

    def store(self, body: UpdateBody) -> None:
        """Store the body with the next `collect_stored`, or now when a lot is held back."""
        self._bodies.append(body)
        if sum(len(held.data) for held in self._bodies) >= HELD_BACK_BYTES_MAX:
            self._store_bodies()

    def submit(self, task: str, message: bytes) -> None:
        """Append the update with the next `send`."""
        self._hold_back(UPDATES, task, message=message)

    def collect_stored(self) -> list[StoredBody]:
        """Store the bodies held back, all in one append. Those lost with the broker are missing from the result."""
        self._store_bodies()
        stored, self._stored = self._stored, []
        return stored

    def send(self) -> None:
        """Append the messages held back, all together and many to a record; they are lost when no broker answers."""
        drafts, self._drafts = self._drafts, []
        if not drafts:
            return
        try:
            append_packed(self._log, drafts)
        except LogUnavailable as error:
            logger.warning("records_lost", records=len(drafts), error=str(error))

    def read_answers(self, timeout_s: float) -> list[Answer]:
        """Every answer to this process's devices that has arrived; waits up to `timeout_s` for the first."""
        records = list[Record]()
        with _unavailable_as_link_error():
            try:
                records += self._answers.poll(timeout_s)
                # A poll ends at the first records; what else has arrived is handed out in the same step.
                while len(records) < ANSWERS_MAX and (more := self._answers.poll(0)):
                    records += more
                if records:
                    self._learn_deployment()
            except OffsetLost:
                self._skip_lost_answers()
        answers = [(record, answer) for record in records if (answer := self._read_answer(record)) is not None]
        for record, answer in answers:
            if isinstance(answer, Outcome):
                self._keep(answer, record.value or b"")
        return [answer for _, answer in answers]

    def find_task(self, name: str) -> TaskCreated | None:
        """The first creation of the task in the log."""
        # A task's creation never changes, so it is read once.
        if name not in self._tasks:
            at = TopicPartition(TASKS.name, partition_of(name, self._log.partitions))
            with _unavailable_as_link_error():
                self._learn_deployment()
                created = find_creation(
                    scan(self._log, at),
                    name,
                    operator=self._trust.operator,
                    partitions=self._log.partitions,
                    deployment=self._trust.deployment,
                )
            if created is not None:
                _remember(self._tasks, (name, created), limit=TASKS_MAX)
        return self._tasks.get(name)

    def fetch_model(self, created: TaskCreated, ref: BodyRef, *, size: int, timeout_s: float) -> Floats:
        """The vector, downloaded once for all devices of the process."""
        place = TopicPartition(MODELS.name, partition_of(created.task, self._log.partitions))
        # The address comes with an answer: it must not make a device read what no model is.
        if (ref.topic, ref.partition) != place:
            raise ModelMissing(f"the model in {ref} is in no place of models of task {created.task!r}")
        # By digest, which the lease names: two addresses of the same bytes are one download.
        if ref.sha256 not in self._models:
            model = self._download(ref, size, timeout_s=timeout_s)
            _remember(self._models, (ref.sha256, model), limit=MODELS_MAX)
        self._models.move_to_end(ref.sha256)
        # Two tasks may name the same bytes, and then another number of parameters.
        if self._models[ref.sha256].size != size:
            raise ModelMissing(f"the model in {ref} has {self._models[ref.sha256].size} parameters")
        return self._models[ref.sha256]

    def close(self) -> None:
        """Close the readers; the log stays open."""
        self._answers.close()
        for reader in self._body_readers.values():
            reader.close()

    def _learn_deployment(self) -> None:
        """From then on what the same operator said in another deployment is nothing here."""
        if self._trust.deployment is None:
            founded = scan(self._log, TopicPartition(TASKS.name, 0))
            self._trust.deployment = find_deployment(founded, self._trust.operator)

    def _read_answer(self, record: Record) -> Answer | None:
        """The answer in a record; None for others' devices, or where the role that answers so has not signed it."""
        message, answer = _parse_answer(record.value or b"")
        # A partition also holds others' answers, and to check a signature takes longer than to read ten of them.
        if message is None or answer is None or answer.device not in self._devices:
            return None
        # Each role has its own words: a selector that is taken over must not report outcomes.
        return answer if is_believed(answer, message, trust=self._trust, at_ms=record.time_ms) else None

    def _hold_back(self, topic: Topic, task: str, *, message: bytes) -> None:
        self._drafts.append(Draft(topic=topic.name, partition=partition_of(task, self._log.partitions), value=message))

    def _store_bodies(self) -> None:
        # Emptied first: each device repeats a body that is lost, and a second copy here would be stored twice.
        bodies, self._bodies = self._bodies, []
        try:
            addresses = store_all(self._log, [_as_upload(body, self._log.partitions) for body in bodies])
        except LogUnavailable as error:
            logger.warning("bodies_lost", bodies=len(bodies), error=str(error))
            return
        self._stored += [
            StoredBody(device=body.device, update=body.update, address=address)
            for body, address in zip(bodies, addresses, strict=True)
        ]

    def _download(self, ref: BodyRef, size: int, *, timeout_s: float) -> Floats:
        at = TopicPartition(ref.topic, ref.partition)
        where = f"the model in {ref}"
        if at not in self._body_readers:
            self._body_readers[at] = BodyReader(self._log, at.topic, at.partition, bulk=True)
        try:
            with _unavailable_as_link_error():
                reader = self._body_readers[at]
                data = reader.fetch(ref, size_max=model_bytes_max(size), timeout_s=timeout_s)
            if isinstance(data, Absent):
                raise ModelMissing(f"{where} is gone: {data.reason}")
            return unpack(data, "float32", count=size)
        except BodyError as error:
            raise ModelMissing(f"{where} cannot be read: {error}") from error

    def _skip_lost_answers(self) -> None:
        """Continue at the end of each partition whose answers were deleted, and unchanged in the others."""
        for at in self._answer_places:
            position, bounds = self._answers.position(at), self._log.bounds(at)
            self._answers.seek(at, position if bounds.beginning <= position <= bounds.end else bounds.end)


class OwningKafkaLink(KafkaLink):
    """A link on a log of its own, which it closes too."""

    def close(self) -> None:
        """Close the readers and the log."""
        super().close()
        self._log.close()


def open_link(open_log: Callable[[], EventLog], devices: Sequence[str], *, operator: bytes) -> OwningKafkaLink:
    """A link on a log of its own. With all but the devices bound it is an `OpenLink`, for another process too."""
    log = open_log()
    # As a device does that runs: a broker that is away, or still makes its topics, is waited for.
    return retry_until_available(partial(OwningKafkaLink, log, operator, devices))


@contextmanager
def _unavailable_as_link_error() -> Iterator[None]:
    try:
        yield
    except LogUnavailable as error:
        raise LinkUnavailable(str(error)) from error


def _as_upload(body: UpdateBody, partitions: int) -> Upload:
    # By the update's id, so that the chunks of a repeated upload have the keys of the first.
    at = TopicPartition(*body_place(body.task, body.device, shards=body.shards, partitions=partitions))
    return Upload(at=at, upload_id=body.update, data=body.data, codec=body.codec, known_sha256=body.known_sha256)


def _remember(cache: OrderedDict[K, V], item: tuple[K, V], *, limit: int) -> None:
    cache[item[0]] = item[1]
    while len(cache) > limit:
        cache.popitem(last=False)


def _parse_answer(data: bytes) -> tuple[Certified | None, Answer | None]:
    """A message and what it says, whoever it is from; nothing where it is no answer."""
    try:
        message = parse_certified(data)
        return message, decode(message.payload, Answer)  # type: ignore[arg-type]
    except MalformedError:
        return None, None
