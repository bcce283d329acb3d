"""Many simulated devices in several processes, plain ones or Ray's; `fedlog fleet` and the benchmarks call it.

Each process has one device loop, one link and one torch module a model. The processes share nothing but
the server: a fleet can be killed at any moment, and started again on the same folder.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Self

from client_agent.counts import REASON_LETTERS_MAX, Reasons, join_reasons
from client_agent.enrolling.crowd import enrol_crowd
from client_agent.enrolling.membership import Membership
from client_agent.files import open_private_folder
from client_agent.hostile.attacks import Attack
from client_agent.hostile.crew import HostileCrew
from client_agent.identity import Identity, open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.learning.opening import DataTrainer, choose_accelerator
from client_agent.learning.plugins import resolve
from client_agent.learning.trainer import Trainer
from client_agent.link import Link, OpenLink
from client_agent.locks import Lock
from client_agent.running.interrupts import hold_interrupts
from client_agent.running.loop import Book, DeviceLoop, Stats, read_clock_ms
from client_agent.running.nursery import list_modules
from client_agent.running.plain_session import FleetError, PlainSession, Session
from client_agent.running.profiles import SimulationOptions
from client_agent.running.together import Together, TogetherTrainer
from client_agent.running.watch import LOAD_S, Watch, WatchedTrainer, until_imported, until_loaded, until_opened
from client_agent.running.work import TASK_WAIT_S, await_task, open_work
from client_agent.setting import DeviceSetting
from schemas.topics import answer_partition, population_of

DATA = "client_agent.learning.examples:digits"
# A step takes at least STEP_MS_MIN, so that the messages of many devices are sent together.
STEP_MS_MIN = 10
STEP_MS_MAX = 50
# Getting ready to train together takes a process half a second, which fewer devices do not win back.
TOGETHER_MIN = 16
# Up to so many processes are plain ones; Ray takes longer to start, and spreads more of them better.
PLAIN_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What a fleet is made of. `open_link` is called in each process, so it must be picklable.

    `engine`: "plain" processes, "ray", or "" for the one that fits their number.
    `partitions`: in how many partitions answers lie; devices that share one are put into one process.
    """

    task: str
    open_link: OpenLink
    folder: Path
    devices: int = 200
    processes: int = 2
    partitions: int = 1
    engine: str = ""
    # Empty: what the policy names, or the digits.
    data: str = ""
    seed: int = 0
    simulation: SimulationOptions = field(default_factory=SimulationOptions)
    cohorts: tuple[str, ...] = ("",)
    allowed: AllowList = field(default_factory=AllowList)
    accelerator: str = "cpu"
    # How long the data of one device may take to load.
    load_s: float = LOAD_S
    # How long nobody may have created the task yet, and the modules that each process imports in this time.
    task_wait_s: float = TASK_WAIT_S
    preloaded: tuple[str, ...] = ()
    # With which its devices enrol first, one each, in the order of their names.
    tokens: tuple[bytes, ...] = ()
    # Small models are trained for many devices at once, where their learner allows it.
    is_together: bool = True
    # Some of the devices are hostile, as a test.
    attack: Attack | None = None

    def find_allowed(self) -> AllowList:
        """What the devices may run: what the owner allowed, and what the options name."""
        return self.allowed.including(self.data)

    @property
    def device_names(self) -> tuple[str, ...]:
        """One name a device; each seed has its own, because a name is bound to its first key."""
        return tuple(f"sim{self.seed}-{index:05d}" for index in range(self.devices))

    @property
    def lock_file(self) -> Path:
        """What only one fleet may hold: two with the same seed and task would use the same outboxes."""
        return self.folder / f"sim{self.seed}.{self.task}.lock"

    def find_watch_file(self, first: int) -> Path:
        """Where the process whose first device has this index says under which lease it trains."""
        return self.folder / f"sim{self.seed}.{self.task}.{first}.training"

    def find_load_file(self, first: int) -> Path:
        """The same of the devices' data; empty in a new fleet, which tries all of them."""
        return self.folder / f"sim{self.seed}.{self.task}.{first}.loading"

    def find_together_file(self, first: int) -> Path:
        """The same of trainings made together; empty in a new fleet, which tries it."""
        return self.folder / f"sim{self.seed}.{self.task}.{first}.together"


