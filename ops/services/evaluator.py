"""Scores each version on held-out data and says so in `evaluations`; what it has done already stands there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.keys import RoleKey
from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator import models
from ops.operator.errors import ModelGone
from schemas.canonical import encode
from schemas.errors import FedlogError
from schemas.events import VersionEvaluated
from schemas.identifiers import TaskId, Version
from schemas.tensors import BodyError
from schemas.topics import EVALUATIONS, ROUNDS, partition_of
from streams.log import Draft, EventLog

if TYPE_CHECKING:
    from client_agent.learning.allow_list import AllowList


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A version that cannot be scored any more, and why."""

    task: TaskId
    version: Version
    reason: str


class Evaluator:
    """Follows the aggregator's journal. `data` names the data plugin whose held-out split is scored.

    A task is scored where its model may run here: `allowed`, what comes with fedlog, and what `data` names.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        key: RoleKey,
        data: str,
        task: TaskId | None = None,
        allowed: AllowList | None = None,
    ) -> None:
        # Loading data brings numpy and scikit-learn, which `fedlog --help` must not wait for.
        from client_agent.learning.allow_list import AllowList
        from client_agent.learning.data import Part, load

        self._log, self._key = log, key
        self._allowed = (allowed or AllowList(command="fedlog evaluate")).including(data)
        self._task = task
        self._examples = load(data, Part(split="test"))
        self._gave_up: set[tuple[TaskId, Version]] = set()
        self._views = TaskViews((ROUNDS.name, EVALUATIONS.name), operator=key.operator)
        partitions = None if task is None else [partition_of(task, log.partitions)]
        self._follower = Follower(log, self._views, partitions=partitions)
        # To the end first: a version that was scored before a restart is not scored again.
        self._follower.catch_up()

    def step(self) -> Iterator[VersionEvaluated | Missed]:
        """Score what is published and not scored yet, the oldest first; each is in the log when it is given."""
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
        if view.created is None:
            return
        for version in sorted(view.published):
            # Given up for this run only: a restart tries again, for instance with other data.
            if version in view.evaluations or (view.task, version) in self._gave_up:
                continue
            found = self._attempt(view, version)
            if isinstance(found, Missed):
                self._gave_up.add((view.task, version))
            yield found

    def _attempt(self, view: TaskView, version: Version) -> VersionEvaluated | Missed:
        """Score one version. What another task's model does with these data stops the scoring of no other."""
        from client_agent.learning import classification as training

        assert view.created is not None
        try:
            flat = models.read(self._log, view.published[version].model, parameters=view.created.parameters)
        except (ModelGone, BodyError) as error:
            return Missed(task=view.task, version=version, reason=str(error))
        try:
            # The policy comes from the log, and what it names may be anybody's code.
            self._allowed.check(view.created.policy.model)
            metrics = training.evaluate(view.created.policy, flat, *self._examples)
        # A model's code raises anything, and may end its process; an error of the log is none of its making.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            reason = str(error) if isinstance(error, FedlogError) else f"{type(error).__name__}: {error}"
            return Missed(task=view.task, version=version, reason=reason)
        return self._write(view, version, metrics=metrics)

    def _write(self, view: TaskView, version: Version, *, metrics: dict[str, float]) -> VersionEvaluated:
        fact = VersionEvaluated(
            task=view.task, version=version, metrics=metrics, samples=len(self._examples[1]), cohort=""
        )
        place = partition_of(view.task, self._log.partitions)
        # Signed: an unsigned score could end a task that has a target.
        value = self._key.signer.certify(encode(fact))
        self._log.append([Draft(topic=EVALUATIONS.name, partition=place, value=value, key=view.task.encode())])
        # Its own record comes back through the follower later; until then it must not be scored again.
        view.evaluations[version] = fact
        return fact
