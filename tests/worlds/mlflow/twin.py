"""An MLflow server in memory, as far as it is used: the same words, and calls that end before or behind their work.

`make mlflow` runs the same stories against a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from queue import Queue
from random import Random
from threading import Semaphore, Thread
from typing import Any

from ops.services.mlflow.server import Model, Registered, Run, ServerAway, ServerRefuses
from ops.services.mlflow.wording import Value


@dataclass(slots=True)
class TwinRun:
    """A run with all that was written into it."""

    run: Run
    experiment: str
    params: dict[str, str] = field(default_factory=dict)
    history: list[Value] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    is_ended: bool = False
    is_deleted: bool = False


class TwinServer:
    """Numbers of versions only grow, tags are what was given, and a run in the bin takes nothing more."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.models: dict[str, Model] = {}
        self.runs: dict[str, TwinRun] = {}
        self.versions: dict[str, dict[int, Registered]] = {}
        self._numbers = count(1)

    def open_experiment(self, name: str) -> str:
        """Its id."""
        return self.experiments.setdefault(name, f"experiment-{len(self.experiments)}")

    def open_model(self, name: str, *, tags: Mapping[str, str], about: str) -> Model:
        """The registered model."""
        self.versions.setdefault(name, {})
        return self.models.setdefault(name, Model(tags=dict(tags), aliases={}))

    def list_runs(self, experiment: str, tags: Mapping[str, str]) -> list[Run]:
        """Those with all of these tags that are not in the bin."""
        found = [twin for twin in self.runs.values() if twin.experiment == experiment and not twin.is_deleted]
        newest = [replace(twin.run, metrics={value.name: value.value for value in twin.history}) for twin in found]
        return [run for run in newest if tags.items() <= run.tags.items()]

    def create_run(self, experiment: str, name: str, *, tags: Mapping[str, str], begun_ms: int) -> Run:
        """A new one."""
        # As random as those of a real server: a later one may sort before an earlier one.
        number = next(self._numbers)
        name_of = f"{number * 7919 % 10_007:05}"
        run = Run(id=name_of, begun_ms=begun_ms, files=f"artifacts:/{name_of}", tags=dict(tags))
        self.runs[name_of] = TwinRun(run, experiment)
        return run

    def log_run(self, run: Run, *, params: Mapping[str, str], values: Sequence[Value], step: int) -> None:
        """Write params, which cannot be changed, and metrics."""
        twin = self._find(run.id)
        for name, value in params.items():
            if twin.params.setdefault(name, value) != value:
                raise ServerRefuses(f"param {name} is {twin.params[name]}", reason="INVALID_PARAMETER_VALUE")
        twin.history += [value for value in values if value not in twin.history]

    def upload(self, run: Run, folder: Path) -> None:
        """Copy files."""
        # A real one does not ask either whether the run is in the bin.
        self.runs[run.id].files |= {file.name: file.read_bytes() for file in folder.iterdir()}

    def end_run(self, run: Run, *, ended_ms: int) -> None:
        """It is complete."""
        self._find(run.id).is_ended = True

    def delete_run(self, run: str) -> None:
        """Into the bin."""
        self.runs[run].is_deleted = True

    def list_versions(self, model: str, tags: Mapping[str, str]) -> list[Registered]:
        """Those with all of these tags, the first one first."""
        return [one for _, one in sorted(self.versions[model].items()) if tags.items() <= one.tags.items()]

    def create_version(self, model: str, run: Run, *, tags: Mapping[str, str]) -> Registered:
        """A new one; a real server does not look whether the run is in the bin."""
        number = next(self._numbers)
        self.versions[model][number] = Registered(number=number, run=run.id, tags=dict(tags))
        return self.versions[model][number]

    def delete_version(self, model: str, number: int) -> None:
        """One that is gone is no error."""
        self.versions[model].pop(number, None)

    def tag_version(self, model: str, number: int, *, tags: Mapping[str, str]) -> None:
        """Set these tags, or remove those without a value."""
        one = self._find_version(model, number)
        merged = {name: value for name, value in {**one.tags, **tags}.items() if value}
        self.versions[model][number] = replace(one, tags=merged)

    def set_alias(self, model: str, alias: str, *, number: int | None) -> None:
        """Point it at a version, or remove it."""
        aliases = {name: at for name, at in self.models[model].aliases.items() if name != alias}
        if number is not None:
            aliases[alias] = self._find_version(model, number).number
        self.models[model] = replace(self.models[model], aliases=aliases)

    def _find(self, run: str) -> TwinRun:
        if self.runs[run].is_deleted:
            raise ServerRefuses(f"run {run} is deleted", reason="INVALID_PARAMETER_VALUE")
        return self.runs[run]

    def _find_version(self, model: str, number: int) -> Registered:
        if number not in self.versions[model]:
            raise ServerRefuses(f"no version {number}", reason="RESOURCE_DOES_NOT_EXIST")
        return self.versions[model][number]


class Watched:
    """A server whose calls are counted; `before` and `behind` are called with the number of each and may raise."""

    def __init__(self, server: Any, *, before: Callable[[int], None], behind: Callable[[int], None]) -> None:
        self._server, self._before, self._behind = server, before, behind
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._server, name)

        def watched(*words: Any, **options: Any) -> Any:
            self.calls += 1
            number = self.calls
            self._before(number)
            found = call(*words, **options)
            self._behind(number)
            return found

        return watched


def pass_by(number: int) -> None:
    """Nothing happens at a call."""


def away_at(*numbers: int) -> Callable[[int], None]:
    """Nobody answers the calls of these numbers."""

    def strike(number: int) -> None:
        if number in numbers:
            raise ServerAway(f"call {number}")

    return strike


class Killed(BaseException):
    """A worker is no more."""


@dataclass(slots=True)
class Turns:
    """Two who work side by side, a call at a time: whose turn it is, and who is killed, is drawn by seed."""

    seed: int
    deadliness: float = 0.0
    _waiting: Queue[int] = field(default_factory=Queue)
    _turns: dict[int, Semaphore] = field(default_factory=dict)
    _doomed: set[int] = field(default_factory=set)

    def work(self, *jobs: Callable[[Callable[[int], None]], object]) -> None:
        """Give each job a hook that it calls before each of its calls, and return when all have ended."""
        draw, errors = Random(self.seed), list[Exception]()
        self._turns = {number: Semaphore(0) for number in range(len(jobs))}
        threads = [Thread(target=self._run, args=(number, job, errors)) for number, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        alive, ready = set(self._turns), set[int]()
        while alive:
            # Nobody moves but the one whose turn it is, so that the seed alone decides.
            while ready < alive:
                number = self._waiting.get(timeout=60)
                alive, ready = (alive - {~number}, ready) if number < 0 else (alive, ready | {number})
            if not alive:
                break
            chosen = draw.choice(sorted(alive))
            if draw.random() < self.deadliness:
                self._doomed.add(chosen)
            ready.discard(chosen)
            self._turns[chosen].release()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _run(self, number: int, job: Callable[[Callable[[int], None]], object], errors: list[Exception]) -> None:
        def wait(call: int) -> None:
            self._waiting.put(number)
            self._turns[number].acquire()
            if number in self._doomed:
                raise Killed

        try:
            job(wait)
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001 - whoever waits for both raises it
            errors.append(error)
        self._waiting.put(~number)
