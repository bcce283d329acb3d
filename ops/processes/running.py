"""One run: starts what is missing, creates the task, and follows it to its end. `fedlog run` and notebooks call it.

Where servers are named, only what was asked for is started there.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace as replace_fields

from actors import keys
from client_agent.hostile.attacks import Attack
from client_agent.hostile.crew import choose_attackers
from client_agent.learning.opening import require_accelerator
from client_agent.learning.plugins import require_modules
from client_agent.running.profiles import read_habits
from client_agent.running.watch import LOAD_S
from client_agent.running.work import choose_data, list_heavy
from ops.history.following import Follower
from ops.history.task_view import TaskView
from ops.operator import deployments, tasks
from ops.operator.errors import TaskExists
from ops.processes.services import Page, Services, can_keep_history, list_actors
from ops.processes.tiers.masking import start_helpers
from ops.processes.wording import Wording
from ops.settings import Settings
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.policy import Policy, parse
from schemas.topics import CATALOGUE, TASKS, partition_of
from streams.kafka.log import KafkaLog
from streams.retry import retry_until_available

if TYPE_CHECKING:
    from schemas.tensors import Floats

STARTABLE = ("workers", "evaluator", "fleet", "history")
# On a machine with more work than cores one score takes as long, and a broker that was away is asked again after it.
SCORE_WAIT_S = 75.0
EVALUATOR_START_S = 60.0
# A fleet starts before its task is there, whose first model may take long to make; where none comes, the run ends it.
TASK_WAIT_S = 3600.0
TOPICS_WAIT_S = 60.0
POLL_S = 0.25


class RunFailed(FedlogError):
    """The run came to no end of its own; the message says why."""

    code = "run_failed"


class TooFewDevices(FedlogError):
    """A round needs more devices than were asked for."""

    exit_code = EXIT_USAGE
    code = "too_few_devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What to train and how. `devices` None: as many as the policy expects; `cwd`: where the policy's modules lie.

    `simulate`: a file of the devices' habits.
    `resume`: go on with the task of that name. `keep`: leave all but the fleet running. `has_page`: serve the page
    meanwhile. `start`: what to start; None is all of STARTABLE. `wording`: who reads what goes wrong.
    `accelerator`: what torch computes with in fleet and evaluator. `load_s`: how long one device's data may load.
    `attack`: what some of the devices carry out, as a test. `secure`: a broker behind doors, a principal a process.
    """

    policy: Policy
    name: str
    devices: int | None = None
    seed: int = 0
    simulate: Path | None = None
    cwd: Path = field(default_factory=Path.cwd)
    resume: bool = False
    keep: bool = False
    has_page: bool = False
    start: frozenset[str] | None = None
    wording: Wording = Wording.TERMINAL
    accelerator: str = "cpu"
    load_s: float = LOAD_S
    secure: bool = False
    attack: Attack | None = None

    def describe_attack(self) -> str:
        """For people, that this is a test and what is tested; empty where nobody attacks."""
        if self.attack is None:
            return ""
        count = self.devices or self.policy.selection.devices_expected
        return self.attack.describe(len(choose_attackers(self.attack, count, seed=self.policy.drawn_by.habits)))


def read_policy(file: Path, changes: Sequence[str] = (), *, data: str = "") -> Policy:
    """The policy in a file, with other values for some fields, and with data where it names none.

    Its modules are looked for beside it. Raises PolicyError, DataConflict.
    """
    # As where the processes of a run look, so that what is found here is found there.
    if (folder := str(file.parent.absolute())) not in sys.path:
        sys.path.append(folder)
    policy = parse(file.read_bytes(), changes=changes)
    # What trains is part of the record, so data of an option become the policy's.
    return replace_fields(policy, data=choose_data(policy.data, data))


def seed_all(seed: int) -> list[str]:
    """The changes of a policy that one seed stands for, before those that name a field of its own; 0 is the default."""
    return [f"seeds.{drawn}={seed}" for drawn in ("model", "split", "training", "habits")] if seed else []


