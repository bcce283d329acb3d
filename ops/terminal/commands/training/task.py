"""`fedlog task`: create, list, show, pause, resume, lift, close."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from ops.console import note, number, say, say_json, sparkline, table
from ops.history.task_view import TaskView, is_measured
from ops.opening import find_operator, open_log, open_log_or_export, require_key
from ops.operator import succession, tasks
from ops.terminal import archive, standing
from ops.terminal.commands.training.measured import describe_scores, format_result
from ops.terminal.commands.training.policy import list_lines
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas import policy as policies
from schemas.canonical import to_plain
from schemas.errors import EXIT_USAGE
from schemas.policy import compute_rho
from schemas.topics import partition_of

if TYPE_CHECKING:
    from ops.operator.results import Result

app = typer.Typer(help="Tasks: create, list, show, pause, resume, close.", no_args_is_help=True)

COLUMNS = ("task", "status", "version", "buffer", "admitted", "refused", "staleness", "score", "epsilon", "leases")
QUARANTINED_SHOWN = 4
Name = Annotated[str, typer.Argument(metavar="TASK", autocompletion=complete_task, help="Name of the task.")]


@app.command()
def create(
    ctx: typer.Context,
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="File with the task's policy.")],
    name: Annotated[str, typer.Option(help="Lower-case letters, digits, dashes; or two such, POPULATION.TASK.")],
    old: Annotated[
        str | None, typer.Option("--from", help="Close this task and carry on from what it has spent.")
    ] = None,
    from_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Start with these weights: .pt, .npz or .safetensors, named as the model's."),
    ] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Start with the newest model of the task named by --from.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option(help="Seconds to wait until the task named by --from has ended.")
    ] = succession.CLOSE_WAIT_S,
) -> None:
    """Create a task: check the policy, store the first model, and append TaskCreated."""
    from ops.processes.services import list_actors

    # Both before the policy is read: what is wrong on the command line is said first.
    tasks.check_name(name)
    if warm_start and old is None:
        raise ConsoleError("--warm-start takes the model of another task: name that task with --from.", exit_code=2)
    if from_weights is not None and old is not None:
        raise ConsoleError("--from-weights starts a task of its own: leave --from out.", exit_code=2)
    checked = policies.parse(policy.read_bytes())
    predecessor = succession.Predecessor(task=old, warm_start=warm_start, wait_s=wait_s) if old else None
    start = succession.Weights(path=from_weights) if from_weights else predecessor
    with open_log(ctx.obj) as log:
        created = tasks.create(log, name, key=require_key(ctx.obj), policy=checked, after=start)
    what = "elements asked for" if created.policy.measure else "parameters"
    say(f"{name}: {created.parameters} {what}, partition {partition_of(name, created.partitions)}")
    if predecessor:
        spent = float(compute_rho(created.spent_before))
        note(f"{old} is closed; what it and the tasks before it have spent counts here: rho {spent:g}.")
    *others, last = list_actors(created.policy)
    note(f"`fedlog task show {name}` shows its progress; it needs the workers {', '.join(others)} and {last}.")


@app.command("fork")
def fork_task(
    ctx: typer.Context,
    task: Name,
    at: Annotated[int, typer.Option(metavar="VERSION", help="The version to start from.", min=0)],
    name: Annotated[str, typer.Option(help="Name of the new task.")],
    policy: Annotated[
        Path | None, typer.Option(metavar="POLICY.toml", help="Another policy (default: that of the task).")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field; repeatable.")
    ] = None,
) -> None:
    """Start a new task from any version of another; a private one ends with that, and all it has spent counts."""
    tasks.check_name(name)
    key = require_key(ctx.obj)
    with open_log(ctx.obj) as log:
        parent = tasks.find_view(log, task, operator=key.public_key)
        # As a file would say it, so that whatever --set names is checked as it is in a file.
        text = policy.read_bytes() if policy else _write_policy(parent)
        forked = policies.parse(text, changes=changes or [])
        created = tasks.fork(log, succession.Branch(task=task, version=at), name=name, key=key, policy=forked)
    say(f"{name}: starts from {task}@{at}, partition {partition_of(name, created.partitions)}")
    if created.parent is not None:
        note(f"{task} is closed; what it and the tasks before it have spent counts here.")


def _write_policy(view: TaskView) -> bytes:
    created = view.created
    assert created is not None
    return "\n".join(list_lines(to_builtins(created.policy))).encode()


@app.command("list")
def list_tasks(
    ctx: typer.Context,
    running: Annotated[bool, typer.Option("--running", help="Only tasks that are not over.")] = False,
    since: Annotated[str, typer.Option(metavar="AGE", help="Only tasks created within 90m, 24h or 7d.")] = "",
    with_archived: Annotated[bool, typer.Option("--all", help="Archived tasks too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per task.")] = False,
) -> None:
    """Show every task on one line."""
    since_ms = time.time() * 1000 - archive.parse_age_s(since) * 1000 if since else 0.0
    hidden = set[str]() if with_archived else archive.read_names(ctx.obj.folder)
    found = standing.find_all(ctx.obj)
    # Sorted by name, so that the list is the same on every run.
    views = [view for name, view in sorted(found.items()) if name not in hidden and view.created_ms >= since_ms]
    views = [view for view in views if not (running and view.is_over)]
    if as_json:
        for view in views:
            say_json(tasks.summarize(view))
        return
    if not views:
        say("No such tasks." if found else "No tasks yet. `fedlog task create POLICY.toml --name NAME` creates one.")
        return
    table(COLUMNS, [_format_row(view) for view in views])


@app.command("archive")
def archive_task(
    ctx: typer.Context,
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="List it again.")] = False,
) -> None:
    """Leave a task out of `task list` in this folder; the log and everybody else keep it."""
    with open_log(ctx.obj) as log:
        view = tasks.find_view(log, name, operator=find_operator(ctx.obj))
    # One that still trains would be forgotten, and go on.
    if not undo and not view.is_over:
        raise ConsoleError(f"{name} is not over: `fedlog task close {name}` first.")
    archive.write_name(ctx.obj.open_folder(), name, is_archived=not undo)
    say(f"{name} is listed again." if undo else f"{name} is archived; `fedlog task list --all` shows it.")


@app.command()
def show(
    ctx: typer.Context,
    name: Name,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one task in detail."""
    view, *others = standing.find_one(ctx.obj, name, versions="scored", from_files=from_files)
    measured: list[Result] = []
    own = None
    # What was measured stands in bodies: only for that the log is needed, and numpy, whose import a person notices.
    if is_measured([view, *others], of=name):
        from ops.operator import results

        with open_log_or_export(ctx.obj, from_files) as log:
            measured = results.list_measurements(log, others, of=name)
            own = results.read_newest(log, view)
    if as_json:
        told = {
            **tasks.summarize(view),
            "policy": to_plain(view.created.policy) if view.created else None,
            "curve": view.curve(),
            "measurements": [result.to_json() for result in measured],
            "result": own.to_json() if own else None,
        }
        say_json(told)
        return
    rows = [*_format_details(view), *_format_measurements(view, measured), *(format_result(own) if own else [])]
    table(("what", "is"), rows, title=name)


