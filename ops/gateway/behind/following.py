"""Threads that follow the log for a gateway: the catalogue from the beginning on, answers from a little while ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing

import structlog

from ops.gateway.behind.catalogue import TOPICS, Catalogue
from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust, name_speaker, parse_certified
from schemas.events import Answer
from schemas.topics import ANSWERS, TASKS
from streams.log import Bounds, EventLog, LogError, Reader, Record, TopicPartition, scan

POLL_S = 0.2
REST_S = 0.001
# Between two tries to read a log that does not answer.
RETRY_S = 0.5
# A gateway that was started again knows the answers that its devices have been waiting for meanwhile.
ANSWERS_SINCE_S = 600

Post = Callable[[list[bytes]], object]

logger = structlog.get_logger(__name__)


def follow_catalogue(log: EventLog, catalogue: Catalogue, *, stop: threading.Event) -> None:
    """Fold what there is to know until `stop`; `catalogue.is_complete` says that it has caught up."""
    _insist(lambda: _fold(log, catalogue, stop=stop), stop)


def follow_answers(log: EventLog, trust: Trust, *, post: Post, stop: threading.Event) -> None:
    """Post what selector and aggregator have answered lately, and what they answer from now on, until `stop`."""
    # From here on and not from now: an answer may have come while this process was being started.
    since_ms = round((time.time() - ANSWERS_SINCE_S) * 1000)
    _insist(lambda: _read_answers(log, trust, post=post, since_ms=since_ms, stop=stop), stop)


def _insist(work: Callable[[], None], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            work()
        except LogError as error:
            # Begun again from its start: what it does is the same however often it reads a record.
            logger.warning("following_interrupted", error=str(error))
            stop.wait(RETRY_S)


def _fold(log: EventLog, catalogue: Catalogue, *, stop: threading.Event) -> None:
    # The founding names the deployment, without which no creation can be judged.
    while not _learn_deployment(log, catalogue):
        if stop.wait(RETRY_S):
            return
    catalogue.standing.restart()
    bounds = log.list_bounds([TopicPartition(topic, number) for topic in TOPICS for number in range(log.partitions)])
    reader = log.reader({at: bound.beginning for at, bound in bounds.items()})
    with closing(reader):
        while not stop.is_set():
            for record in _poll(reader, stop):
                catalogue.apply(record)
            # Once and no more: to ask for so many positions costs more than to wait for records.
            if not catalogue.is_complete.is_set() and _has_reached(reader, bounds):
                catalogue.is_complete.set()


def _has_reached(reader: Reader, bounds: Mapping[TopicPartition, Bounds]) -> bool:
    return all(reader.position(at) >= bound.end for at, bound in bounds.items())


def _read_answers(log: EventLog, trust: Trust, *, post: Post, since_ms: int, stop: threading.Event) -> None:
    places = [TopicPartition(ANSWERS.name, number) for number in range(log.partitions)]
    reader = log.reader({at: log.first_since(at, since_ms) for at in places})
    with closing(reader):
        while not stop.is_set():
            if answers := [value for record in _poll(reader, stop) if (value := read_answer(record, trust))]:
                post(answers)


def _learn_deployment(log: EventLog, catalogue: Catalogue) -> bool:
    for record in scan(log, TopicPartition(TASKS.name, 0)):
        catalogue.apply(record)
    return catalogue.deployment is not None


def _poll(reader: Reader, stop: threading.Event) -> list[Record]:
    records = reader.poll(POLL_S)
    if not records:
        # A log in memory does not wait itself, and would be asked without end.
        stop.wait(REST_S)
    return records


def read_answer(record: Record, trust: Trust) -> bytes | None:
    """The answer in a record; None where the role that answers so has not signed it."""
    try:
        message = parse_certified(record.value or b"")
        answer: Answer = decode(message.payload, Answer)  # type: ignore[arg-type]
    except MalformedError:
        return None
    # A stranger who may write to the topic must not be able to put words in the place of an honest answer.
    return record.value if trust.vouches(message, name_speaker(answer), at_ms=record.time_ms) else None
