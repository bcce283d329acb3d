"""What a run or the demo starts in a folder, and ends again: broker, workers, evaluator, fleet, each with its log.

A context. However its process ends, nothing stays behind: on any exception the context ends what it has started, and
after a `kill -9` its guardian does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import psutil
from msgspec import UNSET

from actors import keys
from actors.keys import OperatorKey
from actors.wiring import ROLES
from client_agent.locks import FolderInUse, Lock
from client_agent.running.interrupts import hold_interrupts
from ops.broker_state import find_running, has_doors
from ops.doors.keeping import open_doors
from ops.doors.rights import RIGHTS
from ops.doors.secured import Doors
from ops.history.tables.serving import ask_writer_all, is_served
from ops.operator import deployments
from ops.processes import broker, children
from ops.processes.guardian import KEEP
from ops.processes.started import MARK, STOP_TIMEOUT_S, Started, read_records
from ops.processes.wording import Wording
from ops.settings import HISTORY_FILE, Settings
from schemas.errors import EXIT_NO, EXIT_USAGE, FedlogError
from schemas.policy import Policy
from streams.log import EventLog

LOG_LINES = 15
LOOKING_ON_NICENESS = 10
PAGE = "page"
HISTORY_WAIT_S = 10.0
HISTORY_SYNC_S = 60.0
# Who runs a command at a broker with doors, where that one is called otherwise.
PRINCIPALS = {"history": "analysts", "evaluate": "evaluator"}
SHARD = "shard"
EVALUATOR, ROLE_KEY = "evaluator", "--role-key-file"
_PAGE_NEEDS = ("duckdb", "fastapi", "htpy", "jwt", "uvicorn")
# `-P`, so that a folder `ops` in the current folder is not taken for ours.
FEDLOG = (sys.executable, "-P", "-m", "ops.terminal.cli")


class ServiceEnded(FedlogError):
    """A process that the run needs has ended; the message has the end of its log."""

    exit_code = EXIT_NO
    code = "service_ended"


class RunInProgress(FedlogError):
    """Another run is at work in the folder; the message says what to do."""

    exit_code = EXIT_USAGE
    code = "run_in_progress"


@dataclass(frozen=True, slots=True)
class Service:
    """A child of ours, and where it writes what it says; without one that `is_extra` things go on."""

    child: children.Child
    log: Path
    is_extra: bool = False

    def read_tail(self) -> str:
        """The last lines that it wrote for people."""
        # What a fleet counted is one long line, and the same stands above it in words.
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith('{"devices"')][-LOG_LINES:])


@dataclass(slots=True)
class Services:
    """Starts processes under `settings` and ends exactly those. `task` names what they are for; `say` tells people.

    `wording`: who reads what goes wrong.
    """

    settings: Settings
    task: str
    say: Callable[[str], None] = lambda text: None
    cwd: Path | None = None
    wording: Wording = Wording.TERMINAL
    services: dict[str, Service] = field(default_factory=dict)
    _started: Started | None = None
    _guardian: children.Child | None = None
    _lock: Lock | None = None
    _is_kept: bool = False
    _has_history: bool = False

    def __enter__(self) -> Self:
        """Take the folder. Raises RunInProgress."""
        folder = self.settings.open_folder().absolute()
        (folder / "run").mkdir(exist_ok=True)
        try:
            self._lock = Lock(folder / "run" / "run.lock")
        except FolderInUse as error:
            raise RunInProgress(_describe_other(folder, self.wording)) from error
        with hold_interrupts():
            self._started = Started(task=self.task)
            self._started.write(folder)
            # Before anything that it would have to end, and without the mark, or it would end itself.
            self._guardian = children.start(
                [sys.executable, "-P", "-m", "ops.processes.guardian", str(folder), self._started.mark],
                has_pipe=True,
                inherits=children.Inheritance(descriptors=[self._lock.descriptor]),
                output=folder / "run" / "guardian.log",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start_broker(self, *, secure: bool = False) -> None:
        """Start the embedded Kafka of the folder, where none runs; `secure`: behind doors. Raises BrokerError."""
        folder = self.settings.broker_folder
        # One that was there before is somebody's, and outlives this run.
        if find_running(folder) is not None and (has_doors(folder) or not secure):
            return
        self.say("Starting an embedded Apache Kafka …")
        handle = broker.start(folder, environment=self.make_environment(), secure=secure)
        self.say(f"Kafka answers on {handle.bootstrap_servers}; its data is in {self.settings.folder}.")
        if handle.authority:
            open_doors(self.settings.kafka(), passwords=Doors(folder).list_passwords())
            self.say("It asks who comes: each process that is started here has its own name, password and rights.")

    def start(self, name: str, *arguments: str, is_extra: bool = False) -> None:
        """Start one command of fedlog; `name` names its log."""
        logs = self.settings.folder / "logs"
        logs.mkdir(exist_ok=True)
        log = logs / f"{name}.log"
        command = [*FEDLOG, *arguments]
        inherits = children.Inheritance(environment=self.make_environment(find_principal(arguments)))
        child = children.start(command, output=log, folder=self.cwd, inherits=inherits)
        self.services[name] = Service(child, log, is_extra)

    def issue_evaluator_keys(self, log: EventLog, key: OperatorKey, *, count: int) -> None:
        """A key of its own for each evaluator but the first, which has the operator's: with one they were one voice."""
        for number in range(2, count + 1):
            issued = deployments.issue_key(log, key, role=EVALUATOR, serial=number - 1)
            keys.save_role(issued, self._name_evaluator_key(number))

    def start_evaluators(self, count: int, *words: str) -> None:
        """Start so many, each with its own key."""
        self.start(EVALUATOR, "evaluate", "--follow", *words)
        for number in range(2, count + 1):
            path = self._name_evaluator_key(number)
            self.start(f"{EVALUATOR}-{number}", ROLE_KEY, str(path), "evaluate", "--follow", *words)

    def _name_evaluator_key(self, number: int) -> Path:
        return self.settings.folder.absolute() / "run" / f"{EVALUATOR}-{number}.key"

    def start_history(self) -> None:
        """Keep the history of the folder up to date, and answer `fedlog query`; a second call changes nothing."""
        if self._has_history:
            return
        self._has_history = True
        # A run without it is the same run: workers and devices need no database.
        if not can_keep_history():
            self.say("No history is kept for `fedlog query`: pip install 'fedlog[history]' installs what it needs.")
            return
        # A server of pages, or somebody who follows, keeps it already.
        if is_served(self.settings.folder / HISTORY_FILE):
            return
        self.start_beside("history", "history", "sync", "--follow")

    def start_beside(self, name: str, *arguments: str) -> None:
        """Start one command for people who look on: without it things go on, and whoever trains goes first."""
        self.start(name, *arguments, is_extra=True)
        # At once: threads take over the rank that their process has when they start.
        with contextlib.suppress(psutil.Error):
            psutil.Process(self.services[name].child.pid).nice(LOOKING_ON_NICENESS)

    def ask(self, *arguments: str, timeout_s: float | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run one command of fedlog to its end; what it says. Raises TimeoutExpired."""
        return subprocess.run(
            [*FEDLOG, *arguments],
            env=self.make_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            check=False,
            timeout=timeout_s,
        )

    def find_worker(self, actor: str) -> int | None:
        """The pid of the supervisor of this actor, if one runs for this folder's topics."""
        for file in (self.settings.folder / "run").glob(f"{actor}-*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, psutil.Error):
                told = json.loads(file.read_text())
                process = psutil.Process(told["supervisor"])
                is_it = actor in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
                if is_it and told.get("topic_prefix") == self.settings.topic_prefix:
                    return process.pid
        return None

    def check(self, *, may_end: str = "") -> None:
        """Raise ServiceEnded where one has ended; `may_end` may, if it says that all went well."""
        for name, service in list(self.services.items()):
            # A supervisor outlives the deaths of its worker, so its own end is not one that passes.
            code = service.child.poll()
            if code is None or (name == may_end and code == 0):
                continue
            if service.is_extra:
                del self.services[name]
                self.say(f"Without {name} from here on, which ended with exit code {code}:\n{service.read_tail()}")
                continue
            raise ServiceEnded(f"The {name} ended with exit code {code}; {service.log} ends in:\n{service.read_tail()}")

    def keep(self) -> None:
        """Leave everything running at the end; `fedlog stop` ends it."""
        self._is_kept = True

    def end_services(self) -> None:
        """End the commands, and leave the broker."""
        with hold_interrupts():
            ending, self.services, is_current = self.services, {}, True
            # Extras last: a history that ends before those who write has not seen the end.
            for is_extra in (False, True):
                if is_extra and "history" in ending:
                    is_current = self._wait_until_current(ending["history"])
                ended = [service.child for service in ending.values() if service.is_extra is is_extra]
                children.end(ended, timeout_s=STOP_TIMEOUT_S)
            if not is_current:
                self.say("The history is behind: it is brought up to date.")
                # It gives way to everybody, on a busy machine for minutes: once it is read at our own rank.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.ask("history", "sync", timeout_s=HISTORY_SYNC_S)

    def _wait_until_current(self, history: Service) -> bool:
        """Whether it has come to the end; one that a busy machine has hardly begun is killed, to be begun anew."""
        path, give_up_s = self.settings.folder / HISTORY_FILE, time.monotonic() + HISTORY_WAIT_S
        while history.child.poll() is None and (left_s := give_up_s - time.monotonic()) > 0:
            if is_served(path):
                # It answers nothing before it has come to where the log ended when it began.
                with contextlib.suppress(FedlogError):
                    ask_writer_all(path, [("SELECT 1", {})], patience_s=left_s)
                    return True
                break
            time.sleep(0.1)
        # What it has stored stays, whatever ends it.
        children.end([history.child], timeout_s=0.0)
        return False

    def end(self) -> None:
        """End what was started, the broker last; a second call changes nothing."""
        if self._started is None or self._guardian is None:
            return
        with hold_interrupts():
            started = self._started
            assert self._guardian.stdin is not None
            if self._is_kept:
                # Told before its pipe closes, which it would take for a death.
                self._guardian.stdin.write(KEEP)
            else:
                self.end_services()
                # The broker, and whatever a child has left behind.
                started.end(self.settings.folder.absolute())
            self._started = None
            self._guardian.stdin.close()
            self._guardian.wait()
            if self._lock is not None:
                self._lock.release()

    def make_environment(self, principal: str = "") -> dict[str, str]:
        """The environment of a child: the settings, whom it is at a broker with doors, and the mark of this run."""
        assert self._started is not None
        # Several workers on this machine cannot share one port for their metrics.
        settings = replace(self.settings, metrics_port=0)
        if principal and not settings.bootstrap_servers and has_doors(settings.broker_folder):
            settings = replace(settings, sasl_username=principal)
        return settings.make_environment(**{MARK: self._started.mark})


class Page:
    """The page beside a run, and its address told once. `tend` looks after it, again and again."""

    def __init__(self, services: Services, *, say: Callable[[str], None], options: Sequence[str] = ()) -> None:
        self._services, self._say, self._options = services, say, options
        self._is_started = self._is_told = False

    def wait(self, *, timeout_s: float) -> None:
        """Tend it until its address is told: on a busy machine a run may be over before."""
        give_up_s = time.monotonic() + timeout_s
        while not self._is_told and time.monotonic() < give_up_s:
            self.tend()
            time.sleep(0.2)

    def tend(self) -> None:
        """Start it once there is a history to show, and say where it is once it answers."""
        if self._is_told:
            return
        if not self._is_started:
            # Before that it would take the history for its own, and whoever keeps it for the run would find it taken.
            if is_served(self._services.settings.folder / HISTORY_FILE):
                self._start()
        elif address := self._find_address():
            self._is_told = True
            self._say(f"Watch it: {address}")

    def _start(self) -> None:
        self._is_started = True
        # An extra: devices and workers serve nothing.
        if any(importlib.util.find_spec(name) is None for name in _PAGE_NEEDS):
            self._is_told = True
            self._say("No page is served: pip install 'fedlog[serve]' installs what it needs.")
            return
        self._services.start_beside(PAGE, "serve", "--port", "0", "--link", *self._options)

    def _find_address(self) -> str:
        # It is written once it answers, and never without its end of line.
        service = self._services.services.get(PAGE)
        lines = service.log.read_text(errors="replace").splitlines(keepends=True) if service else []
        return next((line.strip() for line in lines if line.startswith("http") and line.endswith("\n")), "")


def find_principal(arguments: Sequence[str]) -> str:
    """Whose rights a command of fedlog needs at a broker with doors; empty for one that is nobody's in particular."""
    arguments = arguments[2:] if arguments[0] == ROLE_KEY else arguments
    command = arguments[1] if arguments[0] == "worker" else arguments[0]
    principal = PRINCIPALS.get(command, command)
    return principal if principal in RIGHTS else ""


def list_actors(policy: Policy) -> list[str]:
    """The workers that a task needs: without privacy nobody asks what it costs, in an open task nobody enrols."""
    unneeded = {
        "privacy": policy.privacy is None,
        "registrar": not policy.is_enrolled,
        "rollout": policy.rollout is UNSET,
        SHARD: policy.shard_count == 1,
    }
    return [actor for actor in (*ROLES, SHARD) if not unneeded.get(actor, False)]


def can_keep_history() -> bool:
    """Whether this environment has what the history needs."""
    return importlib.util.find_spec("duckdb") is not None


def stop_all(settings: Settings) -> Iterator[str]:
    """End everything that runs have started in this folder; a line for each of them."""
    folder = settings.folder.absolute()
    for started in read_records(folder):
        owner = started.find_owner()
        # A run that is at work ends its own processes, in order, and says so where a person looks at it.
        if owner is not None:
            children.end_process(owner, timeout_s=2 * STOP_TIMEOUT_S)
        count = started.end(folder)
        _await_lock(folder)
        yield f"The run of {started.task} (pid {started.pid}) is stopped" + (f": {count} processes." if count else ".")
        if left := started.list_processes():
            yield f"What it ran goes on starting processes faster than they end, such as {left[0].pid}: see to it."


def _await_lock(folder: Path) -> None:
    """Return when the guardian of the run has seen that it is over: until then it holds the folder."""
    give_up_s = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < give_up_s:
        with contextlib.suppress(FolderInUse), Lock(folder / "run" / "run.lock"):
            return
        time.sleep(0.05)


def _describe_other(folder: Path, wording: Wording) -> str:
    other = next((started for started in read_records(folder) if started.find_owner()), None)
    who = f"process {other.pid} trains {other.task}" if other else "what another run has started is being ended"
    return (
        f"A run is at work in {folder}: {who}. Wait for it, end it with `fedlog stop`, or take another folder with "
        f"{wording.name_option('folder')}."
    )
