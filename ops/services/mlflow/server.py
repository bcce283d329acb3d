"""What of an MLflow server is used, in few words; the only importer of its client.

The client is an extra (`mlflow-skinny`): workers and devices start without it. Whatever it raises becomes one of two
errors: nobody answers, which is waited for, or the server refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ops.services.mlflow.wording import Value
from schemas.errors import EXIT_UNAVAILABLE, FedlogError

T = TypeVar("T")
PAGE = 200
BATCH = 100
# What else it may say is a trouble of the moment, or no answer at all.
REFUSALS = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "BAD_REQUEST",
        "INVALID_STATE",
        "CUSTOMER_UNAUTHORIZED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "ENDPOINT_NOT_FOUND",
        "NOT_FOUND",
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
    }
)
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "NOT_FOUND")


class ServerAway(FedlogError):
    """No MLflow answers, or it cannot just now."""

    exit_code = EXIT_UNAVAILABLE
    code = "mlflow_away"


class ServerRefuses(FedlogError):
    """MLflow says no; the message is its own."""

    code = "mlflow_refuses"

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version of a registered model, as the server has it; numbers are the server's own, and only grow."""

    number: int
    run: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of an experiment: where params, metrics and files of a version stand."""

    id: str
    begun_ms: int
    files: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model: its tags, and which version each alias is at."""

    tags: Mapping[str, str]
    aliases: Mapping[str, int]


# So narrow, because each call has to mean the same when it is made again after a kill.
class Server(Protocol):
    """Every call may be made again. Each raises ServerAway, or ServerRefuses."""

    def open_experiment(self, name: str) -> str:
        """Its id; it is created where there is none."""
        ...

    def open_model(self, name: str, *, tags: Mapping[str, str], about: str) -> Model:
        """The registered model; it is created where there is none, with these tags."""
        ...

    def list_runs(self, experiment: str, tags: Mapping[str, str]) -> list[Run]:
        """Those with all of these tags."""
        ...

    def create_run(self, experiment: str, name: str, *, tags: Mapping[str, str], begun_ms: int) -> Run:
        """A new one, open."""
        ...

    def log_run(self, run: Run, *, params: Mapping[str, str], values: Sequence[Value], step: int) -> None:
        """Write params and metrics; the same again changes nothing."""
        ...

    def upload(self, run: Run, folder: Path) -> None:
        """Copy the files of a folder into the run, as `model`; those of the same name are replaced."""
        ...

    def end_run(self, run: Run, *, ended_ms: int) -> None:
        """Nothing more will be written but scores."""
        ...

    def delete_run(self, run: str) -> None:
        """Into the server's bin; one that is gone is no error."""
        ...

    def list_versions(self, model: str, tags: Mapping[str, str]) -> list[Registered]:
        """Those with all of these tags, the first one first."""
        ...

    def create_version(self, model: str, run: Run, *, tags: Mapping[str, str]) -> Registered:
        """A new one, from the files of the run."""
        ...

    def delete_version(self, model: str, number: int) -> None:
        """One that is gone is no error."""
        ...

    def tag_version(self, model: str, number: int, *, tags: Mapping[str, str]) -> None:
        """Set these tags; an empty value removes one."""
        ...

    def set_alias(self, model: str, alias: str, *, number: int | None) -> None:
        """Point it at a version, or remove it."""
        ...


