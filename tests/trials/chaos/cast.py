"""The processes of an experiment, each started again whenever it dies, as a supervisor would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from actors.hosts.worker import WorkerOptions
from actors.keys import RoleKey
from ops.history.tables.projector import Viewer
from streams.kafka.settings import KafkaSettings
from tests.trials.chaos import device, projector, worker
from tests.trials.chaos.masked import helper
from tests.trials.chaos.proxy import HOST, Proxy
from tests.trials.chaos.trap import Trap
from tests.worlds.stage import Stage

RESTART_AFTER_S = 0.3

# Forked from a process that has imported everything, a worker starts in a tenth of the time.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([module.__name__ for module in (worker, device, projector, helper)])


class Kept:
    """A process that comes back under its name until `end`."""

    def __init__(self, name: str, work: Callable[[Any], None], *, orders: Any) -> None:
        self.name, self.log_file = name, Path(orders.log_file)
        self.log_file.touch()
        self.starts = 0
        self._work, self._orders = work, orders
        self._process: Any = None
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)
        self._keeper.start()

    def read_log(self) -> str:
        """All that its lives have told."""
        return self.log_file.read_text(errors="replace")

    def list_stacks(self) -> list[str]:
        """Nothing: a fork tells no stacks."""
        return []

    def end(self) -> None:
        """Kill it for good; whether it stands still or not."""
        self._ending.set()
        if self._process is not None:
            self._process.kill()

    def ended(self) -> None:
        """Wait for its end."""
        while self._keeper.is_alive():
            self.end()
            self._keeper.join(0.2)

    def _keep(self) -> None:
        while not self._ending.is_set():
            process = _forks.Process(target=self._work, args=(self._orders,), name=self.name, daemon=True)
            process.start()
            self._process = process
            self.starts += 1
            process.join()
            self._ending.wait(RESTART_AFTER_S)


class Cast(Stage):
    """A stage whose workers have crash points; `proxies` lead those to the broker that are to be cut off."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        super().__init__(kafka, folder)
        self.proxies: dict[str, Proxy] = {}

    def play(self, actor: str, trap: Trap, *, behind_proxy: bool = False) -> None:
        """Start one worker, helper, device or projector, under the trap's name, which is its own in the group."""
        kafka = self._behind_proxy(trap.name) if behind_proxy else self.kafka
        log_file = self.folder / f"{trap.name}.log"
        work: Callable[[Any], None] = worker.work
        orders: Any = worker.Orders(
            actor=actor,
            options=WorkerOptions(kafka=kafka, key=self._key(actor), instance=f"{kafka.topic_prefix}-{trap.name}"),
            trap=trap,
            log_file=log_file,
        )
        if actor == "device":
            work = device.work
            orders = device.Orders(
                kafka=kafka,
                operator=self.key.public_key,
                trap=trap,
                folder=self.folder / trap.name,
                log_file=log_file,
            )
        if actor == "projector":
            work = projector.work
            orders = projector.Orders(kafka=kafka, viewer=self.viewer, trap=trap, folder=self.folder, log_file=log_file)
        if actor == "helper":
            work = helper.work
            orders = helper.Orders(
                kafka=kafka,
                operator=self.key.public_key,
                trap=trap,
                folder=self.folder / trap.name,
                log_file=log_file,
            )
        self.workers.append(Kept(trap.name, work, orders=orders))  # type: ignore[arg-type]

    @property
    def epoch_keys(self) -> Path:
        """The folder of the keys of sealed tasks."""
        return self.folder / "epoch-keys"

    def _key(self, actor: str) -> RoleKey:
        return msgspec.structs.replace(self.role_key(actor), epoch_keys=str(self.epoch_keys))

    @property
    def viewer(self) -> Viewer:
        """The operator of this stage, who may see everything."""
        return Viewer(operator=self.key.public_key, deployment=self.deployment, is_operator=True)

    def leave(self, actor: str) -> None:
        """End this actor's processes for good, and leave the others at work."""
        for one in [one for one in self.workers if one.log_file.name.startswith(actor)]:
            one.end()
            one.ended()

    def close(self) -> None:
        super().close()
        for proxy in self.proxies.values():
            proxy.close()

    def _behind_proxy(self, name: str) -> KafkaSettings:
        proxy = Proxy(int(self.kafka.bootstrap_servers.rpartition(":")[2]))
        self.proxies[name] = proxy
        return replace(self.kafka, bootstrap_servers=f"{HOST}:{proxy.port}")


def signalled(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