def list_fleet_words(options: RunOptions) -> list[str]:
    """The command that runs the devices of a run."""
    devices = str(options.devices or options.policy.selection.devices_expected)
    words = ["fleet", "--task", options.name, "--devices", devices, "--seed", str(options.seed), "--json"]
    words += ["--accelerator", options.accelerator, "--load-s", str(options.load_s)]
    habits = [] if options.simulate is None else ["--simulate", str(options.simulate.absolute())]
    habits += [] if options.attack is None else ["--attack", str(options.attack)]
    # It imports what it will need while the first model is made elsewhere.
    preloaded = [word for module in list_heavy(options.policy) for word in ("--preload", module)]
    return [*words, "--task-wait-s", str(TASK_WAIT_S), *preloaded, *habits]


def read_counts(file: Path) -> dict[str, Any]:
    """The counts with which `fleet --json` has ended, out of all that it said; empty where it was killed before."""
    with contextlib.suppress(OSError):
        for line in reversed(file.read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError):
                if isinstance(found := json.loads(line), dict) and "failed_for" in found:
                    return found
    return {}


def name_after(file: Path, attack: Attack | None = None) -> str:
    """The name of a task whose policy is in this file; it tells of an attack."""
    # Each project has a file of this name, which would say nothing of it.
    own = file.absolute().parent.name if file.name == "policy.toml" else file.stem
    # Page, console and history show it, so that nobody takes a test for more.
    called = own if attack is None else f"{own}-under-attack-{attack.name}"
    # Whatever a file may be called: a name of a task is narrower.
    return re.sub("[^a-z0-9]+", "-", called.lower()).strip("-")


class ScorePatience:
    """How long the end of a run waits for scores: while they come, and from the last one on SCORE_WAIT_S.

    `due_s`: the evaluator of a short task is not counted as silent before, because it is still starting.
    """

    def __init__(self, *, due_s: float = 0.0, read_clock_s: Callable[[], float] = time.monotonic) -> None:
        self._read_clock_s = read_clock_s
        self._heard_s = max(read_clock_s(), due_s)
        self._scored = 0

    def is_spent(self, view: TaskView) -> bool:
        """Whether nobody is likely to score the last version any more."""
        if len(view.evaluations) > self._scored:
            self._scored = len(view.evaluations)
            self._heard_s = max(self._heard_s, self._read_clock_s())
        return self._read_clock_s() - self._heard_s > SCORE_WAIT_S


