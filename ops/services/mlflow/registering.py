"""Brings an MLflow server up to what the log says: each version once, whatever ended in between, and beside others.

Nothing is kept here: what is on the server is found again by tags. A server has no way to create something only where
it is not there yet, so that two who work side by side may both create it. Numbers of versions only grow: the first
version with an id counts for everybody, and what else there is of that id is taken away by whoever sees it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.services.mlflow.entries import Course, Courses, Entry
from ops.services.mlflow.server import Registered, Run, Server, ServerRefuses
from ops.services.mlflow.wording import (
    CANDIDATE,
    CHAMPION,
    DEPLOYMENT,
    ID,
    MODEL_GONE,
    ROLLED_BACK,
    ROLLED_BACK_TO,
    TASK,
    Value,
    describe_model,
    list_params,
    list_tags,
    list_values,
)
from schemas.errors import FedlogError
from schemas.identifiers import TaskId, Version

# The files of a version by name, and whether its model is among them: retention may have deleted it.
ReadFiles = Callable[[Entry], tuple[Mapping[str, bytes], bool]]


class ModelTaken(FedlogError):
    """A registered model of that name is somebody else's."""

    code = "mlflow_model_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How experiments and registered models are called: after the task, unless `experiment` names one for all."""

    prefix: str = ""
    experiment: str = ""

    def find_experiment(self, task: TaskId) -> str:
        """The experiment of a task."""
        return self.experiment or f"{self.prefix}{task}"

    def find_model(self, task: TaskId) -> str:
        """The registered model of a task."""
        return f"{self.prefix}{task}"


