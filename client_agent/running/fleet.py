"""Many simulated devices in Ray actors; `fedlog fleet` and the benchmarks call it.

Each Ray actor is a process with one device loop, one link and one torch module a model. The processes share nothing but
the server: a fleet can be killed at any moment, and started again on the same folder.
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

from client_agent.files import open_private_folder
from client_agent.identity import open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part, load
from client_agent.learning.learner import Train
from client_agent.learning.plugins import resolve
from client_agent.link import Link, OpenLink
from client_agent.running.loop import DeviceLoop, Stats, read_clock_ms
from client_agent.running.profiles import SimulatedProfile, SimulationOptions
from client_agent.setting import DeviceSetting
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.topics import answer_partition

TRAINER = "client_agent.learning.classification:train"
DATA = "client_agent.learning.examples:digits"
# A step takes at least STEP_MS_MIN, so that the messages of many devices are sent together.
STEP_MS_MIN = 10
STEP_MS_MAX = 50
OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum; only counts go through it
CALL_S = 60.0

logger = structlog.get_logger(__name__)


class FleetError(FedlogError):
    """The fleet cannot start or continue; the message says why."""

    exit_code = EXIT_USAGE
    code = "fleet_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What a fleet is made of. `open_link` is called in each process, so it must be picklable.

    `partitions`: in how many partitions answers lie; devices that share one are put into one process.
    """

    task: str
    open_link: OpenLink
    folder: Path
    devices: int = 200
    processes: int = 2
    partitions: int = 1
    data: str = DATA
    seed: int = 0
    simulation: SimulationOptions = field(default_factory=SimulationOptions)
    cohorts: tuple[str, ...] = ("",)
    trainer: str = TRAINER
    allowed: AllowList = field(default_factory=AllowList)

    @property
    def device_names(self) -> tuple[str, ...]:
        """One name a device; each seed has its own, because a name is bound to its first key."""
        return tuple(f"sim{self.seed}-{index:05d}" for index in range(self.devices))


