"""The main job, once, for a person to watch: broker, task, workers, fleet, a kill, and a replay as the proof."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from actors import keys
from ops.console import note
from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator import tasks
from ops.operator.enrolling.authority import open_authority
from ops.operator.enrolling.orders import Registrations
from ops.operator.enrolling.vault import FILE as VAULT
from ops.operator.enrolling.vault import Vault
from ops.processes import broker
from ops.processes.panel import View
from ops.processes.services import Page, Services, list_actors
from ops.processes.tiers.masking import describe_helpers, kill_helper, mask_policy, start_helpers
from ops.settings import Settings
from schemas import policy
from schemas.errors import FedlogError
from schemas.identity.tokens import write_token
from schemas.policy import Sealed
from schemas.topics import CATALOGUE, partition_of, population_of
from streams.kafka.log import KafkaLog
from streams.log import EventLog

POLICY_FILE = Path(__file__).with_name("demo.toml")
TASK = "digits"
# Two cohorts, so that who takes part how often is a question of the demo too.
COHORTS = ("--cohort", "phone", "--cohort", "tablet")
FLEET = ("--processes", "2", "--simulate", str(Path(__file__).with_name("habits.toml").absolute()), *COHORTS)
CLASS = "phones"
# Several keys in one demo; each is kept for as long as the replay at its end needs it.
EPOCHS = Sealed(epoch_versions=10, kept_s=3_600.0)
KILL_AFTER_VERSION = 5
PATIENCE_S, PAGE_WAIT_S = 300.0, 60.0


class DemoFailed(FedlogError):
    """The demo did not reach its end."""

    code = "demo_failed"


@dataclass(slots=True)
class Kill:
    """What was killed, and how full the buffer was; `recovered_s` once an update was admitted again."""

    pid: int
    buffer: int
    version: int
    admitted: int
    at_s: float
    recovered_s: float | None = None


class Edge:
    """Devices that enrol, and reach the log through a gateway alone, which is killed once and started again."""

    def __init__(self, services: Services, *, task: str) -> None:
        self._services, self._task = services, task
        # Devices know its address, so that it has to come back where it was.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._tokens = services.settings.folder / "tokens"
        self.kills = 0

    def open(self, log: EventLog, *, devices: int) -> None:
        """Let so many devices enrol, and make a token for each of them."""
        settings = self._services.settings
        there, vault = Registrations(log, open_authority(settings, log)), Vault(settings.folder / VAULT)
        there.open(population_of(self._task), CLASS, quota=devices, days=1)
        made = [there.make_token(population_of(self._task), CLASS, vault=vault) for _ in range(devices)]
        # Whoever has a token may use it.
        self._tokens.touch(mode=0o600)
        self._tokens.write_text("".join(f"{write_token(token)}\n" for token in made))

    def start(self) -> None:
        """Start the gateway."""
        self._services.start("gateway", "gateway", "--port", str(self._port))

    def list_fleet_options(self) -> list[str]:
        """How a fleet gets in."""
        return ["--gateway", f"http://127.0.0.1:{self._port}", "--enrol", str(self._tokens.absolute())]

    def kill(self) -> int:
        """Kill the gateway without warning, and start another in its place; the pid of the one that is dead."""
        child = self._services.services["gateway"].child
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        self.kills += 1
        self.start()
        return child.pid


class Demo:
    """One run. `run` returns what `--json` prints."""

    def __init__(
        self,
        settings: Settings,
        *,
        keep: bool,
        view: View,
        has_page: bool = False,
        has_gateway: bool = False,
        tier: str = "plain",
    ) -> None:
        self._keep, self._view = keep, view
        folder = settings.folder / "demo"
        self._own_broker = not settings.bootstrap_servers
        self._settings = settings.move(folder)
        if not self._own_broker:
            self._settings = replace(self._settings, topic_prefix=f"{settings.topic_prefix}-demo-{os.getpid()}")
        self._policy, self._tier = policy.parse(POLICY_FILE.read_text()), tier
        if has_gateway:
            self._policy = msgspec.structs.replace(self._policy, identity="enrolled")
            # Who masks is seen by nobody anyway.
            if tier == "plain":
                self._policy = msgspec.structs.replace(self._policy, tier="sealed", sealed=EPOCHS)
        self._services = Services(self._settings, task=TASK, say=view.say)
        self._page = Page(self._services, say=view.say, options=["--may-kill"]) if has_page else None
        self._edge = Edge(self._services, task=TASK) if has_gateway else None
        self._kill: Kill | None = None
        self._helpers: list[str] = []
        self._helper_kills = 0

    def run(self) -> dict[str, Any]:
        """Everything from the broker's start to its stop. Raises DemoFailed when the task does not end."""
        began_s = time.monotonic()
        with self._services, contextlib.ExitStack() as stack:
            self._start_broker()
            log = stack.enter_context(contextlib.closing(self._settings.log()))
            self._prepare(log)
            self._start_services()
            # While they start: this process imports torch for the first model, and they wait for the task.
            tasks.create(log, TASK, key=keys.load(self._settings.operator_key_file), policy=self._policy)
            view = self._watch(log)
            # With --keep whoever looks on may fork, and watch the fork train.
            if not self._keep:
                self._services.end_services()
            trained_s = time.monotonic() - began_s
            self._view.say("Replaying the log from its first event, in a fresh process …")
            replayed = self._replay()
            if self._keep:
                if self._page is not None:
                    self._page.wait(timeout_s=PAGE_WAIT_S)
                self._services.keep()
            return self._report(view, replayed, seconds=trained_s)

    # --- set the stage ----------------------------------------------------------------------------------------------

    def _start_broker(self) -> None:
        if not self._own_broker:
            return
        broker.stop(self._settings.broker_folder)
        # Each demo starts from an empty log, so that its figures are those of this run.
        clear_folder(self._settings.folder)
        self._services.start_broker()

    def _prepare(self, log: KafkaLog) -> None:
        # With --bootstrap-servers the folder of an earlier demo may still hold its key.
        if not self._settings.operator_key_file.exists():
            keys.create(self._settings.operator_key_file)
        log.create_topics(CATALOGUE, partitions=self._settings.partitions or None)
        if self._tier == "masked":
            # The folder was cleared before, with the helpers of an earlier demo.
            self._policy = mask_policy(self._policy, self._settings.folder)
        if self._edge is not None:
            self._edge.open(log, devices=self._policy.selection.devices_expected)

    def _start_services(self) -> None:
        devices = str(self._policy.selection.devices_expected)
        # The first model takes as long to make as this process takes to import torch, on a busy machine very long.
        waits = ("--task-wait-s", str(PATIENCE_S))
        # How devices get in; without a gateway as Kafka's other clients do.
        way = [] if self._edge is None else self._edge.list_fleet_options()
        if self._edge is not None:
            self._edge.start()
        self._services.start("fleet", "fleet", "--task", TASK, "--devices", devices, *waits, *FLEET, *way)
        for actor in list_actors(self._policy):
            self._services.start(actor, "worker", actor)
        self._helpers = start_helpers(self._services, self._policy)
        self._services.start("evaluator", "evaluate", "--follow", "--task", TASK)
        between = "" if self._edge is None else " that enrol, seal what they send, and see nothing but a gateway"
        count = len(list_actors(self._policy))
        self._view.say(f"{count} workers, an evaluator and a fleet of {devices} devices{between} are starting.")
        if self._helpers:
            self._view.say(describe_helpers(self._helpers))

    # --- watch, kill, and wait for the end --------------------------------------------------------------------------

    def _watch(self, log: KafkaLog) -> TaskView:
        deadline_s = time.monotonic() + PATIENCE_S
        views = TaskViews()
        with Follower(log, views, partitions=[partition_of(TASK, log.partitions)]) as follower, self._view.live():
            while True:
                follower.poll(0.25)
                view = views.view(TASK)
                self._view.show(view)
                self._kill_once(view)
                if view.version:
                    self._services.start_history()
                    if self._page is not None:
                        self._page.tend()
                if view.halted is not None and self._is_scored(view):
                    return view
                self._services.check(may_end="fleet")
                if time.monotonic() > deadline_s:
                    raise DemoFailed(
                        f"The task did not end within {PATIENCE_S:g} s; see {self._settings.folder / 'logs'}."
                    )

    def _is_scored(self, view: TaskView) -> bool:
        # The demo promises an accuracy, so it waits for the score of the last version.
        return view.version is not None and view.metric_of(view.version) is not None

    def _kill_once(self, view: TaskView) -> None:
        if self._kill is not None:
            kill = self._kill
            if kill.recovered_s is None and view.admitted > kill.admitted:
                kill.recovered_s = time.monotonic() - kill.at_s
                self._view.say(
                    f"The aggregator is back after {kill.recovered_s:.1f} s, its buffer of {kill.buffer} rebuilt from "
                    "the log; the round goes on."
                )
            return
        size = view.buffer_size or 0
        # Half-way through a round, so that the aggregator has a buffer to rebuild from the log.
        is_midway = size // 4 <= view.buffer_fill <= size * 3 // 4 and view.buffer_fill > 0
        if (view.version or 0) < KILL_AFTER_VERSION or not is_midway:
            return
        # The worker, not its supervisor: the supervisor is what must bring it back.
        pid = self._worker_pid("aggregator")
        # SIGKILL, because the claim is that nothing is lost when a process ends without warning.
        os.kill(pid, signal.SIGKILL)
        self._kill = Kill(pid, view.buffer_fill, view.version or 0, view.admitted, time.monotonic())
        self._view.say(
            f"kill -9 {pid}: the aggregator is dead, with {view.buffer_fill} of {size} updates in its buffer."
        )
        if self._helpers:
            pid = kill_helper(self._services, name := self._helpers[-1])
            self._helper_kills += 1
            self._view.say(f"kill -9 {pid}: {name} is dead; no round ends until another goes on from its folder.")
        if self._edge is not None:
            self._view.say(f"kill -9 {self._edge.kill()}: the gateway is dead, with all that its devices wait for.")

    def _worker_pid(self, actor: str) -> int:
        supervisor = self._services.services[actor].child.pid
        told = json.loads((self._settings.folder / "run" / f"{actor}-{supervisor}.json").read_text())
        return int(told["child"])

    # --- prove it ---------------------------------------------------------------------------------------------------

    def _replay(self) -> dict[str, Any]:
        # A fresh process, which can know nothing but what stands in the log.
        done = self._services.ask("replay", "--full", "--json")
        try:
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise DemoFailed(f"The replay failed:\n{done.stderr.decode(errors='replace')}") from error
        return found

    def _report(self, view: TaskView, replayed: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        kill = self._kill
        survived = int(kill is not None and kill.recovered_s is not None)
        return {
            "accuracy": view.metric_of(view.version) if view.version is not None else None,
            "versions": view.version,
            "halted": view.halted.reason if view.halted else None,
            "updates_admitted": view.admitted,
            "updates_refused": sum(view.refused.values()),
            "refused_by_reason": dict(view.refused),
            "epsilon": view.epsilon,
            "delta": view.delta,
            "rho": view.rho,
            "rho_max": self._policy.privacy.rho_max if self._policy.privacy else None,
            "staleness_mean": view.staleness_mean,
            "tier": self._policy.tier,
            "identity": "enrolled" if self._policy.is_enrolled else "open",
            "gateway": self._edge is not None,
            "gateway_kills": 0 if self._edge is None else self._edge.kills,
            "helper_kills": self._helper_kills,
            "crashes_survived": survived,
            "buffer_at_kill": kill.buffer if kill else None,
            "recovery_seconds": kill.recovered_s if kill else None,
            "events_replayed": replayed.get("events"),
            "sums_recomputed": replayed.get("sums"),
            "models_recomputed": replayed.get("models"),
            "replay": replayed.get("replay"),
            "unchecked": replayed.get("unchecked"),
            "seconds": round(seconds, 1),
        }


def clear_folder(folder: Path) -> None:
    """Remove what an earlier demo has left; what says who is at work here stays."""
    for path in folder.iterdir():
        if path.name != "run":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def suggest_next(settings: Settings, *, keep: bool) -> None:
    """What to try after the demo."""
    folder = settings.folder / "demo"
    if keep:
        note(f"\nBroker, workers and page still run. Try, with export FEDLOG_FOLDER={folder}:")
        commands: tuple[str, ...] = (
            "explain digits@12",
            'query "SELECT cohort, sum(admitted) AS admitted, sum(refused) AS refused FROM devices GROUP BY cohort"',
            "task fork digits --at 5 --name digits-b --set privacy.rho_max=18",
            "fleet --task digits-b --devices 200",
            "replay --full",
            "verify",
            "stop",
        )
    else:
        note(f"\nThe broker is stopped; its data stays until the next demo. Try, with export FEDLOG_FOLDER={folder}:")
        commands = ("broker start", "events --topic rounds --limit 20", "replay --full", "model list", "broker stop")
    for command in commands:
        note(f"  fedlog {command}")
