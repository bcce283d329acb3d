"""What is only looked at: lists of tasks, rounds, versions, devices, charges, workers and events; a task; a version."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ops.history.tables import explaining
from ops.web.api.asked import Question, list_objects, write_answer
from ops.web.api.rows import INTEGER_MAX, Filter, Listing, Number, Page, make_page_model, require_task, require_version
from ops.web.callers import find_caller
from ops.web.site import find_site

router = APIRouter(tags=["reading"])

# The same form as in the log; the pattern of a browser's language knows no `\Z`.
TaskName = Annotated[str, Path(max_length=127, pattern=r"^[a-z0-9][a-z0-9-]{0,62}(\.[a-z0-9][a-z0-9-]{0,62})?$")]
VersionNumber = Annotated[int, Path(ge=0, le=INTEGER_MAX)]

_PLACE = ("topic", "partition", '"offset"')
TASKS = Listing("tasks", ("task",))
ROUNDS = Listing("rounds", ("task", "round_id"))
VERSIONS = Listing("versions", ("task", "version"))
DEVICES = Listing("devices", ("task", "device"))
UPDATES = Listing("updates", ("task", "update_id", 'coalesce("offset", -1)', "coalesce(outcome, '')"))
LEASES = Listing("leases", ("task", "lease"))
LEDGER = Listing("ledger", ("task", "round_id", *_PLACE))
EVALUATIONS = Listing("evaluations", ("task", "version", "cohort", "metric", "epoch_ms(evaluated_at)"))
SCORES = Listing("scores", ("task", "version", "cohort"))
# In the order of the journal: a rollback and the promotion behind it may stand in one record.
ROLLOUTS = Listing("rollouts", ("task", '"offset"', "number"))
QUARANTINES = Listing("quarantines", ("task", '"offset"', "number"))
ANOMALIES = Listing("anomalies", ("task", "round_id", "update_id"))
# Devices may also claim what was never published.
PRODUCTION = Listing("production", ("task", "coalesce(version, -1)"))
ANCESTRY = Listing("ancestry", ("task",))
MEASUREMENTS = Listing("measurements", ("task", "version"))
WORKERS = Listing("workers", _PLACE)
# What an event says of a device or a reason stands within it.
_INSIDE = {"device": "events.values ->> 'device'", "reason": "events.values ->> 'reason'"}
EVENTS = Listing("events", ("sequence", *_PLACE, "number"), expressions=_INSIDE)


class OfTask(Page):
    task: Filter = None


class ByStatus(Page):
    status: Filter = None


class OfPopulation(ByStatus):
    population: Filter = None


class OfUpdates(Page):
    device: Filter = None
    outcome: Filter = None
    version: Number = None


class OfLeases(Page):
    device: Filter = None
    outcome: Filter = None


class OfEvaluations(Page):
    cohort: Filter = None
    metric: Filter = None
    version: Number = None


class OfScores(Page):
    cohort: Filter = None
    status: Filter = None
    version: Number = None


class OfDevices(OfTask):
    device: Filter = None
    cohort: Filter = None


class OfDevice(Page):
    device: Filter = None


class OfWorkers(Page):
    actor: Filter = None


class OfEvents(OfTask):
    event: Filter = None
    device: Filter = None
    reason: Filter = None
    newest: Annotated[bool, Field(description="The newest first.")] = False


def _describe(table: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": make_page_model(table)}}


@router.get("/position")
def show_position(request: Request) -> dict[str, str]:
    """Where the history stands now."""
    site = find_site(request)
    return {"position": str(site.reader_for(find_caller(request)).position)}


@router.get("/tasks", responses=_describe("tasks"))
def list_tasks(asked: Question, page: Annotated[OfPopulation, Query()]) -> Response:
    """Every task, by name."""
    return TASKS.answer(asked, page)


@router.get("/tasks/{task}")
def show_task(asked: Question, task: TaskName) -> Response:
    """One task with its policy."""
    found = require_task(asked, task)
    # Another question of the same moment: both are asked as of it, where one is named.
    policy = asked.ask("SELECT policy FROM policies WHERE task = $task", task=task)
    shown = {**next(list_objects(found)), **next(list_objects(policy), {"policy": None})}
    return write_answer(found, {"task": shown})


@router.get("/tasks/{task}/rounds", responses=_describe("rounds"))
def list_rounds(asked: Question, task: TaskName, *, page: Annotated[ByStatus, Query()]) -> Response:
    """The rounds of a task, in order."""
    return ROUNDS.answer(asked, page, task=task)


@router.get("/tasks/{task}/versions", responses=_describe("versions"))
def list_versions(asked: Question, task: TaskName, *, page: Annotated[Page, Query()]) -> Response:
    """The published versions of a task, in order."""
    return VERSIONS.answer(asked, page, task=task)


@router.get("/tasks/{task}/versions/{version}/explain")
def explain_version(asked: Question, task: TaskName, *, version: VersionNumber) -> Response:
    """Who is in a version, who was refused meanwhile and why, what it cost, and which records say so."""
    require_version(asked, task, version=version)
    parts = explaining.explain(asked.ask, task, version=version)
    told = {part.title.replace(" ", "_"): [*list_objects(part.answer)] for part in parts}
    return write_answer(parts[0].answer, told)


@router.get("/tasks/{task}/updates", responses=_describe("updates"))
def list_updates(asked: Question, task: TaskName, *, page: Annotated[OfUpdates, Query()]) -> Response:
    """The updates of a task: what became of each, its weight and its waits."""
    return UPDATES.answer(asked, page, task=task)


@router.get("/tasks/{task}/leases", responses=_describe("leases"))
def list_leases(asked: Question, task: TaskName, *, page: Annotated[OfLeases, Query()]) -> Response:
    """The leases of a task, and how each ended."""
    return LEASES.answer(asked, page, task=task)


@router.get("/tasks/{task}/evaluations", responses=_describe("evaluations"))
def list_evaluations(asked: Question, task: TaskName, *, page: Annotated[OfEvaluations, Query()]) -> Response:
    """How the versions of a task do on held-out data."""
    return EVALUATIONS.answer(asked, page, task=task)


@router.get("/tasks/{task}/scores", responses=_describe("scores"))
def list_scores(asked: Question, task: TaskName, *, page: Annotated[OfScores, Query()]) -> Response:
    """Which scores of a task's versions are final, and what the others wait for, by cohort."""
    return SCORES.answer(asked, page, task=task)


