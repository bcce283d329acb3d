"""`fedlog measure`: ask the devices of a task how well a version of it does on their data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json, table
from ops.history.following import Follower
from ops.opening import open_log, require_key
from ops.operator import tasks
from ops.terminal.commands.training.measured import describe_scores, format_result
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import DataPlugin
from schemas.errors import EXIT_USAGE
from schemas.policy import Policy, Privacy, check_policy
from schemas.topics import partition_of
from streams.log import EventLog

if TYPE_CHECKING:
    from ops.history.task_view import TaskView
    from ops.operator.results import Result

Measured = Annotated[
    str, typer.Argument(metavar="TASK", autocompletion=complete_task, help="Name of the task to measure.")
]


def measure(
    ctx: typer.Context,
    task: Measured,
    version: Annotated[int | None, typer.Option(help="Version to measure; default: the newest.", min=0)] = None,
    data: DataPlugin = "",
    metrics: Annotated[
        str, typer.Option(help="Metrics, separated by commas; default: those of the task's policy.")
    ] = "",
    bound: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=NUMBER", help="Cut a metric to this, either way; default: 1 or 16; repeatable."),
    ] = None,
    devices: Annotated[int, typer.Option(help="Answers to wait for; default: as many as a round of the task.")] = 0,
    examples_max: Annotated[int, typer.Option(help="A device with more examples counts as one with so many.")] = 1024,
    noise_multiplier: Annotated[float | None, typer.Option(help="With --rho-max: answer with privacy.")] = None,
    rho_max: Annotated[float | None, typer.Option(help="The budget of this measurement.")] = None,
    name: Annotated[str, typer.Option(help="Name of the measurement; default: POPULATION.measured-vVERSION.")] = "",
    wait_s: Annotated[float, typer.Option(help="Seconds to wait for the answer; 0 does not wait.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a task's devices how well a version does on their own data, by a task that `fedlog fleet` answers."""
    from ops.operator.models import choose_version
    from ops.operator.questions import Question, choose_name, make_policy

    key = require_key(ctx.obj)
    privacy = _read_privacy(noise_multiplier, rho_max)
    with open_log(ctx.obj) as log:
        # All tasks of its population: the name of the new one has to be free among them.
        views = tasks.find_views(log, [partition_of(task, log.partitions)], operator=key.public_key)
        view = tasks.require(views, task)
        created = tasks.require({} if view.created is None else {task: view.created}, task)
        question = Question(
            version=choose_version(view, version),
            metrics=[metric.strip() for metric in metrics.split(",") if metric.strip()],
            devices=devices,
            data=data,
            bounds=dict(map(_read_bound, bound or [])),
            examples_max=examples_max,
            privacy=privacy,
        )
        policy = check_policy(make_policy(created.policy, task, question=question))
        name = name or choose_name(task, question.version, taken=views)
        tasks.create(log, name, key=key, policy=policy)
        note(f"{name} asks {policy.aggregation.updates_per_round} devices about version {question.version} of {task}.")
        note(f"They answer with `{_name_fleet(name, policy)}`; `fedlog task show {task}` shows what they said.")
        if wait_s <= 0:
            say(name)
            return
        print_result(_await_result(log, name, operator=key.public_key, wait_s=wait_s), as_json=as_json)


def print_result(result: Result, *, as_json: bool) -> None:
    """One release of a measure task."""
    if as_json:
        say_json(result.to_json())
        return
    if result.scores:
        say(describe_scores(result))
    table(("what", "is"), format_result(result))


def _await_result(log: EventLog, task: str, *, operator: bytes, wait_s: float) -> Result:
    """The first release of a measure task, once it is there."""
    from ops.operator import results

    give_up_s, views = time.monotonic() + wait_s, tasks.make_views(log, operator)
    with Follower(log, views, partitions=[partition_of(task, log.partitions)]) as follower:
        while not (view := views.view(task)).version:
            _check_waiting(view, is_late=time.monotonic() > give_up_s, wait_s=wait_s)
            follower.poll(0.2)
        return results.read(log, view, version=view.version)


def _check_waiting(view: TaskView, *, is_late: bool, wait_s: float) -> None:
    # A task without devices halts by itself, after the policy's idle time.
    if view.halted is not None:
        raise ConsoleError(f"{view.task} ended without an answer: {view.halted.reason}.")
    if is_late:
        fleet = _name_fleet(view.task, view.created.policy if view.created else None)
        raise ConsoleError(
            f"{view.task}: {view.buffer_fill} of {view.buffer_size} devices have answered within {wait_s:g} s. Do they "
            f"run (`{fleet}`), and the workers? The task goes on without this command."
        )


def _name_fleet(task: str, policy: Policy | None) -> str:
    """The command by which simulated devices answer: as many as the measured task has, which have the same data."""
    if policy is None:
        return f"fedlog fleet --task {task}"
    from client_agent.learning.allow_list import is_built_in, is_plugin_name

    # Whoever asks has created the task, and so knows its code.
    plugins = [name for name in policy.list_plugins().values() if is_plugin_name(name) and not is_built_in(name)]
    allow = "".join(f" --allow {name}" for name in dict.fromkeys(plugins))
    return f"fedlog fleet --task {task} --devices {policy.selection.devices_expected}{allow}"


def _read_privacy(noise_multiplier: float | None, rho_max: float | None) -> Privacy | None:
    if noise_multiplier is None and rho_max is None:
        return None
    if noise_multiplier is None or rho_max is None:
        raise ConsoleError("Privacy needs both --noise-multiplier and --rho-max.", exit_code=EXIT_USAGE)
    return Privacy(noise_multiplier=noise_multiplier, rho_max=rho_max)


def _read_bound(text: str) -> tuple[str, float]:
    metric, equals, value = text.rpartition("=")
    try:
        bound = float(value)
    except ValueError:
        bound = 0.0
    if not (equals and metric and bound > 0):
        raise ConsoleError(f"--bound {text}: expected METRIC=NUMBER, for instance loss=8.", exit_code=EXIT_USAGE)
    return metric, bound
