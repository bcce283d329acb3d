"""From the sum of a round to the next model: noise, mean, optimizer step; stored before the journal names it.

`compute_release` is the one computation that publishing, recovery and full replay share.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import structlog
from msgspec import UNSET, UnsetType

from actors.deciders.aggregator import KeyMissing, ReleaseStored
from actors.deciders.aggregator_state import Round, Rounds, Task
from actors.deciders.arithmetic import optimizers, reporting, schedules, statistics, sums
from actors.deciders.quarantining.judging import Compared
from actors.effects.aggregator.model_cache import CachedModel, ModelCache
from actors.effects.aggregator.noise_ahead import NoiseAhead
from actors.effects.aggregator.summation import Fetch
from actors.effects.watching.drifting import measure_drift
from actors.keys import NoiseKey
from schemas.errors import FedlogError
from schemas.events import JournalEvent, RoundAbandoned, RoundProposed, TaskCreated, TaskHalted
from schemas.identifiers import BodyRef
from schemas.policy.metrics import MetricSums
from schemas.tensors import VALUE_MAX, Floats, Grid, pack, unpack
from schemas.topics import MODELS
from streams.bodies import store
from streams.log import EventLog, TopicPartition

logger = structlog.get_logger()


class NoiseKeyMissing(FedlogError):
    """The mechanism names a noise key that this operator's key file does not hold."""

    code = "noise_key_missing"


class Start(NamedTuple):
    """What a round steps from: the newest model, its moments, and its version."""

    model: Floats
    moments: Floats | None
    version: int


@dataclass(frozen=True, slots=True)
class Release:
    """The digest of a round's exact sum before noise, the next model, and the optimizer's vectors after it.

    The model of a measure task is its statistics, and nothing carries them on.
    """

    sum_sha256: bytes
    model: Floats
    moments: Floats | None
    metrics: MetricSums | UnsetType = UNSET  # of what was reported under its noise


def compute_release(
    created: TaskCreated,
    proposed: RoundProposed,
    *,
    total: Grid,
    start: Start,
    noise: NoiseAhead | None,
) -> Release:
    """The release of a round with this sum. Raises NoiseKeyMissing.

    A measurement does not look at `start`: it stands for itself.
    """
    # Of the sum before noise, so that a sum that is recomputed later can be compared without drawing any.
    digest = sums.sum_digest(total)
    # Where helpers draw it, it came with their masks.
    if proposed.mechanism is not None and created.policy.masked_by.noise != "helpers":
        # Another key would draw a second noise for the same sum, and two releases could be held together (law 7).
        if noise is None or proposed.mechanism.key_id != noise.key.id:
            raise NoiseKeyMissing(f"round {proposed.round} wants noise key {proposed.mechanism.key_id.hex()}")
        drawn = noise.draw(proposed, parameters=created.parameters)
        # In place, as everything here: memory that is touched for the first time costs more than the arithmetic.
        drawn += total
        total = drawn
    if created.policy.measure is not None:
        return Release(digest, statistics.release(total, created.policy, members=proposed.members), None)
    total, reported = reporting.cut_vector(total, created.policy)
    delta = optimizers.mean(total, created.policy, members=proposed.members, weight_sum=proposed.weight_sum)
    delta = optimizers.damp(delta, created.policy, trained=created.trained, members=proposed.members)
    optimizer = schedules.schedule_optimizer(created.policy, start.version)
    model, moments = optimizers.step(
        optimizer, start.model[: delta.size], moments=start.moments, delta=delta, trained=created.trained
    )
    if not reported.size:
        return Release(digest, model, moments)
    told = reporting.release_reported(reported, created.policy, proposed=proposed)
    return Release(digest, np.concatenate([model, told.values]), moments, told.sums)


def is_sound(model: Floats) -> bool:
    """Whether a device could train from a model: it refuses what is not finite, or larger than VALUE_MAX."""
    # In this form of the comparison NaN fails too.
    return bool(np.abs(model).max(initial=0.0) <= VALUE_MAX)


class Releases:
    """Makes and stores the releases of one partition's tasks."""

    def __init__(self, log: EventLog, partition: int, *, key: NoiseKey, fetch: Fetch) -> None:
        self.models = ModelCache()
        self.noise = NoiseAhead(key)
        self._log, self._at, self._fetch = log, TopicPartition(MODELS.name, partition), fetch

    def note(self, state: Rounds, event: JournalEvent) -> None:
        """Begin with what needs no charge, and keep nothing that no release needs."""
        match event:
            case RoundProposed():
                created = state.tasks[event.task].created
                if created.policy.masked_by.noise != "helpers":
                    self.noise.begin(event, parameters=created.parameters)
            case RoundAbandoned():
                self.noise.drop(event.task, event.round)
            case TaskHalted():
                self.models.drop(event.task)

    def make(
        self,
        task: Task,
        awaited: Round,
        *,
        total: Grid,
        metrics: MetricSums | UnsetType | None = UNSET,
        compared: Compared | UnsetType = UNSET,
    ) -> ReleaseStored | KeyMissing:
        """Compute the release of a round from its exact sum, and store it; `metrics` and `compared` are passed on."""
        created, name = task.created, task.created.task
        assert awaited.proposed is not None
        start = self._start(task)
        try:
            release = compute_release(created, awaited.proposed, total=total, start=start, noise=self.noise)
        except NoiseKeyMissing as error:
            logger.error("noise_key_missing", task=name, round=awaited.id, error=str(error))
            # An input and no exception: a decision has to abandon the round, whose charge stays spent (law 8).
            return KeyMissing(task=name, round=awaited.id)
        # A body is durable before the event that names it, or a reader could look for it in vain.
        model = self._store(name, release.model)
        moments = None if release.moments is None else self._store(name, release.moments)
        distances = measure_drift(task, release.model, members=awaited.proposed.members, fetch=self._fetch)
        self.models.put(name, CachedModel(model.sha256, release.model, release.moments))
        return ReleaseStored(
            task=name,
            round=awaited.id,
            sum_sha256=release.sum_sha256,
            model=model,
            moments=moments,
            is_sound=created.policy.measure is not None or is_sound(release.model),
            metrics=metrics if release.metrics is UNSET else release.metrics,
            compared=compared,
            distances=distances,
        )

    def _start(self, task: Task) -> Start:
        """The newest model and its moments, from memory where this process has published it."""
        assert task.model is not None
        cached = self.models.get(task.created.task, task.model.sha256)
        if cached is not None:
            return Start(cached.model, cached.moments, task.version)
        parameters = task.created.parameters
        model = unpack(self._fetch(task.model), "float32", count=parameters)
        if task.moments is None:
            return Start(model, None, task.version)
        count = optimizers.MOMENTS[task.created.policy.optimizer.rule] * task.created.trained
        return Start(model, unpack(self._fetch(task.moments), "float32", count=count), task.version)

    def _store(self, task: str, array: Floats) -> BodyRef:
        # A name of its own for each attempt: compaction keeps one body a name, and a zombie may still store its own.
        name = f"{task}/{secrets.token_hex(8)}"
        return store(self._log, self._at, data=pack(array), upload_id=name, codec="float32")
