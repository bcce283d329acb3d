"""What operators do to tasks. Each answer waits until the history has what was written, so that it is seen next."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.web.api.asked import POSITION_HEADER
from ops.web.api.reading import TaskName
from ops.web.callers import find_caller
from ops.web.site import find_site
from schemas.events import TaskCreated

router = APIRouter(tags=["changing"])
Name = Annotated[str, Field(max_length=127, description="Lower-case letters, digits, dashes; or POPULATION.TASK.")]


class NewTask(BaseModel):
    """A task to create: its name, and its policy as a file has it."""

    # A field that nobody knows is a misspelt one, and would be ignored otherwise.
    model_config = ConfigDict(extra="forbid")
    name: Name
    policy: Annotated[str, Field(max_length=200_000, description="The policy, TOML.")]


class NewFork(BaseModel):
    """A task that starts from a version of another."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    version: Annotated[int, Field(ge=0, le=10**15)]
    rho_max: Annotated[
        float | None, Field(gt=0, le=10**6, description="Another privacy budget; all that was spent counts against it.")
    ] = None


class Lifted(BaseModel):
    """A device that is to take part again."""

    model_config = ConfigDict(extra="forbid")
    device: Annotated[str, Field(min_length=1, max_length=127, description="Its id, or as whom it is enrolled.")]


@router.post("/tasks", status_code=201)
@router.post("/training/start", status_code=201, summary="Create Task, by the name that other systems have for it")
def create_task(request: Request, new: NewTask) -> Response:
    """Create a task: its first model is made and stored, and devices may train it. Needs the role admin."""
    created = find_site(request).operator.create(new.name, policy_toml=new.policy, caller=find_caller(request))
    return _write_created(request, created)


@router.post("/tasks/{task}/fork", status_code=201)
def fork_task(request: Request, task: TaskName, *, new: NewFork) -> Response:
    """Start a task from a version of another, with its policy; a private one ends with that. Needs the role admin."""
    operator = find_site(request).operator
    caller = find_caller(request)
    created = operator.fork(task, version=new.version, name=new.name, caller=caller, rho_max=new.rho_max)
    return _write_created(request, created)


@router.post("/tasks/{task}/pause")
def pause_task(request: Request, task: TaskName) -> Response:
    """No new leases; updates under way are still admitted."""
    return _write_seen(request, is_seen=find_site(request).operator.pause(task, caller=find_caller(request)))


@router.post("/tasks/{task}/resume")
def resume_task(request: Request, task: TaskName) -> Response:
    """Leases again."""
    return _write_seen(request, is_seen=find_site(request).operator.resume(task, caller=find_caller(request)))


@router.post("/tasks/{task}/close")
def close_task(request: Request, task: TaskName) -> Response:
    """End a task for good; its versions stay."""
    return _write_seen(request, is_seen=find_site(request).operator.close(task, caller=find_caller(request)))


@router.post("/tasks/{task}/lift")
def lift_quarantine(request: Request, task: TaskName, *, lifted: Lifted) -> Response:
    """Let a device take part again that was quarantined."""
    caller = find_caller(request)
    return _write_seen(request, is_seen=find_site(request).operator.lift(task, device=lifted.device, caller=caller))


def _write_created(request: Request, created: TaskCreated) -> Response:
    told = {"task": created.task, "parameters": created.parameters, "parent": created.parent}
    return _write(request, told, status=201, headers={"Location": f"/api/v1/tasks/{created.task}"})


def _write_seen(request: Request, *, is_seen: bool) -> Response:
    # 202 where the log has it and the history is behind: asking again later shows it.
    return _write(request, {"seen": is_seen}, status=200 if is_seen else 202)


def _write(
    request: Request, told: dict[str, Any], *, status: int, headers: dict[str, str] | None = None
) -> JSONResponse:
    # Of the history after the change: whoever shows this position next has what was written.
    position = str(find_site(request).reader.position)
    return JSONResponse({"position": position, **told}, status, headers={POSITION_HEADER: position, **(headers or {})})
