"""Scores each version on held-out data and says so in `evaluations`; what it has done already stands there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from actors.expiry import Expiry
from actors.keys import RoleKey
from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator import models
from schemas.canonical import encode
from schemas.creations import collect_creations, find_faults
from schemas.errors import FedlogError
from schemas.events import TaskCreated, VersionEvaluated
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.tensors import Floats
from schemas.topics import EVALUATIONS, ROUNDS, TASKS, partition_of
from streams.log import Draft, EventLog, LogUnavailable, Record, TopicPartition

if TYPE_CHECKING:
    from client_agent.learning.allow_list import AllowList
    from ops.services.scoring import Patience, Scorer

FETCH_S = 600.0
# A broker that was away may be back by then, and a console says so no more than once a minute.
TRIED_AGAIN_S = 60.0
ASIDE = "[no version of this task is scored until the evaluator is started again]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A version that cannot be scored, at least not now, and why."""

    task: TaskId
    version: Version
    reason: str
    is_final: bool = True  # False where a broker was silent: another step tries again


class TaskUnfit(FedlogError):
    """A task contradicts its own policy."""

    code = "task_unfit"


class SignedCreations:
    """What the operator created, as a projection of `tasks`.

    The journal only repeats it, unsigned, and so whoever may write there could write another.
    """

    topics: Sequence[str] = (TASKS.name,)

    def __init__(self, operator: bytes, *, deployment: bytes, partitions: int) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.found: dict[TaskId, TaskCreated] = {}
        self._operator, self._deployment, self._partitions = operator, deployment, partitions

    def apply(self, record: Record) -> None:
        """Keep a creation that is the first of its name."""
        created = collect_creations([record], self._operator, partitions=self._partitions, deployment=self._deployment)
        self.found = {**created, **self.found}
        self.positions[record.at] = record.offset + 1


class Evaluator:
    """Follows the aggregator's journal, and scores each task on the held-out split of the data that its policy names.

    `data` names them for `task`, where its policy does not. A task is scored where its code may run here: `allowed`,
    what comes with fedlog, and what `data` names. One whose code does not end is put aside.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        key: RoleKey,
        data: str = "",
        task: TaskId | None = None,
        allowed: AllowList | None = None,
        patience: Patience | None = None,
    ) -> None:
        # What learns brings numpy, which `fedlog --help` must not wait for.
        from client_agent.learning.allow_list import AllowList
        from ops.services.scoring import Patience

        self._log, self._key, self._expiry = log, key, Expiry(key)
        self._allowed = (allowed or AllowList(command="fedlog evaluate")).including(data)
        self._task, self._data = task, data
        self._patience = patience or Patience()
        self._scorers: dict[TaskId, Scorer] = {}
        self._tried_again_s: dict[tuple[TaskId, Version], float] = {}
        self._views = TaskViews((ROUNDS.name, EVALUATIONS.name), operator=key.operator, deployment=key.deployment)
        partitions = None if task is None else [partition_of(task, log.partitions)]
        self._creations = SignedCreations(key.operator, deployment=key.deployment, partitions=log.partitions)
        self._follower = Follower(log, self._creations, self._views, partitions=partitions)
        # To the end first: a version that was scored before a restart is not scored again.
        self._follower.catch_up()

    def knows(self, task: TaskId) -> bool:
        """Whether the operator has created this task, as far as the log was read."""
        return task in self._creations.found

    def step(self) -> Iterator[VersionEvaluated | Missed]:
        """Score what is published and not scored yet, the oldest first; each is in the log when it is given.

        Raises KeyExpired, because nobody would believe the scores.
        """
        self._expiry.look()
        # A copy, because scoring takes long and the caller polls in between.
        for view in list(self._views.tasks.values()):
            if self._task is None or view.task == self._task:
                yield from self._score(view)

    def wait(self, timeout_s: float) -> None:
        """Take in what is new."""
        self._follower.poll(timeout_s)

    def close(self) -> None:
        """Release the reader."""
        self._follower.close()

    def _score(self, view: TaskView) -> Iterator[VersionEvaluated | Missed]:
        # The journal may come before `tasks`: what is not signed yet is scored when it is.
        if (created := self._creations.found.get(view.task)) is None:
            return
        # A measurement is a score itself.
        if created.policy.measure is not None:
            return
        for version in sorted(view.published):
            place = view.task, version
            # Given up for this run only: a restart tries again, for instance with other data.
            if version in view.evaluations or time.monotonic() < self._tried_again_s.get(place, 0):
                continue
            found = self._attempt(view, version, created=created)
            if isinstance(found, Missed):
                self._tried_again_s[place] = inf if found.is_final else time.monotonic() + TRIED_AGAIN_S
            yield found

    def _attempt(self, view: TaskView, version: Version, *, created: TaskCreated) -> VersionEvaluated | Missed:
        """Score one version. What another task's model does with these data stops the scoring of no other."""
        from client_agent.running.watch import TookTooLong

        # Each of its versions would keep all other tasks waiting for as long again.
        if reason := self._patience.aside.get(view.task):
            return Missed(task=view.task, version=version, reason=f"{reason} {ASIDE}")
        try:
            scorer = self._find_scorer(created)
            metrics = scorer.score(self._fetch(view.published[version].model, created.parameters))
        except LogUnavailable as error:
            return Missed(task=view.task, version=version, reason=str(error), is_final=False)
        except TookTooLong as error:
            self._patience.aside[view.task] = reason = str(error)
            return Missed(task=view.task, version=version, reason=f"{reason} {ASIDE}")
        except FedlogError as error:
            return Missed(task=view.task, version=version, reason=str(error))
        return self._write(view, version, metrics=metrics, samples=scorer.sample_count)

    def _find_scorer(self, created: TaskCreated) -> Scorer:
        """The scorer of a task that its own policy allows. Raises those that make a version a miss."""
        from ops.services.scoring import open_scorer

        # As devices do: the policy says how much memory a model and its training may take.
        if (fault := next(find_faults(created), None)) is not None:
            raise TaskUnfit(f"The task contradicts its own policy: {fault}.")
        if created.task not in self._scorers:
            self._scorers[created.task] = open_scorer(
                created, allowed=self._allowed, data=self._data, fetch=self._fetch, patience=self._patience
            )
        return self._scorers[created.task]

    def _fetch(self, ref: BodyRef, size: int) -> Floats:
        return models.read(self._log, ref, parameters=size, timeout_s=FETCH_S)

    def _write(self, view: TaskView, version: Version, *, metrics: dict[str, float], samples: int) -> VersionEvaluated:
        fact = VersionEvaluated(task=view.task, version=version, metrics=metrics, samples=samples, cohort="")
        place = partition_of(view.task, self._log.partitions)
        # Signed: an unsigned score could end a task that has a target.
        value = self._key.signer.certify(encode(fact))
        self._log.append([Draft(topic=EVALUATIONS.name, partition=place, value=value, key=view.task.encode())])
        # Its own record comes back through the follower later; until then it must not be scored again.
        view.evaluations[version] = fact
        return fact