@app.command()
def pause(ctx: typer.Context, name: Name) -> None:
    """Grant no new leases; updates under way are still admitted."""
    with open_log(ctx.obj) as log:
        tasks.pause(log, name, key=require_key(ctx.obj))
    say(f"{name} is paused: no new leases; updates under way are still admitted.")


@app.command()
def resume(ctx: typer.Context, name: Name) -> None:
    """Grant leases again."""
    with open_log(ctx.obj) as log:
        tasks.resume(log, name, key=require_key(ctx.obj))
    say(f"{name} is running again.")


@app.command()
def lift(
    ctx: typer.Context,
    name: Name,
    device: Annotated[str, typer.Option(metavar="ID", help="Its id, or that of its subject; the first digits do.")],
) -> None:
    """Let a quarantined device take part again."""
    from ops.operator.quarantines.lifting import lift as lift_quarantine

    with open_log(ctx.obj) as log:
        held = lift_quarantine(log, name, device=device, key=require_key(ctx.obj))
    rounds = ", ".join(map(str, held.rounds))
    say(f"{held.subject or held.device} takes part in {name} again; it was quarantined for rounds {rounds}.")


@app.command()
def close(ctx: typer.Context, name: Name) -> None:
    """End the task for good; its versions stay."""
    with open_log(ctx.obj) as log:
        tasks.close(log, name, key=require_key(ctx.obj))
    say(f"{name} is closed; its versions stay.")


