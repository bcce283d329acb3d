"""Many simulated devices in Ray actors.

Each Ray actor is a process with one crowd of devices, one link and one torch module a model. Nothing is shared between
them but the log: a fleet can be killed at any moment, and started again on the same folder.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import ray
import structlog
from ray._common.usage import usage_lib

from client_agent.device import Setting, Train
from client_agent.identity import open_identity
from client_agent.learning.data import Part, load
from client_agent.learning.plugins import resolve
from client_agent.links.kafka import Link
from client_agent.running.loop import Crowd, Stats, wall_ms
from client_agent.running.profiles import Habits, Life
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.topics import partition_of
from streams.log import EventLog

TRAINER = "client_agent.learning.classification:train"
DATA = "client_agent.learning.examples:digits"
STEP_MS_MAX = 50  # answers are looked for at least this often
STEP_MS_MIN = 10  # and no more often than this, so that what many devices say goes out together
OBJECT_STORE_BYTES = 80 << 20  # Ray's least; nothing but counts goes through it
CALL_S = 60.0

_log = structlog.get_logger(__name__)

OpenLog = Callable[[], EventLog]


class FleetError(FedlogError):
    """The fleet cannot start or go on; the message says why."""

    exit_code = EXIT_USAGE
    code = "fleet_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What a fleet is made of. `open_log` is called in each process, so it must be picklable."""

    task: str
    open_log: OpenLog
    folder: Path
    devices: int = 200
    processes: int = 2
    data: str = DATA
    seed: int = 0
    habits: Habits = field(default_factory=Habits)
    cohorts: tuple[str, ...] = ("",)
    trainer: str = TRAINER

    def names(self) -> tuple[str, ...]:
        """The devices' names; a seed has its own, because names and keys are bound for ever."""
        return tuple(f"sim{self.seed}-{index:05d}" for index in range(self.devices))


class Fleet:
    """Runs devices until it is stopped; use it as a context manager, so that no process is left behind."""

    def __init__(self, options: FleetOptions) -> None:
        if options.devices < 1 or options.processes < 1:
            raise FleetError(f"{options.devices} devices in {options.processes} processes: both must be at least 1")
        self._options = options
        self._crews: list[Any] = []
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start Ray and the devices; returns when each process has its data. Raises FleetError, PlugError."""
        resolve(self._options.data)  # a wrong name is told at once, and not by way of another process
        if ray.is_initialized():
            raise FleetError("Ray is in use in this process already; a fleet needs its own")
        # Ray's sockets lie in here, and their paths must be short: never in a user's folder.
        self._scratch = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
        try:
            self._start_ray(self._scratch)
            shares = shared_out(self._options.names(), self._options.processes)
            crew: Any = ray.remote(num_cpus=1, max_restarts=-1)(_Crew)
            self._crews = [crew.remote(self._options, share, str(Path.cwd())) for share in shares]
            ray.get([crew.start.remote() for crew in self._crews], timeout=CALL_S)
        except BaseException as error:
            self.stop()
            if isinstance(error, ray.exceptions.RayError):
                raise FleetError(f"the fleet did not start: {error}") from error
            raise

    def stats(self) -> Stats:
        """What all devices together are doing now. Raises FleetError when a process does not answer."""
        try:
            answers = ray.get([crew.stats.remote() for crew in self._crews], timeout=CALL_S)
        except ray.exceptions.RayError as error:
            raise FleetError(f"a process of the fleet does not answer: {error}") from error
        return sum(answers, Stats())

    def stop(self) -> None:
        """Stop the devices where they are, end every process of Ray, and remove its scratch folder."""
        try:
            if self._crews:
                ray.wait([crew.stop.remote() for crew in self._crews], num_returns=len(self._crews), timeout=5.0)
        except ray.exceptions.RayError as error:
            _log.warning("fleet_stop", error=str(error))
        finally:
            self._crews = []
            ray.shutdown()
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _start_ray(self, scratch: Path) -> None:
        usage_lib.set_usage_stats_enabled_via_env_var(False)  # Ray would report each start to its makers
        heard = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=self._options.processes,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(scratch),
        )
        if threading.current_thread() is threading.main_thread():
            # Ray takes SIGTERM for itself, and would leave processes and its scratch folder behind.
            signal.signal(signal.SIGTERM, heard)


class _Crew:
    """One process of a fleet: a thread that drives a crowd by the clock."""

    def __init__(self, options: FleetOptions, indices: Sequence[int], folder: str) -> None:
        self._options = options
        self._indices = indices
        self._folder = folder
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._crowd: Crowd | None = None
        self._broken = ""

    def start(self) -> None:
        """Load every device's data and go; a second call changes nothing."""
        if self._thread is not None:
            return
        # Plug points are looked for where the fleet was started.
        os.chdir(self._folder)
        names = self._options.names()
        train = resolve(self._options.trainer)
        settings = [self._setting(index, names[index], train=train) for index in self._indices]
        link = Link(self._options.open_log(), [setting.identity.device for setting in settings])
        self._crowd = Crowd(link, settings, now_ms=wall_ms(), down_ms=self._options.habits.away_after_death_ms)
        self._thread = threading.Thread(target=self._run, args=(link,), daemon=True)
        self._thread.start()

    def stats(self) -> Stats:
        """What this process's devices are doing; starts them when Ray had to start the process anew."""
        self.start()
        assert self._crowd is not None
        if self._broken:
            raise FleetError(self._broken)
        return self._crowd.stats()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self, link: Link) -> None:
        assert self._crowd is not None
        wait_s = 0.0
        try:
            while not self._stopped.is_set():
                began_ms = wall_ms()
                next_ms = self._crowd.step(began_ms, wait_s)
                time.sleep(max(0, began_ms + STEP_MS_MIN - wall_ms()) / 1000)
                wait_s = min(STEP_MS_MAX, max(0, next_ms - wall_ms())) / 1000
        except Exception as error:  # noqa: BLE001 - told to whoever asks for the stats
            self._broken = f"{type(error).__name__}: {error}"
        finally:
            link.close()
            link.log.close()

    def _setting(self, index: int, name: str, *, train: Train) -> Setting:
        options = self._options
        folder = options.folder / name
        return Setting(
            task=options.task,
            identity=open_identity(folder, name),
            folder=folder,
            examples=load(options.data, Part(index=index, count=options.devices, folder=folder, seed=options.seed)),
            train=train,
            life=Life(options.habits, device=name, seed=options.seed),
            cohort=options.cohorts[index % len(options.cohorts)],
            synced=False,
            clock_ms=wall_ms,
        )


def run_fleet(options: FleetOptions, *, is_done: Callable[[Stats], bool], every_s: float = 1.0) -> Stats:
    """Run a fleet until `is_done`, asked every `every_s` seconds, says so; what it did. Raises FleetError."""
    with Fleet(options) as fleet:
        while not is_done(stats := fleet.stats()):
            time.sleep(every_s)
        return stats


def all_closed(stats: Stats) -> bool:
    """Whether every device that still works was told that the task is over."""
    return stats.closed + stats.failed >= stats.devices


def shared_out(names: Sequence[str], processes: int) -> list[list[int]]:
    """Indices for each process, evenly, and by partition of their answers: each process then reads few partitions."""
    order = sorted(range(len(names)), key=lambda index: (partition_of(names[index]), index))
    cuts = [len(order) * part // processes for part in range(processes + 1)]
    return [share for begin, end in itertools.pairwise(cuts) if (share := order[begin:end])]
