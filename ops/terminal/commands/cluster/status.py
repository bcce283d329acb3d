"""`fedlog status`: broker, workers, tasks and history on one screen; with `--watch` again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.console import note, number, say, say_json, table

if TYPE_CHECKING:
    from ops.doctor.facts import Facts
    from ops.history.task_view import TaskView

WORKERS = ("worker", "alive", "not decided", "of these late")
TASKS = ("task", "status", "version", "round", "in flight", "score", "epsilon")
_CLEAR = "\x1b[2J\x1b[H"


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every-s", help="How often.", min=0.5)] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look.")] = False,
) -> None:
    """Show on one screen how brokers, workers, tasks and the history stand."""
    while True:
        _look(ctx, as_json=as_json, clears=watch and not as_json)
        if not watch:
            return
        time.sleep(every_s)


def _look(ctx: typer.Context, *, as_json: bool, clears: bool) -> None:
    from ops.doctor.checks import actors
    from ops.doctor.facts import Limits
    from ops.doctor.gathering import add_tails, gather_briefly
    from ops.logging_setup import set_up_logging
    from streams.log import LogError

    # A client's word about a broker that is away stands in the first line anyway.
    set_up_logging(as_json=False)
    facts = gather_briefly(ctx.obj)
    # Only then: the journals take longer to ask than all the rest, and nearly always nobody is late.
    if any(actors.check(facts, Limits())):
        # A broker that has gone meanwhile leaves what was known.
        with suppress(LogError):
            facts = add_tails(ctx.obj, facts)
    views = _find_tasks(ctx, facts)
    if as_json:
        say_json({**_summarize(facts), "tasks": [dict(zip(TASKS, _format_task(view), strict=True)) for view in views]})
        return
    # Only on a terminal: a file of looks is read from top to bottom.
    if clears and sys.stdout.isatty():
        sys.stdout.write(_CLEAR)
    _show(facts, views)


def _show(facts: Facts, views: list[TaskView]) -> None:
    from ops.doctor.checks import check_all
    from ops.doctor.findings import Severity

    summary = _summarize(facts)
    table(("what", "is"), [(name, summary[name]) for name in ("broker", "newest record", "history")])
    say("")
    if facts.cluster is not None:
        table(WORKERS, [row.values() for row in summary["workers"]])
        say("")
    if views:
        table(TASKS, [_format_task(view) for view in views])
        say("")
    # What a look like this shows anyway; keys, chains and certificates only `fedlog doctor` looks at.
    for found in check_all(facts):
        if found.severity is not Severity.NOTE:
            say(f"{found.severity.value}: {found.subject}: {found.what}")
    note("`fedlog doctor` looks at more, and says what to do.")


def _summarize(facts: Facts) -> dict[str, Any]:
    newest_ms = None if facts.cluster is None else facts.cluster.newest_ms
    return {
        "broker": f"no answer: {facts.unreachable}" if facts.cluster is None else f"answers at {facts.servers}",
        "newest record": "none" if newest_ms is None else f"{max(0, facts.now_ms - newest_ms) / 1000:.0f} s ago",
        "history": _describe_history(facts),
        "workers": [dict(zip(WORKERS, row, strict=True)) for row in _list_workers(facts)],
    }


def _describe_history(facts: Facts) -> str:
    history = facts.projection
    if history is None:
        return "none in this folder"
    ends = {} if facts.cluster is None else facts.cluster.ends
    behind = sum(history.find_unread(ends).values())
    kept = "kept up to date" if history.is_followed else "kept by no process"
    return history.unreadable or f"{behind} offsets behind, {kept}"


def _list_workers(facts: Facts) -> Iterator[tuple[str, object, object, object]]:
    from actors.wiring import ROLES
    from ops.doctor.checks.actors import count_undecided, find_waiting

    if facts.cluster is None:
        return
    for name in ROLES:
        group = facts.cluster.groups.get(name)
        alive = "?" if group is None else group.members
        yield name, alive, count_undecided(facts, name), sum(count for _, count in find_waiting(facts, name))


def _find_tasks(ctx: typer.Context, facts: Facts) -> list[TaskView]:
    from ops.terminal import archive, standing

    # Without a broker the log cannot be asked, and to wait for it would hide all else.
    if facts.cluster is None or not facts.cluster.topics:
        return []
    hidden = archive.read_names(ctx.obj.folder)
    return [view for name, view in sorted(standing.find_all(ctx.obj).items()) if name not in hidden]


def _format_task(view: TaskView) -> tuple[object, ...]:
    return (
        view.task,
        view.status,
        view.version,
        f"{view.buffer_fill}/{view.buffer_size or '?'}",
        view.leases_in_flight,
        f"{view.metric_name} {number(view.metric)}" if view.metric_name else "",
        number(view.epsilon),
    )
