"""The whole product in one folder, as people start it: broker, workers, gateway, page with history, evaluator, fleets.

Whatever of it ends without being told is started again, as a machine's own supervisor would.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from actors import keys
from ops.history.tables.serving import is_served
from ops.operator import deployments, tasks
from ops.operator.enrolling.authority import open_authority
from ops.operator.enrolling.orders import Registrations
from ops.operator.enrolling.vault import FILE as VAULT
from ops.operator.enrolling.vault import Vault
from ops.processes import broker
from ops.processes.services import Services
from ops.settings import HISTORY_FILE, Settings
from schemas import policy
from schemas.identity.tokens import write_token
from schemas.policy import Policy
from schemas.topics import CATALOGUE, PUBLISHED, population_of
from streams.kafka.log import KafkaLog
from streams.log import EventLog, TopicPartition, scan

WORKERS = ("selector", "aggregator", "privacy", "registrar")
OPEN, SEALED, CLASS = "digits", "sealed", "phones"
BROKER = "broker"
STARTED_WITHIN_S = 120.0
LEASE_S = 20.0
DIGITS_TRAIN = 1_437  # examples that the devices share
# Devices behind the gateway enrol, and seal what they send; the others speak Kafka.
COMMON = """
model = "client_agent.learning.models:softmax_regression"
model_arguments = { inputs = 64, classes = 10 }
data = "client_agent.learning.examples:digits"
[compression]
codec = "int8"
[selection]
devices_expected = %(devices)d
concurrency = %(concurrency)d
lease_s = 20.0
retry_after_s = 1.0
[aggregation]
updates_per_round = %(round)d
[staleness]
max_versions = 10
[privacy]
noise_multiplier = 0.2
rho_max = 100000.0
[stop]
versions_max = 20000
idle_s = 86400.0
"""
POLICIES = {
    OPEN: COMMON % {"devices": 40, "concurrency": 20, "round": 10},
    SEALED: 'tier = "sealed"\nidentity = "enrolled"\n'
    + COMMON % {"devices": 20, "concurrency": 10, "round": 5}
    + "[sealed]\nepoch_versions = 20\nkept_s = 86400.0\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One living process: what it is, since when, and whether it came from a supervisor."""

    name: str
    process: psutil.Process
    since_s: float


