"""`fedlog run`: train a policy from nothing to its score, in one command; `fedlog stop`: end what that has started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.console import find_columns, note, number, say, say_json, sparkline, tell
from ops.terminal.errors import ConsoleError
from ops.terminal.options import Accelerator, Attack, LoadLimit, NoPage, Simulate
from schemas.errors import EXIT_USAGE

# More than these say little that is new, and hide the score.
REASONS_SHOWN_MAX = 12
Tier = Annotated[str, typer.Option(help="plain, sealed, or masked, with two helpers of your own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end, progress on stderr.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="One process, virtual time: the same run again from the same seed.")
]

Data = Annotated[
    str, typer.Option(metavar="MODULE:CALLABLE", help="What loads the examples, where the policy names nothing.")
]
Devices = Annotated[int | None, typer.Option(help="Simulated devices (default: as the policy expects).", min=1)]
Secure = Annotated[
    bool, typer.Option("--secure", help="An embedded broker behind doors, and a principal for each process.")
]

if TYPE_CHECKING:
    from ops.history.task_view import TaskView
    from ops.processes.running import Run, RunOptions
    from ops.settings import Settings
    from ops.virtual.running import VirtualRun


def run(
    ctx: typer.Context,
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="File with the task's policy.")],
    name: Annotated[str | None, typer.Option(help="Name of the task (default: the file's, or its folder's).")] = None,
    data: Data = "",
    devices: Devices = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field; repeatable.")
    ] = None,
    tier: Tier = "",
    seed: Annotated[int, typer.Option(help="All seeds of the policy: model, split, training, habits.", min=0)] = 0,
    simulate: Simulate = None,
    attack: Attack = "",
    accelerator: Accelerator = "cpu",
    load_s: LoadLimit = 600.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the task of that name.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave broker, workers, evaluator and page running.")] = False,
    no_page: NoPage = False,
    start: Annotated[
        list[str] | None,
        typer.Option(help="On your cluster: workers, evaluator, fleet or history; repeatable (default: nothing)."),
    ] = None,
    deterministic: Deterministic = False,
    secure: Secure = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy: start what is missing, show progress, end with the score. Ctrl-C ends all that was started."""
    _require_broker(ctx.obj, secure=secure, deterministic=deterministic)
    from client_agent.hostile.attacks import read_option
    from ops.processes.running import RunOptions, name_after, read_policy

    changed = [*_list_changes(ctx.obj, tier=tier, seed=seed), *(settings or [])]
    options = RunOptions(
        policy=read_policy(policy, changed, data=data),
        name=name or name_after(policy, read_option(attack)),
        devices=devices,
        seed=seed,
        simulate=simulate.absolute() if simulate else None,
        cwd=policy.parent,
        resume=resume,
        keep=keep,
        has_page=not no_page,
        start=_read_start(start),
        accelerator=accelerator,
        load_s=load_s,
        attack=read_option(attack),
        secure=secure,
    )
    _run(ctx.obj, options, as_json=as_json, deterministic=deterministic)


def _require_broker(settings: Settings, *, secure: bool, deterministic: bool) -> None:
    """Raises ConsoleError for doors where somebody else puts them up, or where there is no broker at all."""
    if secure and (deterministic or settings.bootstrap_servers):
        other = "--deterministic" if deterministic else "--bootstrap-servers"
        raise ConsoleError(f"--secure is of the embedded broker: leave it or {other} out.", exit_code=EXIT_USAGE)


def _list_changes(settings: Settings, *, tier: str, seed: int) -> list[str]:
    """The changes of a policy that seed and tier stand for."""
    from ops.processes.running import seed_all
    from ops.processes.tiers.masking import list_tier_changes

    return [*seed_all(seed), *list_tier_changes(tier, settings.folder)]


def _read_start(start: list[str] | None) -> frozenset[str] | None:
    from ops.processes.running import STARTABLE

    if unknown := set(start or ()) - set(STARTABLE):
        raise ConsoleError(f"--start {unknown.pop()}: takes one of {', '.join(STARTABLE)}.", exit_code=EXIT_USAGE)
    return frozenset(start) if start else None


def open_run(
    settings: Settings, options: RunOptions, *, say: Callable[[str], None], deterministic: bool
) -> Run | VirtualRun:
    """The run that was asked for, not begun."""
    if deterministic:
        from ops.virtual.running import VirtualRun

        return VirtualRun(settings, options, say=say)
    from ops.processes.running import Run

    return Run(settings, options, say=say)


def _run(settings: Settings, options: RunOptions, *, as_json: bool, deterministic: bool) -> None:
    from ops.logging_setup import set_up_logging
    from ops.processes.panel import View

    # The panel tells the story; structured log lines would bury it.
    set_up_logging(as_json=False, level="warning")
    view = View(to_stderr=as_json)
    if warning := options.describe_attack():
        view.say(warning)
    with open_run(settings, options, say=view.say, deterministic=deterministic) as running:
        with view.live():
            for state in running.follow():
                view.show(state)
        told = running.summarize(state)
    # Printed when all that was started has ended, so that what comes next finds a quiet folder.
    fleet = running.read_fleet_counts()
    if as_json:
        say_json({**told, "fleet": fleet})
    else:
        _print_end(state, told, warning=warning)
        _print_troubles(fleet)
    if running.log_folder is None:
        _suggest_next(settings, options)
    else:
        _suggest_for_files(settings, options.name, folder=running.log_folder)
    _require_success(state, logs=settings.folder / "logs")


