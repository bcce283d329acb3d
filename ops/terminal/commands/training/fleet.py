"""`fedlog fleet`: many simulated devices, which talk to the actors through Kafka alone."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client_agent.files import write_durably
from ops.console import note
from ops.history.following import Follower
from ops.history.projections import TOPICS
from ops.logging_setup import set_up_logging
from ops.opening import open_log, require_operator
from ops.operator import tasks
from ops.operator.errors import TaskUnknown
from ops.settings import Settings
from ops.terminal.commands.training.progress import TrainingProgress
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import Accelerator, Attack, DataPlugin, LoadLimit, Simulate, make_allow_list
from ops.terminal.reaching import Gateway, GatewayCa, GatewayPin, bind_link, find_gateway
from schemas.errors import EXIT_USAGE
from schemas.topics import TASKS, partition_of
from streams.log import LogUnavailable
from streams.retry import retry_until_available

if TYPE_CHECKING:
    from client_agent.running.fleet import FleetOptions
    from client_agent.running.loop import Stats
    from ops.history.task_view import TaskView
    from schemas.events import TaskCreated
    from streams.log import EventLog

TaskWait = Annotated[float, typer.Option(help="How long a task that is not there is waited for, in seconds.", min=0)]
Seed = Annotated[int, typer.Option(help="Another seed names other devices; the policy has the seeds of what is drawn.")]
Cohorts = Annotated[list[str] | None, typer.Option(help="Cohort of the devices; repeat it to split them.")]
Tokens = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Enrol first: a token of `fedlog enrol token --count` a line, one a device."),
]
# For a run, which knows the policy before the log has it.
Preload = Annotated[list[str] | None, typer.Option(hidden=True)]
ENGINES = ("", "plain", "ray")
# In the folder of a fleet that may not read journals: the tasks of which its devices were told that they are over.
OVER_FILE = "over"

TaskToTrain = Annotated[
    str | None,
    typer.Option(autocompletion=complete_task, help="Task to train; default: the oldest one that is not over."),
]


def fleet(
    ctx: typer.Context,
    task: TaskToTrain = None,
    devices: Annotated[int, typer.Option(help="Number of simulated devices.", min=1)] = 200,
    processes: Annotated[int, typer.Option(help="Number of processes that run them.", min=1)] = 2,
    engine: Annotated[str, typer.Option(help="plain or ray (default: plain for up to 4 processes).")] = "",
    data: DataPlugin = "",
    accelerator: Accelerator = "cpu",
    load_s: LoadLimit = 600.0,
    seed: Seed = 0,
    state: Annotated[Path | None, typer.Option(help="Folder for keys and outboxes (default: FOLDER/fleet).")] = None,
    cohort: Cohorts = None,
    simulate: Simulate = None,
    attack: Attack = "",
    task_wait_s: TaskWait = 10.0,
    enrol: Tokens = None,
    gateway: Gateway = "",
    gateway_ca: GatewayCa = None,
    gateway_pin: GatewayPin = "",
    preload: Preload = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object at the end.")] = False,
) -> None:
    """Run many simulated devices until their task is over, or until Ctrl-C."""
    from client_agent.hostile.attacks import read_option
    from client_agent.running.fleet import FleetOptions
    from client_agent.running.profiles import read_habits

    _check(task, engine)
    operator, reached = require_operator(ctx.obj), find_gateway(gateway, ca_file=gateway_ca, pin=gateway_pin)
    options = FleetOptions(
        task=task or "",
        open_link=bind_link(ctx.obj, operator, gateway=reached),
        folder=(state or ctx.obj.open_folder() / "fleet").resolve(),
        devices=devices,
        processes=processes,
        data=data,
        seed=seed,
        simulation=read_habits(simulate),
        engine=engine,
        cohorts=tuple(cohort or [""]),
        allowed=make_allow_list(ctx),
        accelerator=accelerator,
        load_s=load_s,
        task_wait_s=2 * task_wait_s,  # its own patience ends first, and says more
        preloaded=tuple(preload or ()),
        tokens=() if enrol is None else read_tokens(enrol),
        attack=read_option(attack),
    )
    run_near = partial(_run_near, ctx.obj, operator=operator, wait_s=task_wait_s)
    (_run_afar if reached is not None else run_near)(options, as_json=as_json)


def read_tokens(file: Path) -> tuple[bytes, ...]:
    """The tokens of a file, in order. Raises ConsoleError."""
    from schemas.canonical import MalformedError
    from schemas.identity.tokens import read_token

    try:
        lines = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConsoleError(f"{file}: cannot be read ({error}).", exit_code=EXIT_USAGE) from error
    try:
        return tuple(map(read_token, lines))
    except MalformedError as error:
        raise ConsoleError(f"{file}: {error}", exit_code=EXIT_USAGE) from error


def _check(task: str | None, engine: str) -> None:
    if engine not in ENGINES:
        raise ConsoleError(f"--engine {engine}: takes plain or ray.", exit_code=EXIT_USAGE)
    if task is not None:
        tasks.check_name(task)


def _run_near(settings: Settings, options: FleetOptions, *, operator: bytes, wait_s: float, as_json: bool) -> None:
    from client_agent.running.work import list_heavy

    with open_log(settings) as log:
        find_hidden = partial(log.list_hidden, TOPICS)
        is_told = bool(retry_until_available(find_hidden, outage=log.outage, patience_s=wait_s))
        # With a device's rights it knows its tasks out of their own topic alone.
        topics = (TASKS.name,) if is_told else TOPICS
        over = _read_over(options) if is_told else ()
        is_trained = partial(_is_trained, over=over, has_tokens=bool(options.tokens))
        task = options.task or _wait_for_task(log, operator, topics=topics, is_trained=is_trained)
        # As long as for the task: a run starts its fleet while a slow broker is still making the topics.
        read = partial(_read_tasks, log, operator, task=task)
        created = retry_until_available(read, outage=log.outage, patience_s=wait_s)
        # What its policy needs is imported once, for all processes; a run says so before the log has the task.
        heavy = options.preloaded or (list_heavy(created[task].policy) if task in created else ())
        options = replace(options, task=task, partitions=log.partitions, preloaded=tuple(heavy))
        if is_told:
            note("Journals are not for devices: this fleet ends when each of them has been told that its task is over.")
            _run_told(options, as_json=as_json)
            return
        _run(options, log, operator=operator, patience=Patience(task, created, wait_s=wait_s), as_json=as_json)


def _run_afar(options: FleetOptions, *, as_json: bool) -> None:
    """The same where nobody here sees the log."""
    if not options.task:
        raise ConsoleError("Behind a gateway nobody lists tasks: name one with --task.", exit_code=EXIT_USAGE)
    set_up_logging(as_json=False)
    _run_told(options, as_json=as_json)


def _run_told(options: FleetOptions, *, as_json: bool) -> None:
    """Run until every device has been told that its task is over."""
    from client_agent.running.fleet import is_over, run_fleet

    progress = TrainingProgress(_describe(options))

    def is_done(stats: Stats) -> bool:
        progress.follow(stats)
        return is_over(stats)

    try:
        run_fleet(options, is_done=is_done)
    except KeyboardInterrupt:
        note("Stopped.")
    else:
        _keep_over(options, progress.stats)
    progress.end(options.task, as_json=as_json)


# Which of the tasks that were never closed are over stands in a journal: a fleet that is started again, as a container
# is, would else ask for the same task for ever.
def _read_over(options: FleetOptions) -> tuple[str, ...]:
    kept = options.folder / OVER_FILE
    return tuple(kept.read_text().split()) if kept.exists() else ()


def _keep_over(options: FleetOptions, stats: Stats | None) -> None:
    if stats is not None and stats.closed:
        text = "".join(f"{task}\n" for task in sorted({*_read_over(options), options.task}))
        write_durably(options.folder / OVER_FILE, text.encode())


def _run(options: FleetOptions, log: EventLog, *, operator: bytes, patience: Patience, as_json: bool) -> None:
    from client_agent.running.fleet import is_over, run_fleet

    progress = TrainingProgress(_describe(options))
    views = tasks.make_views(log, operator)
    partitions = [partition_of(options.task, log.partitions)]
    with Follower(log, views, partitions=partitions) as follower:

        def is_done(stats: Stats) -> bool:
            # A broker that is away is waited for: the devices do so too.
            with suppress(LogUnavailable):
                while follower.poll(0.05):
                    pass
            patience.look(view := views.view(options.task))
            progress.follow(stats, view)
            return progress.judge(stats, view) or is_over(stats)

        try:
            run_fleet(options, is_done=is_done)
        except KeyboardInterrupt:
            note("Stopped.")
    progress.end(options.task, as_json=as_json)


def _describe(options: FleetOptions) -> str:
    plain = f"fleet of {options.devices} for {options.task}"
    return plain if options.attack is None else f"TEST UNDER ATTACK ({options.attack}): {plain}"


class Patience:
    """How long a task may be missing, from now on: its devices start meanwhile. `known` are those that exist."""

    def __init__(self, task: str, known: Iterable[str], *, wait_s: float) -> None:
        names = list(known)
        close = difflib.get_close_matches(task, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        self._unknown = TaskUnknown(f"There is no task {task!r}.{hint}")
        # One that is known exists, and is only still being read.
        self._give_up_s = math.inf if task in names else time.monotonic() + wait_s
        if task not in names:
            note(f"There is no task {task!r} yet; waiting {wait_s:.0f} s for it.{hint}")

    def look(self, view: TaskView) -> None:
        """Raises TaskUnknown when the task has been missing for too long."""
        if view.created is None and time.monotonic() > self._give_up_s:
            raise self._unknown


def _read_tasks(log: EventLog, operator: bytes, *, task: str) -> dict[str, TaskCreated]:
    """The tasks beside which this one lives; where it does not exist all of them, one of which may be meant."""
    place = partition_of(task, log.partitions)
    found = tasks.read_creations(log, place, operator=operator)
    others = [] if task in found else [number for number in range(log.partitions) if number != place]
    return found | {
        name: each for at in others for name, each in tasks.read_creations(log, at, operator=operator).items()
    }


def _wait_for_task(
    log: EventLog, operator: bytes, *, topics: Sequence[str], is_trained: Callable[[TaskView], bool]
) -> str:
    """The oldest task that is not over, as far as these topics say; waits until there is one."""
    views = tasks.make_views(log, operator, topics=topics)
    with Follower(log, views) as follower:
        follower.catch_up()
        while not (running := [*filter(is_trained, views.tasks.values())]):
            note("There is no task that is not over; waiting for one (`fedlog task create`).")
            # Whatever is new in the log may be the task, so the views are looked at again.
            while not follower.poll(1.0):
                pass
        # The oldest first, so that a fleet that is started twice works on the same task.
        return min(running, key=lambda view: view.created_ms).task


def _is_trained(view: TaskView, *, over: Sequence[str], has_tokens: bool) -> bool:
    """Whether a fleet that was told no task can take this one: without tokens nobody enrols."""
    is_open = has_tokens or (view.created is not None and not view.created.policy.is_enrolled)
    return view.created is not None and not view.is_over and view.task not in over and is_open