@router.get("/tasks/{task}/rollout", responses=_describe("rollouts"))
def list_steps(asked: Question, task: TaskName, *, page: Annotated[Page, Query()]) -> Response:
    """The steps of a task's rollout: what was tried, promoted and rolled back, why, and on which scores."""
    return ROLLOUTS.answer(asked, page, task=task)


@router.get("/tasks/{task}/quarantines", responses=_describe("quarantines"))
def list_quarantines(asked: Question, task: TaskName, *, page: Annotated[OfDevice, Query()]) -> Response:
    """The devices of a task that were let in no more: why, how far out, and whether that was lifted. For operators."""
    # Each row accuses one device, and by figures alone.
    asked.caller.require("operator")
    return QUARANTINES.answer(asked, page, task=task)


@router.get("/tasks/{task}/anomalies", responses=_describe("anomalies"))
def list_anomalies(asked: Question, task: TaskName, *, page: Annotated[OfDevice, Query()]) -> Response:
    """The updates of a task that stood apart from the others of their round, and how far. For operators."""
    asked.caller.require("operator")
    return ANOMALIES.answer(asked, page, task=task)


@router.get("/tasks/{task}/production", responses=_describe("production"))
def list_running(asked: Question, task: TaskName, *, page: Annotated[Page, Query()]) -> Response:
    """Which version how many devices of a task run in production, as they say themselves."""
    return PRODUCTION.answer(asked, page, task=task)


@router.get("/devices", responses=_describe("devices"))
def list_devices(asked: Question, page: Annotated[OfDevices, Query()]) -> Response:
    """The devices of each task: how often each took part, and what became of it."""
    return DEVICES.answer(asked, page)


@router.get("/ledger", responses=_describe("ledger"))
def list_charges(asked: Question, page: Annotated[OfTask, Query()]) -> Response:
    """The rounds that were charged to a privacy budget, or withheld."""
    return LEDGER.answer(asked, page)


@router.get("/ancestry", responses=_describe("ancestry"))
def list_ancestry(asked: Question, page: Annotated[OfTask, Query()]) -> Response:
    """The tasks that start from another."""
    return ANCESTRY.answer(asked, page)


@router.get("/measurements", responses=_describe("measurements"))
def list_measurements(asked: Question, page: Annotated[OfTask, Query()]) -> Response:
    """The releases of measure tasks."""
    return MEASUREMENTS.answer(asked, page)


@router.get("/workers", responses=_describe("workers"))
def list_workers(asked: Question, page: Annotated[OfWorkers, Query()]) -> Response:
    """The claims of journals by workers, and what went wrong under each."""
    return WORKERS.answer(asked, page)


@router.get("/events", responses=_describe("events"))
def list_events(asked: Question, page: Annotated[OfEvents, Query()]) -> Response:
    """Every event, with its place in the log."""
    return EVENTS.answer(asked, page)