@app.command(hidden=True)
def delete(name: Name) -> None:
    """Refuse: whoever looks for this command means another one."""
    raise ConsoleError(
        f"No task is ever deleted: its log is kept for good. `fedlog task archive {name}` leaves it out of `task list` "
        f"here, and `fedlog task close {name}` ends one that is running.",
        exit_code=EXIT_USAGE,
    )


def _format_row(view: TaskView) -> tuple[object, ...]:
    return (
        view.task,
        view.status,
        view.version,
        f"{view.buffer_fill}/{view.buffer_size or '?'}",
        view.admitted,
        view.refused.total(),
        number(view.staleness_mean, 3),
        f"{view.metric_name} {number(view.metric)}" if view.metric_name else "",
        number(view.epsilon),
        view.leases_in_flight,
    )


def _format_details(view: TaskView) -> list[tuple[str, object]]:
    """The lines of `task show`; what has not happened is left out."""
    shown = tasks.summarize(view)
    shown["buffer"] = f"{view.buffer_fill} of {view.buffer_size or '?'}"
    shown["tier"] = view.created.policy.tier_label if view.created else None
    if view.epsilon is not None:
        shown["epsilon"] = f"{number(view.epsilon)} at delta {number(view.delta, 2)}"
        shown["rho"] = f"{number(view.rho)} of {number(shown['rho_max'])}"
    if view.population is not None:
        shown["population_rho"] = f"{number(view.population.rho_spent)} of {number(view.population.rho_max)}"
    # A screen has room for a few; all of them are in the JSON, and in `fedlog devices`.
    names = [f"{one['device'][:12]}… (rounds {', '.join(map(str, one['rounds']))})" for one in shown["quarantined"]]
    more = f" and {len(names) - QUARANTINED_SHOWN} more" if len(names) > QUARANTINED_SHOWN else ""
    shown["quarantined"] = ", ".join(names[:QUARANTINED_SHOWN]) + more
    # Of a task with several metrics it is said whose curve it is.
    shown["curve"] = f"{sparkline(view.curve())} {view.metric_name or ''}".strip()
    # These are shown as part of another line.
    left_out = ("task", "buffer_size", "delta", "rho_max", "population_rho_max")
    return [
        (name.replace("_", " "), _format_value(value))
        for name, value in shown.items()
        if name not in left_out and value not in (None, {}, "")
    ]


def _format_measurements(view: TaskView, measured: Sequence[Result]) -> list[tuple[str, object]]:
    """What devices said of a version, after what the evaluator says of it."""
    rows: list[tuple[str, object]] = []
    # Two measurements of one version stand below one line of the evaluator's.
    told: set[int | None] = set()
    for result in measured:
        held_out = view.evaluations.get(result.of_version or 0)
        if held_out is not None and result.of_version not in told:
            scores = ", ".join(f"{name} {number(value)}" for name, value in held_out.metrics.items())
            rows.append((f"version {result.of_version} held out", scores))
        told.add(result.of_version)
        rows.append((f"version {result.of_version} on devices", f"{describe_scores(result)} ({result.task})"))
    return rows


def _format_value(value: object) -> object:
    match value:
        case dict():
            return ", ".join(f"{name} {_format_value(one)}" for name, one in value.items())
        case float():
            return number(value)
    return value
