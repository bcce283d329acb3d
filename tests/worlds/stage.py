"""The stage of an integration test: topics of its own, a key, tasks, and workers started as a user would."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from typer.testing import CliRunner, Result

from actors import keys
from actors.wiring import ROLES
from ops.operator import deployments
from ops.terminal.cli import app
from schemas.canonical import encode
from schemas.events import TaskCreated
from schemas.policy import Policy, check_policy
from schemas.published import EVENT_TYPE
from schemas.topics import CATALOGUE, PUBLISHED
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogError, TopicPartition
from tests.judges.lawcheck import check_book, counts
from tests.judges.logbook import read, read_sealed
from tests.root import ROOT
from tests.worlds.builders import FOR_EVER_MS, create_task

CLI = [sys.executable, "-P", "-m", "ops.terminal.cli"]
# A policy as a file has it: digits, over after three versions of three updates.
SHORT_DIGITS = """
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[selection]
devices_expected = 10
concurrency = 10
[aggregation]
updates_per_round = 3
[stop]
versions_max = 3
"""
# Those that a task with privacy needs; who enrols devices or rolls out is started where a test does.
ACTORS = tuple(role for role in ROLES if role not in ("registrar", "rollout"))
# Those that another task needs: nobody asks what it costs.
PLAIN_ACTORS = tuple(role for role in ACTORS if role != "privacy")
STARTED_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0
STACKS_WITHIN_S = 0.5
PACKAGES = ("actors", "ops", "schemas", "streams")


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do it meanwhile, in a thread; it is handed the event that ends it, and is waited for."""
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextlib.contextmanager
def console_beside(words: list[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of fedlog meanwhile, in the folder of its log and a session of its own; its end whatever happens."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.terminal.cli", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOPPED_WITHIN_S)
        finally:
            child.kill()
            child.wait()


class Worker:
    """One `fedlog worker` with its supervisor, in a session of its own, and every child that it ever had.

    It runs from `source`, a folder that holds the packages of a release.
    """

    def __init__(self, actor: str, options: list[str], *, folder: Path, number: int, source: Path | str) -> None:
        self.actor, self.folder, self.source = actor, folder, source
        self.log_file = folder / f"{actor}-{number}.log"
        with self.log_file.open("wb") as output:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.terminal.cli", *options, "worker", actor],
                env={**os.environ, "PYTHONPATH": str(source)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children: dict[int, psutil.Process] = {}

    @property
    def is_supervised(self) -> bool:
        return self.supervisor.poll() is None

    @property
    def starts(self) -> int:
        """How often the supervisor has started a child."""
        return self.read_log().count(f"{self.actor}: worker pid ")

    def child(self) -> psutil.Process | None:
        """The worker's process, once there is one that lives."""
        pid = self._told().get("child")
        if pid is not None and pid not in self._children:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._children[pid] = psutil.Process(pid)
        found = self._children.get(pid) if pid is not None else None
        return found if found is not None and _lives(found) else None

    @property
    def openings(self) -> list[dict[str, Any]]:
        """What it has told about each partition that it opened, oldest first."""
        lines = [line for line in self.read_log().splitlines() if '"event": "opened"' in line]
        return [json.loads(line[line.index("{") :]) for line in lines]

    def read_log(self) -> str:
        """All that it has told."""
        return self.log_file.read_text(errors="replace")

    def list_stacks(self) -> list[str]:
        """Where each thread of its child stands that is in our code, the innermost call first."""
        child, before = self.child(), len(self.read_log())
        if child is None:
            return [f"({self.actor} has no process)"]
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGUSR1)
        time.sleep(STACKS_WITHIN_S)
        # Idle threads of pools and clients are many, and name no file of ours.
        stacks, ours = self.read_log()[before:].split("\n\n"), [f'"{self.source}/{name}/' for name in PACKAGES]
        return [line for stack in stacks if any(path in stack for path in ours) for line in stack.splitlines()]

    def kill(self) -> None:
        """End supervisor and child at once, as a machine that dies does."""
        child = self.child()
        self.supervisor.kill()
        if child is not None:
            child.kill()
        self.supervisor.wait()

    def end(self) -> None:
        """Stop it as a user would, and kill what does not listen."""
        self.child()
        if self.is_supervised:
            self.supervisor.terminate()

    def ended(self) -> None:
        """Wait for the end; nothing of it is left behind."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.supervisor.wait(STOPPED_WITHIN_S)
        if self.is_supervised:
            self.supervisor.kill()
            self.supervisor.wait()
        for process in self._children.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _told(self) -> dict[str, Any]:
        path = self.folder / "run" / f"{self.actor}-{self.supervisor.pid}.json"
        try:
            told: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return told


class Stage:
    """A deployment on the session's broker under a prefix of its own."""

    def __init__(self, kafka: KafkaSettings, folder: Path, *, partitions: int | None = None) -> None:
        self.kafka, self.folder = kafka, folder
        self.log = KafkaLog(kafka)
        self.log.create_topics(CATALOGUE, partitions=partitions)
        self.key_file = folder / "operator.key"
        self.key = keys.create(self.key_file)
        self.deployment = deployments.name_deployment(self.log, self.key)
        self.workers: list[Worker] = []
        self._versions: dict[str, int] = {}
        self._published = self.log.reader({TopicPartition(PUBLISHED.name, p): 0 for p in range(self.log.partitions)})

    @property
    def options(self) -> list[str]:
        """What points the console at this stage."""
        return [
            *reaching(self.kafka),
            *("--folder", str(self.folder)),
            *("--operator-key-file", str(self.key_file)),
        ]

    def fedlog(self, *words: str) -> Result:
        """Run one command of the console to its end."""
        return CliRunner().invoke(app, [*self.options, *words])

    def role_key(self, role: str) -> keys.RoleKey:
        """What the operator of this stage hands out."""
        return self.key.issue(role, self.deployment, until_ms=FOR_EVER_MS)

    def create_task(self, name: str, rules: Policy, *, parameters: int, **changes: Any) -> TaskCreated:
        """Create a task with one flat tensor of random first weights; `changes` are of its TaskCreated."""
        start = np.random.default_rng(7).normal(size=parameters).astype(np.float32)
        fact = create_task(
            self.log, check_policy(rules), task=name, model=start, key=self.key, deployment=self.deployment, **changes
        )
        assert fact.policy_sha256 == hashlib.sha256(encode(rules)).digest()
        return fact

    def start(self, *actors: str, source: Path | str = ROOT) -> list[Worker]:
        """Start workers, of another release where `source` names its folder, or a list of folders to import from."""
        started = [
            Worker(actor, self.options, folder=self.folder, number=len(self.workers) + number, source=source)
            for number, actor in enumerate(actors)
        ]
        self.workers += started
        return started

    def stop(self) -> None:
        """Stop every worker; their logs stay."""
        for worker in self.workers:
            worker.end()
        for worker in self.workers:
            worker.ended()

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()
        self._published.close()
        self.log.close()

    # --- watching ---------------------------------------------------------------------------------------------------

    def version(self, *tasks: str) -> int:
        """The newest version of the task, or of the one that is furthest behind; -1 before the first."""
        for record in self._published.poll(0.2):
            said = json.loads(record.value or b"{}")
            if said["type"] == EVENT_TYPE:
                self._versions[said["data"]["task"]] = said["data"]["version"]
        return min(self._versions.get(task, -1) for task in tasks)

    def until_version(self, task: str, version: int, *, timeout_s: float = 90.0) -> None:
        """Wait for a version."""
        self.until(lambda: self.version(task) >= version, f"version {version} of {task}", timeout_s=timeout_s)

    def until(self, is_so: Callable[[], object], what: str, *, timeout_s: float) -> None:
        """Wait, with an end; a failure shows what the workers said last."""
        give_up = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < give_up, f"{what}: not within {timeout_s:g} s\n{self.tails()}"
            time.sleep(0.1)

    def until_lawful(self, *partitions: int, timeout_s: float = 60.0, **allowed: Any) -> None:
        """Wait until everything has its outcome, stop the workers, and check again what they leave behind."""
        give_up = time.monotonic() + timeout_s
        while (faults := self.faults(*partitions, **allowed)) and time.monotonic() < give_up:
            time.sleep(0.3)
        assert not faults, "\n".join(faults[:20]) + "\n" + self.tails()
        self.stop()
        faults = self.faults(*partitions, **allowed)
        assert not faults, "\n".join(faults[:20])

    def faults(self, *partitions: int, **allowed: Any) -> list[str]:
        """Every violation in these partitions; side by side, because half of a check is waiting for the broker."""
        # Once for all: each lies anywhere, and to read them for each partition again would take as many times as long.
        sealed = read_sealed(self.log)
        with ThreadPoolExecutor() as threads:
            found = threads.map(lambda partition: self._faults(partition, sealed, **allowed), partitions)
            return [fault for faults in found for fault in faults]

    def _faults(self, partition: int, sealed: dict[bytes, str], **allowed: Any) -> list[str]:
        book = read(
            self.log,
            partition,
            noise_key=self.key.derive_noise(self.deployment).secret,
            operator=self.key.public_key,
            deployment=self.deployment,
            sealed=sealed,
        )
        return check_book(self.log, book, settled=True, **allowed)

    def said(self, *words: str) -> int:
        """In how many lines of all workers' logs one of these words stands."""
        lines = [line for worker in self.workers for line in worker.read_log().splitlines()]
        return sum(any(word in line for word in words) for line in lines)

    def tails(self, lines: int = 40) -> str:
        """The last lines of each worker, and where in our code each of its threads stands."""
        tails = []
        for worker in self.workers:
            text = worker.read_log().splitlines()[-lines:]
            tails += [f"--- {worker.log_file.name} ---", *(line[:400] for line in text), *worker.list_stacks()]
        return "\n".join(tails)

    def report(self, *partitions: int) -> str:
        """One line of figures."""
        found = counts(self.log, partitions)
        fenced = self.said("WriterFenced")
        wanted = ("updates", "UpdateAdmitted", "duplicate", "expired", "ModelPublished", "claims", "zombies")
        return ", ".join([*(f"{name} {found[name]}" for name in wanted), f"fenced writers {fenced}"])


def reaching(kafka: KafkaSettings) -> list[str]:
    """The options that lead the console to a cluster."""
    given = {name: value for name, value in asdict(kafka).items() if value and name != "client_id"}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


@contextlib.contextmanager
def staged(kafka: KafkaSettings, folder: Path, *, partitions: int | None = None) -> Iterator[Stage]:
    """A stage, and its end whatever happens."""
    stage = Stage(kafka, folder, partitions=partitions)
    try:
        yield stage
    finally:
        with contextlib.suppress(LogError):
            stage.close()


def say(*words: object) -> None:
    """Tell a figure, or the command that repeats a run; pytest shows it with a failure, or with -s."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")


def resume(process: psutil.Process) -> None:
    """SIGCONT, if it still lives."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
