"""A model in the log: one flat float32 vector as a body of `models`, written, read and found by its version.

Called by `ops.operator.tasks` for the first model, by the evaluator, and by `ops.operator.model_files`. What is in
production is read from what rollouts have signed in `published`.
"""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass

from ops.history.task_view import TaskView
from ops.operator.errors import ModelGone, NothingPromoted, VersionUnknown
from schemas import tensors
from schemas.certificates import Trust
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.policy import LESS_IS_BETTER
from schemas.rollouts import Standing, Standings, choose
from schemas.topics import MODELS, PUBLISHED, partition_of
from streams import bodies
from streams.log import EventLog, TopicPartition, scan


def store(log: EventLog, flat: tensors.Floats, *, partition: int) -> BodyRef:
    """Write `flat`, shape (parameters,), as a body of `models`."""
    # A name of its own for each attempt: compaction keeps one body a name, and two creators may race.
    return bodies.store(
        log,
        TopicPartition(MODELS.name, partition),
        data=tensors.pack(flat),
        upload_id=uuid.uuid4().hex,
        codec="float32",
    )


def read(log: EventLog, ref: BodyRef, *, parameters: int, timeout_s: float | None = None) -> tensors.Floats:
    """The vector, shape (parameters,). Raises ModelGone when the log no longer holds it, BodyError for other bytes.

    With `timeout_s` it raises LogUnavailable where no broker answers, or the body does not arrive in that time.
    """
    # A reader for each call: versions are read rarely, and an open reader holds a connection.
    with closing(bodies.BodyReader(log, ref.topic, ref.partition)) as reader:
        # The ref stands in the log, and says itself how much memory it would take.
        data = _require(reader.fetch(ref, size_max=tensors.model_bytes_max(parameters), timeout_s=timeout_s), ref)
    return tensors.unpack(data, "float32", count=parameters)


def read_bytes(log: EventLog, ref: BodyRef, *, timeout_s: float) -> bytes:
    """The stored bytes of a model, checked against their digest. Raises ModelGone, LogUnavailable."""
    # Learners come with this, and nothing else here needs them.
    from client_agent.setting import MODEL_BYTES_MAX

    with closing(bodies.BodyReader(log, ref.topic, ref.partition)) as reader:
        return _require(reader.fetch(ref, size_max=MODEL_BYTES_MAX, timeout_s=timeout_s), ref)


def _require(data: bytes | bodies.Absent, ref: BodyRef) -> bytes:
    if isinstance(data, bodies.Absent):
        raise ModelGone(
            f"The body at {ref} is gone ({data.reason}): the policy's [retention] says how many models are kept."
        )
    return data


def choose_best(view: TaskView, metric: str | None = None) -> Version:
    """The version with the evaluator's best score, of several the newest. Raises VersionUnknown."""
    name = metric or view.metric_name or ""
    scores = {version: told.metrics[name] for version, told in view.evaluations.items() if name in told.metrics}
    if not scores:
        raise VersionUnknown(
            f"{view.task!r} has no scores{f' {name!r}' if name else ''} yet: `fedlog evaluate` makes them."
        )
    sign = -1 if name in LESS_IS_BETTER else 1
    return max(scores, key=lambda version: (sign * scores[version], version))


def read_arrays(log: EventLog, view: TaskView, *, version: Version | None = None) -> dict[str, tensors.Floats]:
    """The arrays of a version, by name, read-only; the newest for None. Raises VersionUnknown, ModelGone."""
    from client_agent.learning.layout import Layout, Model

    published = view.published[choose_version(view, version)]
    created = view.created
    if created is None:
        raise VersionUnknown(f"The creation of {view.task!r} cannot be read, and without it no version of it.")
    layout, frozen = Layout(created.tensors, created.policy.parameters.averaged_scale), None
    if created.frozen is not None:
        frozen = read(log, created.frozen, parameters=layout.frozen_size)
    return layout.split(Model(read(log, published.model, parameters=created.parameters), frozen))


def choose_version(view: TaskView, version: Version | None) -> Version:
    """`version` if the task has it, the newest one for None. Raises VersionUnknown."""
    chosen = view.version if version is None else version
    if chosen is None or chosen not in view.published:
        has = f"0 to {view.version}" if view.published else "none yet"
        raise VersionUnknown(f"{view.task!r} has no version {'' if chosen is None else chosen}; it has {has}.")
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who would use a model: a canary is for a share of the devices of some cohorts. Without a name none of them."""

    device: str = ""
    cohort: str = ""


class Production:
    """What is in production of each task, as far as `published` was read; for one thread at a time.

    `operator`: whose rollouts are believed; None believes whoever signed.
    """

    def __init__(self, operator: bytes | None, *, deployment: bytes | None) -> None:
        self._trust = None if operator is None else Trust(operator, deployment)
        self._standings: Standings | None = None
        self._positions: dict[int, int] = {}

    def find(self, log: EventLog, task: TaskId) -> Standing:
        """What is in production of a task now: what is new in the log is read first. Raises LogUnavailable."""
        if self._standings is None:
            self._standings = Standings(self._trust, partitions=log.partitions)
        at = TopicPartition(PUBLISHED.name, partition_of(task, log.partitions))
        for record in scan(log, at, start=self._positions.get(at.partition)):
            self._standings.take(record.value or b"", partition=at.partition, at_ms=record.time_ms)
            # Each record on its own: a reader that fails half-way begins where it was.
            self._positions[at.partition] = record.offset + 1
        return self._standings.find(task)


def choose_promoted(standing: Standing, task: TaskId, *, user: User | None = None) -> Version:
    """What is promoted; for a device in a canary the candidate. Raises NothingPromoted."""
    version = standing.promoted
    if user is not None and user.device:
        version = choose(task, user.device, cohort=user.cohort, standing=standing)
    if version is None:
        tried = "" if standing.candidate is None else f" Version {standing.candidate} is on trial."
        raise NothingPromoted(f"No version of {task!r} is in production.{tried}")
    return version