class Run:
    """One run, a context: at its end everything that it has started has ended. `follow` gives its states."""

    log_folder: Path | None = None  # its log is the broker's

    def __init__(
        self, settings: Settings, options: RunOptions, *, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._options = options
        # The policy is the caller's own file, so what it names may run in the processes that this one starts.
        allow = tuple(dict.fromkeys((*settings.allow, *options.policy.list_plugins().values())))
        self._settings = replace(settings, allow=allow)
        self._services = Services(
            self._settings, task=options.name, say=say, cwd=options.cwd.absolute(), wording=options.wording
        )
        self._page = Page(self._services, say=say)
        self._stack = contextlib.ExitStack()
        self._is_stopped = threading.Event()
        self._began_s = time.monotonic()
        self._log: KafkaLog | None = None
        self._has_evaluator = False
        self._has_fleet = False
        self._has_history = False
        self._evaluator_due_s = 0.0

    def __enter__(self) -> Self:
        tasks.check_name(self._options.name)
        if "fleet" in (self._options.start or (() if self._settings.bootstrap_servers else STARTABLE)):
            require_open_identity(self._options.policy)
        # Found by the fleet these would end a run that has started everything else.
        read_habits(self._options.simulate)
        require_accelerator(self._options.accelerator, self._options.policy)
        # On a cluster others may bring devices of their own, and code that only those have.
        if not self._settings.bootstrap_servers:
            require_enough_devices(self._options)
            require_modules(self._options.policy.list_plugins())
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._services)
            # The first model needs these, and the broker's start leaves a core idle.
            threading.Thread(target=self._import_heavy, daemon=True).start()
            if not self._settings.bootstrap_servers:
                self._services.start_broker(secure=self._options.secure)
            log = self._log = stack.enter_context(contextlib.closing(self._settings.log(will_append=True)))
            self._prepare(log)
            self._start_missing()
            self._create(log)
            # From here on the end of the context ends it all; until here any exception did.
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self) -> Iterator[TaskView]:
        """The task as it changes, several times a second, until it is over and scored. Raises ServiceEnded, RunFailed.

        It is one value, which changes in place.
        """
        log, name = self._log, self._options.name
        assert log is not None
        views = tasks.make_views(log, keys.load(self._settings.operator_key_file).public_key)
        with Follower(log, views, partitions=[partition_of(name, log.partitions)]) as follower:
            while True:
                follower.poll(POLL_S)
                yield (view := views.view(name))
                self._start_late(view)
                if view.is_over:
                    break
                if self._is_stopped.is_set():
                    raise RunFailed(f"The run of {name!r} was stopped.")
                # A fleet ends by itself once its devices have heard that the task is over.
                self._services.check(may_end="fleet")
            yield from self._await_score(follower, view)
        # Only a run that has ended well is kept: after a failure people would not look for what still runs.
        if self._options.keep:
            self._services.keep()

    def stop(self) -> None:
        """Have `follow` raise RunFailed soon; another thread may call it."""
        self._is_stopped.set()

    def read_model(self, view: TaskView) -> dict[str, Floats]:
        """The arrays of the newest version, by name."""
        from ops.operator.models import read_arrays

        assert self._log is not None
        return read_arrays(self._log, view)

    def summarize(self, view: TaskView) -> dict[str, Any]:
        """What `--json` prints at the end."""
        # `folder` is for people who go on, and so as they gave it.
        return {**summarize_end(view, since_s=self._began_s), "folder": str(self._settings.folder)}

    def read_fleet_counts(self) -> dict[str, Any]:
        """What the devices did and why some could not, once they have ended; empty where others run them."""
        return read_counts(self._settings.folder / "logs" / "fleet.log") if self._has_fleet else {}

    def _await_score(self, follower: Follower, view: TaskView) -> Iterator[TaskView]:
        """Wait for the score of the last version, where somebody may score it."""
        if self._options.policy.measure is not None or not self._has_evaluator:
            return
        patience = ScorePatience(due_s=self._evaluator_due_s)
        # A closed task halts a little later, and may publish until then.
        while view.version not in view.evaluations or view.halted is None:
            if patience.is_spent(view):
                self._services.say(self._describe_unscored(view))
                return
            follower.poll(POLL_S)
            yield view

    def _describe_unscored(self, view: TaskView) -> str:
        text = f"Version {view.version} has no score: the evaluator has given none for {SCORE_WAIT_S:g} s."
        service = self._services.services.get("evaluator")
        return text if service is None else f"{text} {service.log} ends in:\n{service.read_tail()}"

    def _prepare(self, log: KafkaLog) -> None:
        settings = self._settings
        # A cluster of their own has an operator already, and another key would be believed by nobody there.
        if not settings.operator_key_file.exists() and not settings.bootstrap_servers:
            keys.create(settings.operator_key_file)
        made = log.create_topics(
            CATALOGUE, partitions=settings.partitions or None, replication=settings.replication or None
        )
        key = keys.load(settings.operator_key_file)
        name = self._options.name
        # Before anything is started: a taken name is the likeliest mistake of a second run. A new topic answers late.
        found = None
        if TASKS.name not in made:
            found = tasks.find_views(log, [partition_of(name, log.partitions)], operator=key.public_key).get(name)
        if found is not None and found.created is not None and not self._options.resume:
            raise TaskExists(_describe_taken(found, self._options.wording))
        if found is None and self._options.resume:
            raise RunFailed(f"There is no task {name!r} to go on with; leave --resume out.")

    def _start_missing(self) -> None:
        # The fleet first: it takes longest to start.
        options, services = self._options, self._services
        wanted = options.start
        # On a cluster that was named, others may run what a task needs.
        if wanted is None:
            wanted = frozenset() if self._settings.bootstrap_servers else frozenset(STARTABLE)
        if "fleet" in wanted:
            services.start("fleet", *list_fleet_words(options))
            self._has_fleet = True
        # A task needs one worker of each kind, and a second one beside it would only wait.
        for actor in list_actors(options.policy) if "workers" in wanted else ():
            if services.find_worker(actor) is None:
                services.start(actor, "worker", actor)
        if "workers" in wanted:
            start_helpers(services, options.policy)
        self._has_evaluator = "evaluator" in wanted and options.policy.measure is None
        self._has_history = "history" in wanted
        late = {"evaluator": self._has_evaluator, "history": self._has_history and can_keep_history()}
        starting = [*services.services, *(name for name, is_wanted in late.items() if is_wanted)]
        self._services.say(f"Starting: {', '.join(starting) or 'nothing, all of it is asked of the cluster'}.")

    def _import_heavy(self) -> None:
        for module in list_heavy(self._options.policy):
            # Whoever needs it in earnest says why it cannot be imported.
            with contextlib.suppress(Exception):
                import_module(module)

    def _start_late(self, view: TaskView) -> None:
        # It has nothing to score before, and would take the processor from those whom everybody waits for.
        if self._has_evaluator and "evaluator" not in self._services.services and view.leases_granted:
            words = ("--task", self._options.name, "--accelerator", self._options.accelerator)
            # As many as have to agree: with fewer no version would ever have a score.
            self._services.start_evaluators(self._options.policy.evaluation.quorum or 1, *words)
            self._evaluator_due_s = time.monotonic() + EVALUATOR_START_S
        # Nobody asks what has happened before there is a version.
        if self._has_history and view.version:
            self._services.start_history()
            if self._options.has_page:
                self._page.tend()

    def _create(self, log: KafkaLog) -> None:
        # While the processes start: this one imports torch for the first model, and they wait for the task.
        options, key = self._options, keys.load(self._settings.operator_key_file)
        # First, or each worker would find none, and found one too. A slow broker leads no new topic for a while.
        name_it = partial(deployments.name_deployment, log, key)
        retry_until_available(name_it, outage=log.outage, patience_s=TOPICS_WAIT_S)
        if self._has_evaluator:
            self._services.issue_evaluator_keys(log, key, count=options.policy.evaluation.quorum or 1)
        if not options.resume:
            tasks.create(log, options.name, key=key, policy=options.policy)