class Product:
    """One deployment. As a context it ends everything that it has started."""

    def __init__(self, folder: Path, *, has_gateway: bool = True, rate: float = 0.0) -> None:
        """Without a gateway nobody seals, and the history has a process of its own.

        `rate`: about so many updates a second in all; 0 for as many as there can be.
        """
        self.settings = Settings().move(folder)
        self.services = Services(self.settings, task=OPEN)
        self.has_gateway, self.rate = has_gateway, rate
        self.starts: Counter[str] = Counter()
        self.ports = {name: find_port() for name in ("gateway", "serve", "history")}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._log: KafkaLog | None = None

    def __enter__(self) -> Self:
        self.services.__enter__()
        try:
            self.start_broker()
            keys.create(self.settings.operator_key_file)
            self._log = self.settings.log("fedlog-trial", will_append=True)
            self._log.create_topics(CATALOGUE)
            deployments.name_deployment(self._log, self.key)
        except BaseException:
            self.services.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            with suppress(Exception):
                self._log.close()
        self.services.end()

    @property
    def key(self) -> keys.OperatorKey:
        """The operator's key of this deployment."""
        return keys.load(self.settings.operator_key_file)

    @property
    def log(self) -> EventLog:
        """The log, for whoever looks on."""
        assert self._log is not None
        return self._log

    @property
    def tasks(self) -> list[str]:
        """The names of what is trained."""
        return [OPEN, SEALED] if self.has_gateway else [OPEN]

    def start_broker(self) -> None:
        """Start the broker where it does not run."""
        broker.start(self.settings.broker_folder, environment=self.services.make_environment())

    def begin(self, name: str, *words: str) -> None:
        """Start one command of fedlog, to be started again whenever it ends."""
        self._commands[name] = words
        self._run(name)

    def start(self) -> None:
        """Create the tasks, and start everything."""
        for actor in WORKERS if self.has_gateway else WORKERS[:-1]:
            self.begin(actor, "worker", actor)
        ways: dict[str, list[str]] = {OPEN: []}
        if self.has_gateway:
            self.begin("gateway", "gateway", "--port", str(self.ports["gateway"]))
            ways[SEALED] = self._list_gateway_words(self._find_policy(SEALED))
        else:
            port = str(self.ports["history"])
            self.begin("history", "--metrics-port", port, "history", "sync", "--follow")
            # A server that finds nobody who keeps the history would keep it itself.
            _wait_until_served(self.settings.folder / HISTORY_FILE)
        self.begin("serve", "serve", "--port", str(self.ports["serve"]), "--link")
        for task, way in ways.items():
            rules = self._find_policy(task)
            tasks.create(self.log, task, key=self.key, policy=rules)
            devices, state = str(rules.selection.devices_expected), str(self.settings.folder / f"fleet-{task}")
            words = ("--devices", devices, "--processes", "1", "--state", state, "--task-wait-s", "300")
            self.begin(f"fleet-{task}", "fleet", "--task", task, *words, *way, *self._slow_down(rules))
        self.begin("evaluator", "evaluate", "--follow", "--task", OPEN)

    def tend(self) -> Iterator[str]:
        """Start again what has ended; a line for each."""
        for name, service in list(self.services.services.items()):
            if (code := service.child.poll()) is not None:
                service.log.rename(service.log.with_name(f"{name}-{self.starts[name]}.log"))
                self._run(name)
                yield f"{name} has ended with {code}; it is started again"

    def kill(self, name: str) -> int:
        """End one part without warning: a worker's own process, the broker, or all of a command; its pid."""
        if name == BROKER:
            handle = broker.find_running(self.settings.broker_folder)
            broker.crash(self.settings.broker_folder)
            self.start_broker()
            return handle.pid if handle else 0
        pid = self.find_pid(name)
        with suppress(ProcessLookupError):
            # Each leads a session of its own, so that this ends what it has started and nothing else.
            os.killpg(pid, signal.SIGKILL)
        return pid

    def find_pid(self, name: str) -> int:
        """The process that does the work: of an actor its worker, and not the supervisor; 0 where there is none."""
        supervisor = self.services.services[name].child.pid
        if name not in WORKERS:
            return supervisor
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.settings.folder / "run" / f"{name}-{supervisor}.json").read_text())["child"])
        return 0

    def list_parts(self) -> list[Part]:
        """Every process of the deployment that lives, by what it is."""
        found = []
        for name, service in self.services.services.items():
            found += _list_family(name, service.child.pid)
        handle = broker.find_running(self.settings.broker_folder)
        return [*found, *(_list_family(BROKER, handle.pid) if handle else [])]

    def count_versions(self) -> Counter[str]:
        """How many versions of each task are published."""
        places = [TopicPartition(PUBLISHED.name, partition) for partition in range(self.log.partitions)]
        records = [record for at in places for record in scan(self.log, at)]
        return Counter(json.loads(record.value or b"{}")["id"].rpartition("/")[0] for record in records)

    def until_version(self, version: int, *, timeout_s: float) -> None:
        """Wait until each task has so many versions. Raises TimeoutError with the ends of all logs."""
        give_up_s = time.monotonic() + timeout_s
        while min(self.count_versions()[task] for task in self.tasks) <= version:
            if time.monotonic() > give_up_s:
                tails = [f"--- {name}\n{each.read_tail()}" for name, each in self.services.services.items()]
                raise TimeoutError(f"no version {version} within {timeout_s:g} s\n" + "\n".join(tails))
            list(self.tend())
            time.sleep(1.0)

    def ask(self, *words: str) -> Any:
        """What one command of fedlog prints as its last line of JSON, or None."""
        done = self.services.ask(*words)
        with suppress(IndexError, ValueError):
            return json.loads(done.stdout.splitlines()[-1])
        return None

    def find_metrics_ports(self) -> dict[str, int]:
        """Where each process that lives serves its metrics, as its log says."""
        ports = {}
        for name, service in self.services.services.items():
            for line in reversed(service.log.read_text(errors="replace").splitlines()):
                if found := _read_port(line):
                    ports[name] = found
                    break
        return ports

    def _run(self, name: str) -> None:
        self.starts[name] += 1
        self.services.start(name, *self._commands[name])

    def _find_policy(self, task: str) -> Policy:
        # A device that takes its time must not be late: its lease lasts three times as long as it trains.
        lease_s = max(LEASE_S, 3 * self._choose_training_s()) if self.rate else LEASE_S
        return policy.parse(POLICIES[task].replace(f"lease_s = {LEASE_S}", f"lease_s = {lease_s}"))

    def _choose_training_s(self) -> float:
        """How long every lease has to be worked on, so that all of them together give as many updates as asked for."""
        return sum(policy.parse(POLICIES[task]).selection.concurrency for task in self.tasks) / self.rate

    def _slow_down(self, rules: Policy) -> list[str]:
        """Options of a fleet whose devices take so long."""
        if not self.rate:
            return []
        # The time that habits name is that of a typical share, seven examples.
        examples = DIGITS_TRAIN / rules.selection.devices_expected
        habits = self.settings.folder / f"habits-{rules.selection.devices_expected}.toml"
        habits.write_text(f"training_ms = {1000 * self._choose_training_s() / math.sqrt(examples / 7):.0f}\n")
        return ["--simulate", str(habits)]

    def _list_gateway_words(self, rules: Policy) -> list[str]:
        """Let devices enrol, and hand out a token for each."""
        folder = self.settings.folder
        there, vault = Registrations(self.log, open_authority(self.settings, self.log)), Vault(folder / VAULT)
        home, count, file = population_of(SEALED), rules.selection.devices_expected, folder / "tokens"
        there.open(home, CLASS, quota=count, days=7)
        made = [there.make_token(home, CLASS, vault=vault) for _ in range(count)]
        file.touch(mode=0o600)
        file.write_text("".join(f"{write_token(token)}\n" for token in made))
        return ["--gateway", f"http://127.0.0.1:{self.ports['gateway']}", "--enrol", str(file)]


def find_port() -> int:
    """A port that is free now: whoever knows an address has to find it again after a kill."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_until_served(path: Path) -> None:
    give_up_s = time.monotonic() + STARTED_WITHIN_S
    while not is_served(path):
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"nobody keeps {path} after {STARTED_WITHIN_S:g} s")
        time.sleep(0.2)


def _list_family(name: str, pid: int) -> Iterator[Part]:
    """A command and the processes below it: workers of supervisors, and those of a fleet."""
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        below = first.children(recursive=True)
        # Of what has somebody below it the first one only watches.
        yield Part(name=f"{name} (watches)" if below else name, process=first, since_s=first.create_time())
        for number, each in enumerate(below):
            label = name if len(below) == 1 else f"{name} {number}"
            yield Part(name=label, process=each, since_s=each.create_time())


def _read_port(line: str) -> int:
    """The port that a log line names, as JSON or for people; 0 for another line."""
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(line)
        return int(told["port"]) if told.get("event") == "metrics" else 0
    words = line.replace("\x1b", " ").split()
    return next((int(word[5:]) for word in words if "metrics" in words and word.startswith("port=")), 0)
