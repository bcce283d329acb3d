"""Scores each version on held-out data and says so in `evaluations`; what it has done already stands there.

What a measure task has found out about a version it says there as well: a federated evaluation, as one voice more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from actors.expiry import Expiry
from actors.keys import RoleKey
from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator import models
from ops.services.said import Place, Said
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
    """A task contradicts its own policy, or its code does not end."""

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
    what comes with fedlog, and what `data` names. One whose code does not end is put aside. Several may run, each with
    a key of its own: none minds what another has said.
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
        from ops.services.scoring import Patience, open_scorer

        self._log, self._key, self._expiry, self._task = log, key, Expiry(key), task
        self._patience = patience or Patience()
        allowed = (allowed or AllowList(command="fedlog evaluate")).including(data)
        self._open = partial(open_scorer, allowed=allowed, data=data, fetch=self._fetch, patience=self._patience)
        self._scorers: dict[TaskId, Scorer] = {}
        self._tried_again_s: dict[Place, float] = {}
        self._views = TaskViews((ROUNDS.name,), operator=key.operator, deployment=key.deployment)
        self._said = Said(key)
        partitions = None if task is None else [partition_of(task, log.partitions)]
        self._creations = SignedCreations(key.operator, deployment=key.deployment, partitions=log.partitions)
        self._follower = Follower(log, self._creations, self._views, self._said, partitions=partitions)
        # To the end first: a version that was scored before a restart is not scored again.
        self._follower.catch_up()

    def knows(self, task: TaskId) -> bool:
        """Whether the operator has created this task, as far as the log was read."""
        return task in self._creations.found

    def step(self) -> Iterator[VersionEvaluated | Missed]:
        """Score what is published and this evaluator has not scored yet, the oldest first, cohorts before all together.

        Each is in the log when it is given. Raises KeyExpired, because nobody would believe the scores.
        """
        self._expiry.look()
        # A copy, because scoring takes long and the caller polls in between.
        for view in list(self._views.tasks.values()):
            # The journal may come before `tasks`: what is not signed yet is scored when it is.
            if (created := self._creations.found.get(view.task)) is None:
                continue
            if created.policy.measure is not None:
                yield from self._relay(view, created)
            elif self._task in (None, view.task):
                yield from self._score(view, created)

    def wait(self, timeout_s: float) -> None:
        """Take in what is new."""
        self._follower.poll(timeout_s)

    def close(self) -> None:
        """Release the reader."""
        self._follower.close()

    def _score(self, view: TaskView, created: TaskCreated) -> Iterator[VersionEvaluated | Missed]:
        for version in sorted(view.published):
            place = Place(view.task, version)
            if not self._said.is_complete(place):
                yield from self._try(partial(self._score_version, view, version, created=created), place)

    def _relay(self, view: TaskView, created: TaskCreated) -> Iterator[VersionEvaluated | Missed]:
        """What a measurement has found out of a task that is followed here, signed as another voice."""
        subject, released = created.subject, min((version for version in view.published if version), default=None)
        if subject is None or released is None or self._task not in (None, subject.task):
            return
        place = Place(subject.task, subject.version, view.task)
        if subject.task in self._creations.found and not self._said.is_complete(place):
            yield from self._try(partial(self._relay_result, view, released, place=place), place)

    def _try(self, attempt: Callable[[], list[VersionEvaluated]], place: Place) -> Iterator[VersionEvaluated | Missed]:
        """What an attempt says. What another task's model does with these data stops the scoring of no other."""
        # Given up for this run only: a restart tries again, for instance with other data.
        if time.monotonic() < self._tried_again_s.get(place, 0):
            return
        missed = partial(Missed, task=place.task, version=place.version)
        try:
            words = attempt()
        except LogUnavailable as error:
            found = missed(reason=str(error), is_final=False)
        except FedlogError as error:
            found = missed(reason=str(error))
        else:
            yield from self._write(words)
            return
        self._tried_again_s[place] = inf if found.is_final else time.monotonic() + TRIED_AGAIN_S
        yield found

    def _score_version(self, view: TaskView, version: Version, *, created: TaskCreated) -> list[VersionEvaluated]:
        """All that is to be said of a version, its cohorts first. Raises those that make it a miss."""
        from client_agent.running.watch import TookTooLong
        from ops.services.cohorts import check_same

        # Each of its versions would keep all other tasks waiting for as long again.
        if reason := self._patience.aside.get(view.task):
            raise TaskUnfit(f"{reason} {ASIDE}")
        try:
            scorer = self._find_scorer(created)
            if (compared := self._said.find_compared(view.task)) is not None:
                check_same(compared[1], scorer.cohorts, version=compared[0])
            scores = scorer.score(self._fetch(view.published[version].model, created.parameters))
        except TookTooLong as error:
            self._patience.aside[view.task] = reason = str(error)
            raise TaskUnfit(f"{reason} {ASIDE}") from error
        said = self._said.list_cohorts(Place(view.task, version))
        return [
            VersionEvaluated(
                task=view.task,
                version=version,
                metrics=score.metrics,
                samples=score.samples,
                cohort=score.cohort,
                evaluator=self._said.evaluator,
            )
            for score in scores
            # Whoever was ended in between goes on behind what it had said.
            if score.cohort not in said
        ]

    def _relay_result(self, view: TaskView, released: Version, *, place: Place) -> list[VersionEvaluated]:
        """A measurement's first release as a score of the version that it measured; none where it has no metric."""
        from actors.deciders.arithmetic.statistics import find_metrics

        published, created = view.published[released], self._creations.found[view.task]
        vector = self._fetch(published.model, created.parameters)
        of = self._creations.found[place.task].policy
        metrics, samples = find_metrics(vector, created, members=published.members, of=of)
        if not metrics:
            # Asked no more: another question, such as for a histogram.
            self._tried_again_s[place] = inf
            return []
        return [
            VersionEvaluated(
                task=place.task,
                version=place.version,
                metrics=metrics,
                samples=samples,
                cohort="",
                evaluator=self._said.evaluator,
                source=view.task,
            )
        ]

    def _find_scorer(self, created: TaskCreated) -> Scorer:
        """The scorer of a task that its own policy allows. Raises those that make a version a miss."""
        # As devices do: the policy says how much memory a model and its training may take.
        if (fault := next(find_faults(created), None)) is not None:
            raise TaskUnfit(f"The task contradicts its own policy: {fault}.")
        if created.task not in self._scorers:
            self._scorers[created.task] = self._open(created)
        return self._scorers[created.task]

    def _fetch(self, ref: BodyRef, size: int) -> Floats:
        return models.read(self._log, ref, parameters=size, timeout_s=FETCH_S)

    def _write(self, words: Sequence[VersionEvaluated]) -> Iterator[VersionEvaluated]:
        for evaluated in words:
            place = partition_of(evaluated.task, self._log.partitions)
            # Signed: an unsigned score could end a task that has a target.
            value = self._key.signer.certify(encode(evaluated))
            # One by one, because what is said of all examples has to stand behind that of each cohort.
            self._log.append([Draft(topic=EVALUATIONS.name, partition=place, value=value, key=evaluated.task.encode())])
            # Its own record comes back through the follower later; until then it must not be said again.
            self._said.note(evaluated)
            yield evaluated
