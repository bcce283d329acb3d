"""What comes into a simulated world from people and strangers: operators, repeats, junk, cheats; and compaction."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import Any, get_args

import msgspec
import numpy as np
from msgspec import UNSET

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import parse_certified
from schemas.devices import name_device, tag_public_key
from schemas.events import (
    Answer,
    Granted,
    LearningFailure,
    LeaseAbandoned,
    Tick,
    UpdateSubmitted,
    VersionEvaluated,
)
from schemas.identifiers import SALT_BYTES, BodyRef
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.leases import read_lease
from schemas.signing import sign
from schemas.tensors import pack
from schemas.topics import (
    ANSWERS,
    BODIES,
    CHECKINS,
    CLOCK,
    ENROLMENTS,
    EVALUATIONS,
    JOURNALS,
    MASKS,
    MODELS,
    PARTIALS,
    PUBLISHED,
    SHARDS,
    SNAPSHOTS,
    TASKS,
    UPDATES,
    answer_partition,
)
from streams.log import Draft, TopicPartition, scan
from streams.memory import MemoryLog
from streams.packing import PACKED_BYTES_MAX, measure
from streams.packing import pack as pack_messages
from tests.trials.simulation.devices import identity
from tests.trials.simulation.faults import Faults
from tests.trials.simulation.tasks import PARAMETERS, Task
from tests.worlds.builders import (
    DEPLOYMENT,
    device_checked_in,
    device_key,
    scored,
    signed,
    task_closed,
    task_paused,
    task_resumed,
    written,
)
from tests.worlds.identity.enrolling import (
    device_revoked,
    enrolment_closed,
    enrolment_opened,
    ordered,
    signed_token,
    subject_id,
)
from tests.worlds.rounds import evaluator_id

# Every topic but `models`, which devices may only read, and those that are there in some worlds.
WRITABLE = tuple(
    topic.name
    for topic in (CHECKINS, UPDATES, BODIES, SHARDS, ANSWERS, TASKS, EVALUATIONS, PARTIALS, PUBLISHED, SNAPSHOTS)
)

JOURNAL_NAMES = tuple(topic.name for topic in JOURNALS)
SOMETIMES = (ENROLMENTS.name, MASKS.name, CLOCK.name, *JOURNAL_NAMES)


class Meddler:
    """Appends what nobody asked for."""

    def __init__(self, log: MemoryLog, tasks: list[Task], faults: Faults) -> None:
        self._log, self._tasks, self._faults, self._random = log, tasks, faults, faults.random
        self._strangers = self._changes = 0
        # Only where a registrar reads them, so that the worlds of recorded seeds stay what they were.
        self._writable = (*WRITABLE, ENROLMENTS.name) if faults.rates["enrol"] else WRITABLE
        # The same where a helper's words are read.
        self._heard = (MASKS.name,) if any(task.rules.is_masked for task in tasks) else ()
        # And where a rollout waits for time to pass; there strangers write into journals too.
        rolls_out = any(task.rules.rollout is not UNSET for task in tasks)
        self._heard += (CLOCK.name,) if rolls_out else ()
        self._writable += (*self._heard, *(JOURNAL_NAMES if rolls_out else ()))

    def meddle(self, kind: str) -> None:
        """One act of this kind, on one task."""
        getattr(self, f"_{kind}")(self._random.choice(self._tasks))

    def resume(self) -> None:
        """The operator lets every task go on."""
        for task in self._tasks:
            self._append(task, TASKS.name, written(task_resumed(self._number(), task=task.name)))

    def _number(self) -> int:
        """Each pause and resume has a number of its own."""
        self._changes += 1
        return self._changes

    def _append(self, task: Task, topic: str, value: bytes) -> None:
        self._log.append([Draft(topic=topic, partition=task.partition, value=value)])

    def _repeat(self, task: Task) -> None:
        """A record of a device, byte for byte, at any later time."""
        topic = self._random.choice(
            (UPDATES.name, UPDATES.name, CHECKINS.name, EVALUATIONS.name, TASKS.name, *self._heard)
        )
        if records := [*scan(self._log, TopicPartition(topic, task.partition))]:
            self._append(task, topic, self._random.choice(records).value or b"")

    def _junk(self, task: Task) -> None:
        topic = self._random.choice((UPDATES.name, CHECKINS.name, TASKS.name, EVALUATIONS.name, *self._heard))
        self._append(task, topic, self._random.randbytes(self._random.choice((0, 1, 40))))

    def _cheat(self, task: Task) -> None:
        """A real lease, used with a body that is another one, broken, or nowhere."""
        cheat = identity(self._random.choice(task.devices))
        granted = self._granted(cheat.device)
        if granted is None:
            return
        huge = np.full(PARAMETERS, 1e6, np.float32)
        body = self._random.choice((b"", b"no frame", pack(huge), pack(huge * np.nan), pack(huge[:2])))
        inline = self._random.choice((body, body, None))
        topic, offsets = (UPDATES.name, ()) if inline is not None else (BODIES.name, (self._random.randrange(9),))
        ref = BodyRef(
            topic=topic,
            partition=task.partition,
            offsets=offsets,
            sha256=hashlib.sha256(body).digest(),
            size=len(body),
            codec=self._random.choice((task.rules.compression.codec, "float32")),
        )
        submitted = UpdateSubmitted(sealed=granted.sealed, samples=9, metrics=(), body=ref, inline=inline)
        self._append(task, UPDATES.name, sign(encode(submitted), cheat.key))

    def abandon(self) -> int:
        """A device gives up a lease that it has, had, or never knew to be over; the partition where it says so."""
        task = self._random.choice(self._tasks)
        device = identity(self._random.choice(task.devices))
        granted = self._granted(device.device, is_newest=self._random.random() < 0.7)
        # An answer may be of another task's lease, which this one does not know either.
        lease = "0" * 32 if granted is None else read_lease(granted.sealed).lease
        abandoned = LeaseAbandoned(
            task=task.name,
            device=device.device,
            public_key=device.public_key,
            lease=lease,
            reason=self._random.choice((*get_args(LearningFailure), "no_space", "overdue")),
        )
        self._append(task, CHECKINS.name, signed(abandoned, device.key))
        return task.partition

    def enrol(self, now_ms: int) -> int:
        """An order, or a request of a device, with a token that may be bad, or any earlier one; its partition."""
        task, draw = self._random.choice(self._tasks), self._random
        key, name = device_key(f"member {draw.randrange(4)}"), f"person {draw.randrange(3)}"
        here = {"population": task.name}
        earlier = [*scan(self._log, TopicPartition(ENROLMENTS.name, task.partition))]
        if earlier and draw.random() < 0.3:
            self._append(task, ENROLMENTS.name, draw.choice(earlier).value or b"")
            return task.partition
        said: Any = draw.choice(
            (
                enrolment_opened(self._number(), quota=draw.randint(1, 2), **here),
                enrolment_closed(draw.randint(1, self._number()), **here),
                device_revoked(name_device(tag_public_key(key))),
                device_revoked(subject=subject_id(name), reason="forgotten", **here),
                *[None] * 8,
            )
        )
        if said is not None:
            self._append(task, ENROLMENTS.name, ordered(said))
            return task.partition
        nonce = draw.randbytes(SALT_BYTES)
        good = signed_token(name, at_ms=now_ms, nonce=nonce, **here)
        token = draw.choice((good, good, None, signed_token(name, at_ms=0, nonce=nonce, **here), draw.randbytes(9)))
        request = ask_to_enrol(task.name, key, token=token)
        self._append(task, ENROLMENTS.name, sign_request(request, key, deployment=DEPLOYMENT))
        return task.partition

    def _granted(self, device: str, *, is_newest: bool = False) -> Granted | None:
        """Any lease that the device ever got, or its newest."""
        found = []
        for record in scan(self._log, TopicPartition(ANSWERS.name, answer_partition(device, self._log.partitions))):
            # What a hostile writer has left there is no answer.
            with contextlib.suppress(MalformedError):
                answer: Any = decode(parse_certified(record.value or b"").payload, Answer)  # type: ignore[arg-type]
                if isinstance(answer, Granted) and answer.device == device:
                    found.append(answer)
        if is_newest and found:
            return found[-1]
        return self._random.choice(found) if found else None

    def _hostile(self, task: Task) -> None:
        """Somebody who may write everywhere but to a journal, and holds no key: nothing of it may be believed."""
        topic = self._random.choice(self._writable)
        here = [*scan(self._log, TopicPartition(topic, task.partition))]
        elsewhere = [*scan(self._log, TopicPartition(self._random.choice(self._writable), task.partition))]
        shapes = [self._random.randbytes(40), b"", b"\x91" * 5_000, b"[" * 5_000, b"9" * 5_000, b"[1]", b"{}"]
        if here:
            shapes += [self._bend(self._random.choice(here).value or b"") for _ in range(6)]
        # A copy at home is a repeat, which has a step of its own; a body's bytes mean nothing in any place.
        foreign = [record for record in elsewhere if record.topic != topic]
        if foreign:
            shapes += [self._random.choice(foreign).value or b"" for _ in range(3)]
        keys = [None, *(record.key for record in here[-3:])]
        value = self._random.choice(shapes)
        # An announcement comes home by way of another topic: a true one twice, which its id tells to whoever reads it.
        if topic == PUBLISHED.name and value in {record.value for record in here}:
            return
        # Before its first claim a journal has no writer to tell a stranger from.
        if topic in JOURNAL_NAMES and not here:
            return
        self._faults.hits[f"hostile in {topic}"] += 1
        self._log.append([Draft(topic=topic, partition=task.partition, value=value, key=self._random.choice(keys))])

    def _pack(self, task: Task) -> None:
        """Many messages in one record, of which each is an input; or what only looks so."""
        draw, topic = self._random, self._random.choice((CHECKINS.name, UPDATES.name))
        said = [record.value or b"" for record in scan(self._log, TopicPartition(topic, task.partition))][-40:]
        noise = [encode(Tick()), b"", draw.randbytes(40)]
        messages = [draw.choice([*said, *map(self._bend, said), *noise]) for _ in range(draw.choice((2, 9, 64)))]
        while sum(map(measure, messages)) > PACKED_BYTES_MAX // 2:
            messages = messages[: len(messages) // 2]
        value = pack_messages(messages or [b""])
        self._append(task, topic, value if draw.random() < 0.8 else self._bend(value))

    def _bend(self, value: bytes) -> bytes:
        """The same with a bit changed, without its end, or with more behind it."""
        at = self._random.randrange(max(1, len(value)))
        flipped = value[:at] + bytes([value[at] ^ 1 << self._random.randrange(8)]) + value[at + 1 :] if value else b"?"
        return self._random.choice((flipped, flipped, value[:at], value + b"\x00"))

    def _intruder(self, task: Task) -> None:
        """A device that never comes back, or one that gives itself out for another; by any clock."""
        self._strangers += 1
        stranger = identity(f"x-{self._strangers % 20}")
        known = identity(self._random.choice(task.devices))
        now_ms = self._log._clock() + self._number()
        checkin = device_checked_in(
            self._random.choice((known, stranger)).device,
            task=self._random.choice((task.name, task.name, "nowhere")),
            public_key=stranger.public_key,
            sent_ms=self._random.choice((now_ms, now_ms, 0, 1 << 60)),
            battery_percent=self._random.randrange(101),
            samples=3,
        )
        self._append(task, CHECKINS.name, signed(checkin, stranger.key))

    def _operate(self, task: Task) -> None:
        """Pause, resume, say the creation once more, or report an evaluation."""
        tasks = TopicPartition(TASKS.name, task.partition)
        kind = self._random.choice(("pause", "resume", "resume", "again", "evaluate"))
        if kind == "pause":
            self._append(task, TASKS.name, written(task_paused(self._number(), task=task.name)))
        elif kind == "resume":
            self._append(task, TASKS.name, written(task_resumed(self._number(), task=task.name)))
        elif kind == "again":
            self._append(task, TASKS.name, next(scan(self._log, tasks)).value or b"")
        else:
            for number in range(6 if task.rules.evaluation.has_finals else 1):
                self._append(task, EVALUATIONS.name, self._score(task, number))

    def _score(self, task: Task, number: int) -> bytes:
        """What an evaluator says; where a quorum decides, one of three, in its own name or now and then another's."""
        evaluated = VersionEvaluated(task=task.name, version=0, metrics={"accuracy": 0.5}, samples=9, cohort="")
        if not task.rules.evaluation.has_finals:
            return scored(evaluated)
        # Another generator, so that the worlds of recorded seeds stay what they were.
        chance = random.Random(f"score {number} {self._changes} {self._log._clock()}")
        serial = chance.randrange(3)
        name = serial if chance.random() < 0.9 else chance.randrange(4)
        said = msgspec.structs.replace(
            evaluated,
            version=chance.randint(0, 2),
            metrics={"accuracy": chance.choice((0.4, 0.5, 0.6, 0.9))},
            cohort=chance.choice(("", "", "", "west")),
            evaluator=evaluator_id(name),
        )
        return scored(said, serial=serial)

    def _close(self, task: Task) -> None:
        self._append(task, TASKS.name, written(task_closed(task=task.name)))

    def _compact(self, task: Task) -> None:
        """The broker keeps the newest record of each key."""
        for topic in (MODELS.name, SNAPSHOTS.name):
            self._compacted(TopicPartition(topic, task.partition))

    def _compacted(self, at: TopicPartition) -> None:
        partition = self._log._partitions[at]
        newest: set[bytes] = set()
        for entry in reversed(partition.entries):
            if entry.record is not None and entry.record.key is not None:
                if entry.record.key in newest:
                    self._faults.hits["records compacted"] += 1
                    entry.record = None
                else:
                    newest.add(entry.record.key)
