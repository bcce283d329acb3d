"""`connect`: the tasks of a log, from Python, as `fedlog task`, `model` and `evaluate` have them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from client_agent.learning.allow_list import AllowList
from fedlog.weights import Model
from ops.broker_state import find_running
from ops.history.following import Follower
from ops.history.task_view import TaskView
from ops.opening import find_operator, require_key
from ops.operator import deployments, models, tasks
from ops.operator.errors import TaskUnknown
from ops.processes.running import name_after, read_policy
from ops.processes.services import Services
from ops.processes.wording import Wording
from ops.services.scoring import Patience, open_scorer
from ops.settings import Settings, resolve
from schemas.topics import CATALOGUE, partition_of
from streams.kafka.log import KafkaLog


def connect(*, folder: str | Path = "", bootstrap_servers: str = "", allow: tuple[str, ...] = ()) -> Deployment:
    """Open the deployment of a folder (default: `.fedlog`), or that on a Kafka of yours; use it in a `with` block.

    An embedded Kafka that does not run is started, and stopped at the end of the block. `allow` has the plugins that
    may run here because a task names them. Raises FedlogError.
    """
    given = {"folder": Path(folder) if folder else None, "bootstrap_servers": bootstrap_servers or None}
    return Deployment(resolve({**given, "allow": allow}))


POLL_S = 0.5
SCORE_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a task, with its scores."""

    number: int
    metrics: Mapping[str, float]


class Deployment:
    """The tasks of one log; open inside a `with` block."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._log: KafkaLog | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            settings = self._settings
            # A broker that runs belongs to somebody; only one that was started here is stopped again.
            if not settings.bootstrap_servers and find_running(settings.broker_folder) is None:
                stack.enter_context(Services(settings, task="a connection", wording=Wording.PYTHON)).start_broker()
            self._log = stack.enter_context(contextlib.closing(settings.log("fedlog-python")))
            self._log.create_topics(CATALOGUE, partitions=settings.partitions or None)
            self._stack = stack.pop_all()
        return self

    # The log first, and then the broker that it talks to.
    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def log(self) -> KafkaLog:
        """The open log. Raises RuntimeError outside of the block."""
        if self._log is None:
            raise RuntimeError("a deployment is open inside its block: with fedlog.connect() as log: …")
        return self._log

    @property
    def operator(self) -> bytes | None:
        """The public key that signs what is said about tasks, where it is known."""
        return find_operator(self._settings)

    @property
    def allowed(self) -> AllowList:
        """What of the code that tasks name may run here."""
        return AllowList(names=frozenset(self._settings.allow), command="fedlog evaluate")

    def create_task(self, policy: str | Path, *, name: str = "", changes: tuple[str, ...] = ()) -> Task:
        """Create a task from a policy in a file; workers and devices that run somewhere train it."""
        file = Path(policy)
        # Signed by the operator's key alone, so that this is the operator's machine.
        key = require_key(self._settings)
        created = tasks.create(self.log, name or name_after(file), key=key, policy=read_policy(file, changes))
        return Task(self, created.task)

    def list_tasks(self) -> list[dict[str, Any]]:
        """Every task as a dictionary, such as a DataFrame takes."""
        views = tasks.find_views(self.log, operator=self.operator)
        return [tasks.summarize(view) for _, view in sorted(views.items())]

    def find_task(self, name: str) -> Task:
        """One task. Raises TaskUnknown."""
        # Asked at once: a misspelt name would otherwise be followed for ever.
        tasks.find_view(self.log, name, operator=self.operator)
        return Task(self, name)


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a deployment; each call reads the log as it is then."""

    deployment: Deployment
    name: str

    def summarize(self) -> dict[str, Any]:
        """What `fedlog task show --json` says of it."""
        return tasks.summarize(self._view())

    def list_versions(self) -> list[Version]:
        """Every version and its scores, the oldest first."""
        view = self._view()
        return [_read_version(view, number) for number in sorted(view.published)]

    def follow(self) -> Iterator[Version]:
        """Each version once it is scored, until the task is over; those without a score come last."""
        log, told, quiet_s = self.deployment.log, set[int](), 0.0
        views = tasks.make_views(log, self.deployment.operator)
        with Follower(log, views, partitions=[partition_of(self.name, log.partitions)]) as follower:
            while True:
                quiet_s = 0.0 if follower.poll(POLL_S) else quiet_s + POLL_S
                view = views.view(self.name)
                # Of a halted task no further version comes, but its last score may.
                is_scored = set(view.published) <= set(view.evaluations)
                is_done = view.halted is not None and (is_scored or quiet_s > SCORE_WAIT_S)
                for number in sorted(set(view.published) - told):
                    if number in view.evaluations or is_done:
                        told.add(number)
                        yield _read_version(view, number)
                if is_done:
                    return

    async def follow_async(self) -> AsyncIterator[Version]:
        """The same beside other work of the event loop."""
        versions = self.follow()
        # A reader blocks its thread, so each step of it has one of its own.
        while (version := await asyncio.to_thread(next, versions, None)) is not None:
            yield version

    def find_promoted(self, *, device: str = "", cohort: str = "") -> int:
        """The version that is in production; for a `device` of a cohort that is in a canary the one on trial.

        What a rollout has signed says so. Raises VersionUnknown where nothing is.
        """
        # Read anew each time, as all else here: whoever asks again wants to know what has changed.
        log, operator = self.deployment.log, self.deployment.operator
        production = models.Production(operator, deployment=deployments.find(log, operator))
        user = models.User(device=device, cohort=cohort)
        return models.choose_promoted(production.find(log, self.name), self.name, user=user)

    def read_model(self, version: int | None = None, *, promoted: bool = False) -> Model:
        """A version of the model; for None the newest, or what is in production. Raises VersionUnknown, ModelGone."""
        view = self._view()
        chosen = models.choose_version(view, self.find_promoted() if promoted and version is None else version)
        return Model(self.name, chosen, models.read_arrays(self.deployment.log, view, version=chosen))

    def evaluate(self, version: int | None = None, *, data: str = "") -> dict[str, float]:
        """The metrics of a version on the held-out data, computed here; nothing is written.

        What the policy names has to be allowed: `connect(allow=…)`. Raises PluginError, LearnerError.
        """
        # Without the evaluator's watch: whoever calls it sees that it takes long, and can end it.
        view, deployment = self._view(), self.deployment
        created = view.created
        if created is None:
            raise TaskUnknown(f"The creation of {self.name!r} cannot be read.")
        published = view.published[models.choose_version(view, version)]
        fetch = partial(models.read, deployment.log)
        scorer = open_scorer(
            created,
            allowed=deployment.allowed.including(data),
            data=data,
            fetch=lambda ref, size: fetch(ref, parameters=size),
            patience=Patience(),
        )
        [*_, together] = scorer.score(fetch(published.model, parameters=created.parameters))
        return together.metrics

    def _view(self) -> TaskView:
        return tasks.find_view(self.deployment.log, self.name, operator=self.deployment.operator)


def _read_version(view: TaskView, number: int) -> Version:
    found = view.evaluations.get(number)
    return Version(number, {} if found is None else dict(found.metrics))