def require_open_identity(policy: Policy) -> None:
    """Nothing where simulated devices may take part. Raises RunFailed."""
    # They have no certificate, and a run that waits for them would never end.
    if policy.is_enrolled:
        raise RunFailed(
            "A run has simulated devices, which nobody has enrolled: add --set identity='\"open\"', or create the task "
            "with `fedlog task create`, and enrol devices with `fedlog enrol`."
        )


def require_enough_devices(options: RunOptions) -> None:
    """Nothing where the devices can fill a round, of which each takes part at most once. Raises TooFewDevices."""
    devices, needed, name = options.devices, options.policy.aggregation.members_min, options.wording.name_option
    if devices is not None and devices < needed:
        raise TooFewDevices(
            f"{name('devices', devices)}: a round needs {needed} of them (aggregation.updates_per_round), each at most "
            f"once. Give more, or {name('set', f'aggregation.updates_per_round={devices}')}."
        )


def summarize_end(view: TaskView, *, since_s: float) -> dict[str, Any]:
    """What any run says at its end, of which `since_s` is the beginning."""
    return {
        **tasks.summarize(view),
        "metric": view.metric_name,
        "score": view.metric,
        "curve": view.curve(),
        "seconds": round(time.monotonic() - since_s, 1),
    }


def _describe_taken(view: TaskView, wording: Wording) -> str:
    version = "no version yet" if view.version is None else f"version {view.version}"
    # A program follows a task that goes on by `connect`; only the command goes on with one.
    goes_on = "" if view.is_over or wording is Wording.PYTHON else ", or go on with it: --resume"
    return (
        f"There is a task {view.task!r} already ({view.status}, {version}), and a policy never changes. "
        f"Give this run another name, such as {wording.name_option('name', f'{view.task}-2')}{goes_on}."
    )