class Fleet:
    """Runs devices until it is stopped; as a context manager it leaves no process behind."""

    def __init__(self, options: FleetOptions) -> None:
        if options.devices < 1 or options.processes < 1:
            raise FleetError(f"{options.devices} devices in {options.processes} processes: both must be at least 1")
        self._options = options
        self._processes: list[Any] = []
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start Ray and the devices; returns when each process has its data. Raises FleetError, PluginError."""
        # Resolved here too, so that a wrong name fails at once and in this process.
        resolve(self._options.data)
        if ray.is_initialized():
            raise FleetError("Ray is already in use in this process; a fleet needs its own")
        # Ray's sockets are in here, and their paths must be short: never in a user's folder.
        self._scratch = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
        try:
            self._start_ray(self._scratch)
            options = self._options
            # Each process reads the answers of whole partitions, so that few of these are also read by another.
            shares = spread_devices(options.device_names, options.processes, partitions=options.partitions)
            # Ray restarts a process that dies; the next `count` starts its devices again.
            actor: Any = ray.remote(num_cpus=1, max_restarts=-1)(_FleetProcess)
            self._processes = [actor.remote(self._options, share, str(Path.cwd())) for share in shares]
            ray.get([process.start.remote() for process in self._processes], timeout=CALL_S)
        except BaseException as error:
            self.stop()
            if isinstance(error, ray.exceptions.RayError):
                raise FleetError(f"the fleet did not start: {error}") from error
            raise

    def count(self) -> Stats:
        """What all devices together are doing now. Raises FleetError when a process does not answer."""
        try:
            counts = ray.get([process.count.remote() for process in self._processes], timeout=CALL_S)
        except ray.exceptions.RayError as error:
            raise FleetError(f"a process of the fleet does not answer: {error}") from error
        return sum(counts, Stats())

    def stop(self) -> None:
        """Stop the devices where they are, end every process of Ray, and remove its scratch folder."""
        try:
            # A process that does not stop in time is ended by the shutdown below.
            if stopped := [process.stop.remote() for process in self._processes]:
                ray.wait(stopped, num_returns=len(stopped), timeout=5.0)
        except ray.exceptions.RayError as error:
            logger.warning("fleet_stop_failed", error=str(error))
        finally:
            self._processes = []
            ray.shutdown()
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _start_ray(self, scratch: Path) -> None:
        usage_lib.set_usage_stats_enabled_via_env_var(False)  # Ray would report each start to its developers
        handler = signal.getsignal(signal.SIGTERM)
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
            # Ray handles SIGTERM itself, and would leave processes and its scratch folder behind.
            signal.signal(signal.SIGTERM, handler)


class _FleetProcess:
    """One process of a fleet: a thread that runs a device loop by the wall clock."""

    def __init__(self, options: FleetOptions, indices: Sequence[int], folder: str) -> None:
        self._options = options
        self._indices = indices
        self._folder = folder
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: DeviceLoop | None = None
        self._error = ""

    def start(self) -> None:
        """Load every device's data and start the loop; a second call changes nothing."""
        if self._thread is not None:
            return
        # Plugins are looked up in the folder in which the fleet was started.
        os.chdir(self._folder)
        names = self._options.device_names
        train = resolve(self._options.trainer)
        settings = [self._make_setting(index, names[index], train=train) for index in self._indices]
        link = self._options.open_link([setting.identity.device for setting in settings])
        down_ms = self._options.simulation.away_after_death_ms
        self._loop = DeviceLoop(link, settings, now_ms=read_clock_ms(), down_ms=down_ms)
        # A daemon, so that the process can end while a device trains.
        self._thread = threading.Thread(target=self._run, args=(link,), daemon=True)
        self._thread.start()

    def count(self) -> Stats:
        """What this process's devices are doing; starts them when Ray had to restart the process."""
        self.start()
        assert self._loop is not None
        if self._error:
            raise FleetError(self._error)
        return self._loop.count()

    def stop(self) -> None:
        """End the loop; nothing is sent afterwards."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self, link: Link) -> None:
        assert self._loop is not None
        # The first step does not wait: no device has checked in yet, so no answer can come.
        wait_s = 0.0
        try:
            while not self._stopping.is_set():
                begin_ms = read_clock_ms()
                next_ms = self._loop.step(begin_ms, wait_s)
                time.sleep(max(0, begin_ms + STEP_MS_MIN - read_clock_ms()) / 1000)
                wait_s = min(STEP_MS_MAX, max(0, next_ms - read_clock_ms())) / 1000
        except Exception as error:  # noqa: BLE001 - the next `count` raises it in the fleet's process
            self._error = f"{type(error).__name__}: {error}"
        finally:
            link.close()

    def _make_setting(self, index: int, name: str, *, train: Train) -> DeviceSetting:
        options = self._options
        folder = options.folder / name
        open_private_folder(folder)
        return DeviceSetting(
            task=options.task,
            identity=open_identity(folder, name),
            folder=folder,
            examples=load(options.data, Part(index=index, count=options.devices, folder=folder, seed=options.seed)),
            train=train,
            allowed=options.allowed.including(options.data, options.trainer),
            profile=SimulatedProfile(options.simulation, device=name, seed=options.seed),
            cohort=options.cohorts[index % len(options.cohorts)],
            synced=False,
            clock_ms=read_clock_ms,
        )


def run_fleet(options: FleetOptions, *, is_done: Callable[[Stats], bool], every_s: float = 1.0) -> Stats:
    """Run a fleet until `is_done`, asked every `every_s` seconds, says so; what it did. Raises FleetError."""
    with Fleet(options) as fleet:
        while not is_done(stats := fleet.count()):
            time.sleep(every_s)
        return stats


def is_over(stats: Stats) -> bool:
    """Whether every device that still works knows that its task is over."""
    return stats.closed + stats.failed >= stats.devices


def spread_devices(names: Sequence[str], processes: int, *, partitions: int) -> list[list[int]]:
    """Indices for each process, evenly, and by partition of their answers: each process then reads few partitions."""
    order = sorted(range(len(names)), key=lambda index: (answer_partition(names[index], partitions), index))
    cuts = [len(order) * part // processes for part in range(processes + 1)]
    return [share for begin, end in itertools.pairwise(cuts) if (share := order[begin:end])]