@dataclass(slots=True)
class Known:
    """What is on the server of one task, as far as it was seen."""

    experiment: str
    versions: dict[str, Registered]
    values: dict[str, dict[str, float]]
    aliases: dict[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that was done: for people."""

    task: TaskId
    what: str


class Registrar:
    """Works on one server. Every step may be interrupted, and is made again by the next one that comes."""

    def __init__(self, server: Server, courses: Courses, *, names: Names, read_files: ReadFiles) -> None:
        self._server, self._courses, self._names, self._read_files = server, courses, names, read_files
        self._known: dict[TaskId, Known] = {}

    def step(self, task: TaskId) -> Iterator[Done]:
        """Register what is new of a task, and move its aliases. Raises ServerAway, ServerRefuses, ModelTaken."""
        entries = [*self._courses.list_entries(task)]
        # A task without a version is no model yet.
        if not entries:
            return
        known = self._known.get(task)
        if known is None:
            known = self._known[task] = self._look(task)
        for entry in entries:
            if entry.id not in known.versions:
                known.versions[entry.id] = self._register(entry, known)
                yield Done(task=task, what=f"version {entry.data.version} is {self._name(entry, known)}")
            yield from self._score(entry, known)
        yield from self._follow_rollout(self._courses.tasks[task], known)

    def forget(self) -> None:
        """Look at the server anew: somebody else may have been there, or it is another one after a restart."""
        self._known.clear()

    # --- what is there ----------------------------------------------------------------------------------------------

    def _look(self, task: TaskId) -> Known:
        deployment = self._courses.deployment
        name, about = self._names.find_model(task), describe_model(task, deployment)
        model = self._server.open_model(name, tags={DEPLOYMENT: deployment.hex(), TASK: task}, about=about)
        if (model.tags.get(DEPLOYMENT), model.tags.get(TASK)) != (deployment.hex(), task):
            # Somebody's models would get versions that they know nothing of.
            raise ModelTaken(
                f"The server has a registered model {name!r} already, and not of this task in deployment "
                f"{deployment.hex()}: have ours named otherwise, with --prefix."
            )
        experiment = self._server.open_experiment(self._names.find_experiment(task))
        found: dict[str, list[Registered]] = {}
        for version in self._server.list_versions(name, {DEPLOYMENT: deployment.hex()}):
            found.setdefault(version.tags[ID], []).append(version)
        runs = self._server.list_runs(experiment, {DEPLOYMENT: deployment.hex(), TASK: task})
        metrics = {run.id: dict(run.metrics) for run in runs}
        firsts = {name_of: versions[0] for name_of, versions in found.items()}
        for name_of, versions in found.items():
            # Of somebody who died between both.
            self._tidy(name, versions, runs=[run for run in runs if run.tags.get(ID) == name_of])
        return Known(
            experiment=experiment,
            versions=firsts,
            values={name_of: metrics.get(first.run, {}) for name_of, first in firsts.items()},
            aliases={alias: model.aliases.get(alias) for alias in (CANDIDATE, CHAMPION)},
        )

    # --- versions ---------------------------------------------------------------------------------------------------

    def _register(self, entry: Entry, known: Known) -> Registered:
        name = self._names.find_model(entry.data.task)
        tags = list_tags(entry, self._courses.deployment)
        identity = {DEPLOYMENT: tags[DEPLOYMENT], ID: tags[ID]}
        while True:
            # Asked of the server each time: another may have begun, or be done, since we looked last.
            runs = self._list_runs(known, identity)
            if versions := self._server.list_versions(name, identity):
                self._tidy(name, versions, runs=runs)
                return versions[0]
            try:
                run = runs[0] if runs else self._open_run(entry, known, tags=tags)
                is_gone = not self._fill(run, entry)
                # Last of all: what is a version is whole.
                self._server.create_version(name, run, tags={**tags, **({MODEL_GONE: "true"} if is_gone else {})})
                known.values[entry.id] = {value.name: value.value for value in list_values(entry)}
            except ServerRefuses:
                # Another was quicker, and has taken our run away.
                if not self._server.list_versions(name, identity):
                    raise

    def _list_runs(self, known: Known, identity: Mapping[str, str]) -> list[Run]:
        runs = self._server.list_runs(known.experiment, identity)
        # Two who find the same ones take the same one.
        return sorted(runs, key=lambda run: (run.begun_ms, run.id))

    def _open_run(self, entry: Entry, known: Known, *, tags: Mapping[str, str]) -> Run:
        name = f"{entry.data.task} version {entry.data.version}"
        return self._server.create_run(known.experiment, name, tags=tags, begun_ms=entry.announcement.time_ms)

    def _fill(self, run: Run, entry: Entry) -> bool:
        """Write all of a version into a run; whether its model is among it."""
        files, has_model = self._read_files(entry)
        # MLflow copies folders, and nothing from memory.
        with tempfile.TemporaryDirectory(prefix="fedlog-mlflow-") as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            self._server.upload(run, Path(folder))
        self._server.log_run(run, params=list_params(entry), values=list_values(entry), step=entry.data.version)
        self._server.end_run(run, ended_ms=entry.announcement.time_ms)
        return has_model

    def _tidy(self, name: str, versions: list[Registered], *, runs: list[Run]) -> None:
        """Leave the first version of an id, and its run."""
        first, *others = versions
        for other in others:
            self._server.delete_version(name, other.number)
        for run in runs:
            if run.id != first.run:
                self._server.delete_run(run.id)

    def _name(self, entry: Entry, known: Known) -> str:
        return f"{self._names.find_model(entry.data.task)} {known.versions[entry.id].number}"

    # --- what comes later -------------------------------------------------------------------------------------------

    def _score(self, entry: Entry, known: Known) -> Iterator[Done]:
        """Write scores that are new, or have changed with another evaluator's voice."""
        values = list_values(entry)
        there = known.values.setdefault(entry.id, {})
        news = [value for value in values if there.get(value.name) != value.value]
        if not news:
            return
        registered = known.versions[entry.id]
        run = Run(id=registered.run, begun_ms=0, files="")
        self._server.log_run(run, params={}, values=news, step=entry.data.version)
        there.update({value.name: value.value for value in news})
        yield Done(task=entry.data.task, what=f"version {entry.data.version}: {_format(news)}")

    def _follow_rollout(self, course: Course, known: Known) -> Iterator[Done]:
        for version, registered in self._list_registered(course, known):
            withdrawal = course.withdrawn.get(version)
            told = {ROLLED_BACK: "", ROLLED_BACK_TO: ""}
            if withdrawal is not None:
                to = "none" if withdrawal.to is None else str(withdrawal.to)
                told = {ROLLED_BACK: withdrawal.reason, ROLLED_BACK_TO: to}
            if any(registered.tags.get(name, "") != value for name, value in told.items()):
                self._server.tag_version(self._names.find_model(course.task), registered.number, tags=told)
                known.versions[course.published[version].id] = _retag(registered, told)
                why = "counts again" if withdrawal is None else f"was rolled back: {withdrawal.reason}"
                yield Done(task=course.task, what=f"version {version} {why}")
        yield from self._move_aliases(course, known)

    def _move_aliases(self, course: Course, known: Known) -> Iterator[Done]:
        numbers = {version: registered.number for version, registered in self._list_registered(course, known)}
        wanted: dict[str, Version | None] = {CANDIDATE: course.candidate, CHAMPION: course.promoted}
        for alias, version in wanted.items():
            # One that is not registered yet takes its alias along when it is.
            if version is not None and version not in numbers:
                continue
            number = None if version is None else numbers[version]
            if known.aliases.get(alias) != number:
                self._server.set_alias(self._names.find_model(course.task), alias, number=number)
                known.aliases[alias] = number
                yield Done(task=course.task, what=f"{alias} is {'none' if version is None else f'version {version}'}")

    def _list_registered(self, course: Course, known: Known) -> list[tuple[Version, Registered]]:
        found = ((version, known.versions.get(told.id)) for version, told in sorted(course.published.items()))
        return [(version, registered) for version, registered in found if registered is not None]


def _retag(registered: Registered, told: Mapping[str, str]) -> Registered:
    tags = {name: value for name, value in {**registered.tags, **told}.items() if value}
    return Registered(number=registered.number, run=registered.run, tags=tags)


def _format(values: list[Value]) -> str:
    return ", ".join(f"{value.name} {value.value:.4g}" for value in values)
