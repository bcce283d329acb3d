"""`fedlog task`: create, list, show, pause, resume, close."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.console import ConsoleError, note, number, say, say_json, sparkline, table
from ops.history.projections import Follower, Projection, TaskView
from ops.opening import open_log
from ops.operator import tasks
from ops.settings import Settings
from schemas import policy as policies
from schemas.canonical import plain
from schemas.events import TaskClosed, TaskPaused, TaskResumed
from schemas.topics import PARTITIONS, partition_of

app = typer.Typer(help="Tasks: create, list, show, pause, resume, close.", no_args_is_help=True)

COLUMNS = ("task", "status", "version", "buffer", "admitted", "refused", "staleness", "accuracy", "epsilon", "leases")
Name = Annotated[str, typer.Argument(metavar="TASK", help="The task's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a task.")]


@app.command()
def create(
    ctx: typer.Context,
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="The task's policy.")],
    name: Annotated[str, typer.Option(help="Lower-case letters, digits and dashes.")],
    old: Annotated[
        str | None, typer.Option("--from", help="Close this task and carry on from its participations.")
    ] = None,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Begin with the newest model of --from.")] = False,
    wait_s: Annotated[float, typer.Option(help="How long to wait for the end of --from.")] = tasks.CLOSE_WAIT_S,
) -> None:
    """Create a task: check the policy, store its first model, and write TaskCreated."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ConsoleError(f"--name {name!r}: lower-case letters, digits and dashes, at most 63.", exit_code=2)
    if warm_start and old is None:
        raise ConsoleError("--warm-start takes a model over from another task: name that with --from.", exit_code=2)
    checked = policies.parse(policy.read_text())
    with open_log(ctx.obj) as log:
        if tasks.creation_of(log, name) is not None:
            raise ConsoleError(f"A task {name!r} exists already, and a policy never changes: choose another name.")
        parent = tasks.carried_on(log, old, wait_s=wait_s) if old else None
        created = tasks.create(log, name, policy=checked, parent=parent, warm=warm_start)
    say(f"{name}: {created.parameters} parameters, partition {partition_of(name)}")
    if parent:
        note(f"{old} is closed; its busiest device brings {parent.participations} participations along.")
    note(f"`fedlog task show {name}` tells how it goes; it needs the workers selector, aggregator and privacy.")


@app.command("list")
def list_tasks(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show every task in one line."""
    views = sorted(_read(ctx.obj, range(PARTITIONS)).tasks.values(), key=lambda view: view.task)
    if as_json:
        for view in views:
            say_json(summary(view))
        return
    if not views:
        say("No tasks yet. `fedlog task create POLICY.toml --name NAME` makes one.")
        return
    table(COLUMNS, [_row(view) for view in views])


@app.command()
def show(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show all there is to know about a task."""
    view = _read(ctx.obj, [partition_of(name)]).tasks.get(name)
    if view is None:
        raise ConsoleError(f"There is no task {name!r}. `fedlog task list` shows those that exist.")
    if as_json:
        policy = plain(view.created.policy) if view.created else None
        say_json({**summary(view), "policy": policy, "curve": view.curve()})
        return
    table(("what", "is"), _details(view), title=name)


@app.command()
def pause(ctx: typer.Context, name: Name) -> None:
    """Grant no new leases; updates under way are still admitted."""
    _say_of(ctx.obj, TaskPaused(task=name), what="is paused: no new leases; what is under way is still admitted")


@app.command()
def resume(ctx: typer.Context, name: Name) -> None:
    """Grant leases again."""
    _say_of(ctx.obj, TaskResumed(task=name), what="goes on")


@app.command()
def close(ctx: typer.Context, name: Name) -> None:
    """End the task for good; its versions stay."""
    _say_of(ctx.obj, TaskClosed(task=name), what="is closed; its versions stay")


def _say_of(settings: Settings, fact: TaskPaused | TaskResumed | TaskClosed, *, what: str) -> None:
    with open_log(settings) as log:
        tasks.say_of(log, fact)
    say(f"{fact.task} {what}")


def _read(settings: Settings, partitions: Any) -> Projection:
    with open_log(settings) as log, Follower(log, Projection(), partitions=partitions) as follower:
        return follower.catch_up()


def summary(view: TaskView) -> dict[str, Any]:
    """A task as one JSON object."""
    privacy = view.created.policy.privacy if view.created else None
    return {
        "task": view.task,
        "status": view.status,
        "partition": partition_of(view.task),
        "parent": view.created.parent if view.created else None,
        "parameters": view.created.parameters if view.created else None,
        "version": view.version,
        "buffer": view.buffer_fill,
        "buffer_size": view.buffer_size,
        "rounds_pending": len(view.rounds_pending),
        "updates_admitted": view.admitted,
        "updates_zeroed": dict(view.zeroed),
        "updates_refused": dict(view.refused),
        "checkins_declined": dict(view.declined),
        "staleness_mean": view.staleness_mean,
        "staleness_max": view.staleness_max,
        "leases_in_flight": len(view.leases),
        "leases_expired": view.leases_expired,
        "participations_max": view.participations_max,
        "rounds_abandoned": dict(view.abandoned),
        "accuracy": view.metric,
        "epsilon": view.epsilon,
        "delta": view.delta,
        "rho": view.rho,
        "rho_max": privacy.rho_max if privacy else None,
    }


def _row(view: TaskView) -> tuple[object, ...]:
    return (
        view.task,
        view.status,
        view.version,
        f"{view.buffer_fill}/{view.buffer_size or '?'}",
        view.admitted,
        view.refused.total(),
        number(view.staleness_mean, 3),
        number(view.metric),
        number(view.epsilon),
        len(view.leases),
    )


def _details(view: TaskView) -> list[tuple[str, object]]:
    """The lines of `task show`; what has not happened is left out."""
    told = summary(view)
    told["buffer"] = f"{view.buffer_fill} of {view.buffer_size or '?'}"
    if view.epsilon is not None:
        told["epsilon"] = f"{number(view.epsilon)} at delta {number(view.delta, 2)}"
        told["rho"] = f"{number(view.rho)} of {number(told['rho_max'])}"
    told["curve"] = sparkline(view.curve())
    left_out = ("task", "buffer_size", "delta", "rho_max")
    return [
        (name.replace("_", " "), _told(value))
        for name, value in told.items()
        if name not in left_out and value not in (None, {}, "")
    ]


def _told(value: object) -> object:
    match value:
        case dict():
            return ", ".join(f"{name} {count}" for name, count in value.items())
        case float():
            return number(value)
    return value