class Fleet:
    """Runs devices until it is stopped; as a context manager it leaves no process behind."""

    def __init__(self, options: FleetOptions) -> None:
        if options.devices < 1 or options.processes < 1:
            raise FleetError(f"{options.devices} devices in {options.processes} processes: both must be at least 1")
        self.options = options
        self._session = _make_session(options)
        self._lock: Lock | None = None
        self._books: list[Book] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the processes; their devices then load their data.

        Raises FleetError, PluginError, TookTooLong, FolderInUse.
        """
        if self.options.data:
            _import_data(self.options.data, limit_s=self.options.load_s)
        choose_accelerator(self.options.accelerator)
        open_private_folder(self.options.folder)
        self._lock = Lock(self.options.lock_file)
        try:
            options = self.options
            # Each process reads the answers of whole partitions, so that few of these are also read by another.
            shares = spread_devices(options.device_names, options.processes, partitions=options.partitions)
            with hold_interrupts():
                self._session.start(processes=options.processes)
                self._lock.share()
                for share in shares:
                    for file in (options.find_load_file(share[0]), options.find_together_file(share[0])):
                        file.unlink(missing_ok=True)
                    self._books.append(Book(Stats(devices=len(share), loading=len(share))))
                    self._session.spawn(_FleetProcess, options, share, str(Path.cwd()))
                self._session.begin("start")
        except BaseException:
            self.stop()
            raise

    def count(self) -> Stats:
        """What all devices together are doing now. Raises FleetError when a process fails or does not answer."""
        for book, answer in zip(self._books, self._session.collect("count"), strict=True):
            book.note(answer)
        return sum((book.total() for book in self._books), Stats())

    def stop(self) -> None:
        """Stop the devices where they are, and end every process; of Ray also its scratch folder."""
        with hold_interrupts():
            self._session.stop("stop")
            if self._lock is not None:
                self._lock.release()


@dataclass(frozen=True, slots=True)
class _Watches:
    """Those of one process; what loads comes to an end before anything trains."""

    training: Watch
    loading: Watch
    together: Together

    def count(self) -> Stats:
        """What is taking long, and what was found of the process before."""
        waiting_for = self.loading.describe_wait() or self.together.describe_wait()
        return Stats(waiting_for=waiting_for) + self.training.count()


class _FleetProcess:
    """One process of a fleet: a thread that loads its devices' data, and then runs a device loop by the wall clock."""

    def __init__(self, options: FleetOptions, indices: Sequence[int], folder: str) -> None:
        self._options = options
        self._indices = indices
        self._folder = folder
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock: Lock | None = None
        self._settings: list[DeviceSetting] = []
        self._unloaded: dict[str, str] = {}
        self._unloaded_for: Reasons = {}
        self._watches: _Watches | None = None
        self._loop: DeviceLoop | None = None
        self._error = ""

    def start(self) -> None:
        """Start the thread; a second call changes nothing."""
        if self._thread is not None:
            return
        # Plugins are looked up in the folder in which the fleet was started.
        os.chdir(self._folder)
        # Held here too: where the fleet's own process is killed, this one lives on for a moment.
        self._lock = Lock(self._options.lock_file, shared=True)
        # A daemon, so that the process can end while a device trains.
        first = self._indices[0]
        options = self._options
        is_worth_it = options.is_together and len(self._indices) >= TOGETHER_MIN
        self._watches = _Watches(
            Watch(options.find_watch_file(first)),
            Watch(options.find_load_file(first)),
            Together(Watch(options.find_together_file(first)), is_off=not is_worth_it),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def count(self) -> tuple[int, Stats]:
        """The process and what its devices are doing; starts them when the process had to be started again."""
        self.start()
        if self._error:
            raise FleetError(self._error)
        watched = Stats() if self._watches is None else self._watches.count()
        return os.getpid(), watched + self._count()

    def _count(self) -> Stats:
        failed = len(self._unloaded)
        error = next(iter(self._unloaded.values()), "")
        attack = str(self._options.attack or "")
        unloaded = Stats(devices=failed, failed=failed, failed_for=self._unloaded_for, error=error, attack=attack)
        if self._loop is None:
            left = len(self._indices) - failed
            return unloaded + Stats(devices=left, loading=left - len(self._settings))
        return unloaded + self._loop.count()

    def stop(self) -> None:
        """End the loop; nothing is sent afterwards."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            for module in self._options.preloaded:
                import_module(module)
            identities = self._open_identities()
            link = self._options.open_link([identity.device for identity in identities.values()])
            try:
                home, options = population_of(self._options.task), self._options
                members = enrol_crowd(link, identities, folder=options.folder, population=home, tokens=options.tokens)
                self._load(link, members)
                self._drive(link)
            finally:
                link.close()
        # A thread that ends unseen looks like a fleet that waits; the next `count` raises it in the fleet's process.
        except BaseException as error:  # noqa: BLE001
            self._error = f"{type(error).__name__}: {error}"

    def _open_identities(self) -> dict[int, Identity]:
        names = self._options.device_names
        for index in self._indices:
            open_private_folder(self._options.folder / names[index])
        return {index: open_identity(self._options.folder / names[index], names[index]) for index in self._indices}

    def _load(self, link: Link, members: dict[int, Membership]) -> None:
        """Put every device together. One that cannot be loaded has failed, and the others go on."""
        options = self._options
        choose_accelerator(options.accelerator)
        # Their task first: its policy says what learns, and which data.
        created = await_task(link, options.task, is_stopping=self._stopping.is_set, wait_s=options.task_wait_s)
        assert self._watches is not None
        watch = self._watches.loading
        work = watch.watch(
            lambda: open_work(created, allowed=options.find_allowed(), data=options.data, fallback=DATA),
            until_opened(options.task, limit_s=options.load_s),
        )
        crew = HostileCrew(options.attack, options.devices, work, self._choose_part, created.policy.lease_ms)
        for index, member in members.items():
            if self._stopping.is_set():
                return
            name = options.device_names[index]
            try:
                deadline = until_loaded(name, code=work.loader, limit_s=options.load_s)
                make = partial(self._make_setting, index, member, crew=crew)
                self._settings.append(watch.watch(make, deadline))
            # A user's own code may raise anything, or end its process.
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self._unloaded[name] = f"{name}: {type(error).__name__}: {error}"
                # Without the device's own place, so that those which fail alike are counted together.
                reason = f"{type(error).__name__}: {error}".replace(f" for {self._choose_part(index)}", "")
                self._unloaded_for = join_reasons(self._unloaded_for, {reason[:REASON_LETTERS_MAX]: 1})

    def _drive(self, link: Link) -> None:
        assert self._watches is not None
        down_ms = self._options.simulation.away_after_death_ms
        loop = self._loop = DeviceLoop(
            link,
            self._settings,
            now_ms=read_clock_ms(),
            down_ms=down_ms,
            train_ahead=self._watches.together.train_ahead,
        )
        # The first step does not wait: no device has checked in yet, so no answer can come.
        wait_s = 0.0
        while not self._stopping.is_set():
            begin_ms = read_clock_ms()
            next_ms = loop.step(begin_ms, wait_s)
            time.sleep(max(0, begin_ms + STEP_MS_MIN - read_clock_ms()) / 1000)
            wait_s = min(STEP_MS_MAX, max(0, next_ms - read_clock_ms())) / 1000

    def _put_under_watch(self, trainer: Trainer, label: str) -> Trainer:
        if self._watches is None:
            return trainer
        watched, together = WatchedTrainer(trainer, self._watches.training, label), self._watches.together
        # A question that is asked of devices is answered by each alone.
        return TogetherTrainer(trainer, watched, together) if isinstance(trainer, DataTrainer) else watched

    def _choose_part(self, index: int) -> Part:
        options = self._options
        folder = options.folder / options.device_names[index]
        return Part(index=index, count=options.devices, folder=folder)

    def _make_setting(self, index: int, member: Membership, *, crew: HostileCrew) -> DeviceSetting:
        options = self._options
        name = options.device_names[index]
        folder = options.folder / name
        trainer = self._put_under_watch(crew.make_trainer(index), name)
        return DeviceSetting(
            task=options.task,
            identity=member.identity,
            folder=folder,
            trainer=trainer,
            allowed=options.find_allowed(),
            profile=crew.make_profile(index, options.simulation),
            cohort=options.cohorts[index % len(options.cohorts)],
            membership=member,
            place=str(index),
            synced=False,
            differing=crew.work.differing,
            clock_ms=read_clock_ms,
        )


def _import_data(plugin: str, *, limit_s: float) -> None:
    """Look a plugin up, so that a wrong name fails at once and in the fleet's own process. Raises PluginError."""
    watch = Watch(None)
    try:
        watch.watch(partial(resolve, plugin), until_imported(plugin, limit_s=limit_s))
    finally:
        watch.close()


def _make_session(options: FleetOptions) -> Session:
    if (options.engine or ("plain" if options.processes <= PLAIN_MAX else "ray")) == "plain":
        return PlainSession((__name__, *list_modules(options.open_link), *options.preloaded))
    # Ray takes seconds to import and more to start, which a small fleet need not wait for.
    session: Session = import_module("client_agent.running.ray_session").RaySession()
    return session


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