class RealServer:
    """A server behind an address, by MLflow's own client."""

    def __init__(self, uri: str) -> None:
        """Raises ModuleNotFoundError without the extra."""
        from mlflow.tracking import MlflowClient

        # One address for both: models and runs of a version belong together.
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._uri = uri

    def open_experiment(self, name: str) -> str:
        """Its id; see `Server`."""

        def find() -> str | None:
            found = self._client.get_experiment_by_name(name)
            return None if found is None else str(found.experiment_id)

        if (there := self._ask(find)) is not None:
            return there
        try:
            return str(self._ask(lambda: self._client.create_experiment(name)))
        except ServerRefuses as error:
            # Another was quicker.
            if error.reason != "RESOURCE_ALREADY_EXISTS" or (there := self._ask(find)) is None:
                raise
            return there

    def open_model(self, name: str, *, tags: Mapping[str, str], about: str) -> Model:
        """The registered model; see `Server`."""
        try:
            self._ask(lambda: self._client.create_registered_model(name, tags=dict(tags), description=about))
        except ServerRefuses as error:
            if error.reason != "RESOURCE_ALREADY_EXISTS":
                raise
        found = self._ask(lambda: self._client.get_registered_model(name))
        return Model(tags=found.tags, aliases={alias: int(number) for alias, number in found.aliases.items()})

    def list_runs(self, experiment: str, tags: Mapping[str, str]) -> list[Run]:
        """Those with all of these tags; see `Server`."""
        asked = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        found = self._list_pages(
            lambda token: self._client.search_runs([experiment], asked, max_results=PAGE, page_token=token)
        )
        return [_to_run(run) for run in found]

    def create_run(self, experiment: str, name: str, *, tags: Mapping[str, str], begun_ms: int) -> Run:
        """A new one; see `Server`."""
        create = self._client.create_run
        return _to_run(self._ask(lambda: create(experiment, start_time=begun_ms, tags=dict(tags), run_name=name)))

    def log_run(self, run: Run, *, params: Mapping[str, str], values: Sequence[Value], step: int) -> None:
        """Write params and metrics; see `Server`."""
        from mlflow.entities import Metric, Param

        told = [Param(name, value) for name, value in params.items()]
        metrics = [Metric(value.name, value.value, value.time_ms, step) for value in values]
        for start in range(0, max(len(told), len(metrics)), BATCH):
            part = slice(start, start + BATCH)
            self._ask(partial(self._client.log_batch, run.id, metrics=metrics[part], params=told[part]))

    def upload(self, run: Run, folder: Path) -> None:
        """Copy the files of a folder; see `Server`."""
        self._ask(lambda: self._client.log_artifacts(run.id, str(folder), "model"))

    def end_run(self, run: Run, *, ended_ms: int) -> None:
        """Nothing more will be written but scores."""
        self._ask(lambda: self._client.set_terminated(run.id, "FINISHED", end_time=ended_ms))

    def delete_run(self, run: str) -> None:
        """Into the server's bin."""
        self._ask_of_what_may_be_gone(lambda: self._client.delete_run(run))

    def list_versions(self, model: str, tags: Mapping[str, str]) -> list[Registered]:
        """Those with all of these tags; see `Server`."""
        asked = " and ".join([f"name = '{model}'", *(f"tags.`{name}` = '{value}'" for name, value in tags.items())])
        found = self._list_pages(
            lambda token: self._client.search_model_versions(asked, max_results=PAGE, page_token=token)
        )
        versions = [_to_registered(version) for version in found]
        return sorted(versions, key=lambda version: version.number)

    def create_version(self, model: str, run: Run, *, tags: Mapping[str, str]) -> Registered:
        """A new one; see `Server`."""
        # Nothing is copied, so that there is nothing to wait for.
        create = partial(self._client.create_model_version, await_creation_for=0)
        made = self._ask(lambda: create(model, f"{run.files}/model", run_id=run.id, tags=dict(tags)))
        return _to_registered(made)

    def delete_version(self, model: str, number: int) -> None:
        """One that is gone is no error."""
        self._ask_of_what_may_be_gone(lambda: self._client.delete_model_version(model, str(number)))

    def tag_version(self, model: str, number: int, *, tags: Mapping[str, str]) -> None:
        """Set these tags, or remove those without a value."""
        set_tag, delete_tag = self._client.set_model_version_tag, self._client.delete_model_version_tag
        for name, value in tags.items():
            if value:
                self._ask(partial(set_tag, model, str(number), name, value))
            else:
                self._ask_of_what_may_be_gone(partial(delete_tag, model, str(number), name))

    def set_alias(self, model: str, alias: str, *, number: int | None) -> None:
        """Point it at a version, or remove it."""
        if number is not None:
            self._ask(lambda: self._client.set_registered_model_alias(model, alias, str(number)))
        else:
            self._ask_of_what_may_be_gone(lambda: self._client.delete_registered_model_alias(model, alias))

    def _list_pages(self, ask: Callable[[str | None], Any]) -> list[Any]:
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._ask(partial(ask, token))
            found += page
            token = page.token
            if not token:
                return found

    def _ask_of_what_may_be_gone(self, call: Callable[[], object]) -> None:
        try:
            self._ask(call)
        except ServerRefuses as error:
            if error.reason not in GONE:
                raise

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return self._ask_once(call)
        except ServerRefuses as error:
            # Two who write the same at once: the database lets one in, and the other the second time.
            if error.reason != "BAD_REQUEST":
                raise
            return self._ask_once(call)

    def _ask_once(self, call: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            return call()
        except MlflowException as error:
            if (reason := str(error.error_code)) in REFUSALS:
                raise ServerRefuses(f"{self._uri}: {_shorten(error)}", reason=reason) from error
            raise ServerAway(f"{self._uri}: {_shorten(error)}") from error
        except (RequestException, OSError) as error:
            # Files travel apart, and nobody translates what happens to them.
            raise ServerAway(f"{self._uri}: {_shorten(error)}") from error


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _to_run(run: Any) -> Run:
    return Run(
        id=run.info.run_id,
        begun_ms=run.info.start_time or 0,
        files=run.info.artifact_uri,
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )


def _to_registered(version: Any) -> Registered:
    return Registered(number=int(version.version), run=version.run_id or "", tags=dict(version.tags))