def _require_success(view: TaskView, *, logs: Path) -> None:
    """Raises ConsoleError where the task is over for want of something, and says who may have said of what."""
    from ops.history.prospects import describe_failure

    if failure := describe_failure(view):
        # Devices may be ended before they have counted their reasons; their own words are in a file.
        raise ConsoleError(
            f"{failure}. What each part of it has said is in {logs}." if logs.exists() else f"{failure}."
        )


def stop(ctx: typer.Context) -> None:
    """End what `fedlog run` has started in this folder, and nothing else; the log stays."""
    from ops.processes.services import stop_all

    # Each takes seconds, and a person reads them at the end anyway.
    lines = list(stop_all(ctx.obj))
    for line in lines or [f"No run has anything running in {ctx.obj.folder}."]:
        say(line)


def _print_end(view: TaskView, told: dict[str, Any], *, warning: str = "") -> None:
    tell("")
    if warning:
        tell(f"{warning}.")
    score = f"{told['metric']} {number(told['score'])}" if told["metric"] else "no score"
    tell(f"{view.task}: {score} after {view.version} versions and {view.admitted} updates in {told['seconds']} s.")
    tell(f"The task is {view.status}.")
    if curve := told["curve"]:
        tell(f"{told['metric']} by version: {sparkline(curve)}  ({number(curve[0])} to {number(curve[-1])})")
    if "run_sha256" in told:
        tell(f"Run {told['run_sha256'][:16]}: an equal one has the same members, staleness and models, to the bit.")
    if reported := view.device_metrics:
        tell(f"Devices report of their last trainings: {', '.join(f'{k} {number(v)}' for k, v in reported.items())}.")
    if view.created and view.created.policy.parameters.is_personal:
        tell(
            "Each device has arrays of its own, which no version holds: this score is that of a device which has never "
            f"trained. Ask the devices themselves with `fedlog measure {view.task}` (docs/measure.md)."
        )
    if view.epsilon is not None:
        tell(f"Privacy spent: epsilon {number(view.epsilon, 3)} at delta {number(view.delta)} for each device.")


def _print_troubles(fleet: dict[str, Any]) -> None:
    """How many devices failed and how many leases came to nothing, and why; silence where all went well."""
    reasons = [*fleet.get("failed_for", {}).items(), *fleet.get("reasons", {}).items()]
    if not reasons:
        return
    counts = {"failed": "devices failed", "given_up": "leases were given up", "untrained": "zero vectors were sent"}
    named = [f"{fleet[name]} {what}" for name, what in counts.items() if fleet[name]]
    tell(f"Of {fleet['devices']} devices not all could train: {', '.join(named)}, because")
    for reason, count in reasons[:REASONS_SHOWN_MAX]:
        tell(f"{count:>6} × {reason}", indent=" " * 9)
    if (more := len(reasons) - REASONS_SHOWN_MAX) > 0:
        tell(f"       and for {more} more reasons (`--json` has them all)")


def _suggest_next(settings: Settings, options: RunOptions) -> None:
    own_broker = not settings.bootstrap_servers
    commands = {
        **({"broker start": "reading the log needs its Kafka"} if own_broker and not options.keep else {}),
        f"task show {options.name}": "what has happened",
        f"model export --task {options.name} --out exported": "the weights as files",
        "replay --full": "recompute every model",
        **({"stop": "end what runs"} if options.keep else {"broker stop": ""} if own_broker else {}),
    }
    _suggest(settings, commands, where=settings.folder)


def _suggest_for_files(settings: Settings, task: str, *, folder: Path) -> None:
    # Short, where people are: the folder lies below the one that they named.
    here = settings.folder / folder.relative_to(settings.folder.absolute())
    reading = {f"task show {task}": "what has happened", "events": "", "replay --full": "recompute every model"}
    commands = {f"{command} --from-files {here}": what for command, what in {**reading, "verify": ""}.items()}
    _suggest(settings, commands, where=here)


def _suggest(settings: Settings, commands: Mapping[str, str], *, where: Path) -> None:
    """Say which commands come next, and what each is for."""
    note(f"\nThe whole log is in {where}. Try:")
    # As the person found it: another folder or cluster has to be named again.
    named = "".join(
        f" --{name} {value}"
        for name, value, usual in (
            ("folder", str(settings.folder), ".fedlog"),
            ("bootstrap-servers", settings.bootstrap_servers, ""),
        )
        if value != usual
    )
    lines = {f"  fedlog{named} {command}": what for command, what in commands.items()}
    for line in lay_out(lines, columns=find_columns(sys.stderr)):
        note(line)


def lay_out(commands: Mapping[str, str], *, columns: int | None) -> Iterator[str]:
    """Commands as lines, each with what it is for: behind it, or above it where there is no room for that."""
    width = max(map(len, commands))
    has_room = columns is None or all(width + len(f"  # {what}") <= columns for what in commands.values())
    for command, what in commands.items():
        if what and not has_room:
            yield f"  # {what}"
        yield f"{command.ljust(width)}  # {what}" if what and has_room else command
