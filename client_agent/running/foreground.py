"""One real device on its own folder, in the foreground of its process; `fedlog device` calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from client_agent.conditions import Conditions, FixedProfile
from client_agent.enrolling.enrolment import enrol
from client_agent.enrolling.membership import Membership
from client_agent.files import open_private_folder
from client_agent.identity import open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.link import Link, OpenLink
from client_agent.locks import Lock
from client_agent.running.loop import DeviceLoop, Stats, read_clock_ms
from client_agent.running.watch import LOAD_S, Watch, WatchedTrainer, until_loaded, until_opened
from client_agent.running.work import await_task, open_work
from client_agent.setting import DeviceSetting
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.topics import population_of

STEP_MS_MAX = 500
FOLDER_DATA = "client_agent.learning.examples:folder_npz"


class DeviceError(FedlogError):
    """The device cannot continue; the message says why."""

    exit_code = EXIT_USAGE
    code = "device_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """What a device is started with; `name` only counts the first time, and is random when left out."""

    task: str
    folder: Path
    # Empty: what the policy names, or the device's own folder.
    data: str = ""
    name: str | None = None
    conditions: Conditions = field(default_factory=Conditions)
    cohort: str = ""
    # The version that it runs in production.
    running: int | None = None
    allowed: AllowList = field(default_factory=AllowList)
    # How long its data may take to load.
    load_s: float = LOAD_S
    # Public keys of helpers that its owner trusts.
    helpers: frozenset[bytes] = frozenset()
    # With which it enrols first; the certificate stays in its folder.
    token: bytes | None = None


def run_device(open_link: OpenLink, options: DeviceOptions, *, is_done: Callable[[Stats], bool]) -> Stats:
    """Take part until `is_done`, asked after each step, says so; what the device did.

    Raises FolderInUse, IdentityError, PluginError, OutboxError and DeviceError.
    """
    open_private_folder(options.folder)
    # A second process on the same outbox would overwrite what this one has kept.
    with Lock(options.folder / f"{options.task}.lock"):
        return _run_alone(open_link, options, is_done=is_done)


def _run_alone(open_link: OpenLink, options: DeviceOptions, *, is_done: Callable[[Stats], bool]) -> Stats:
    identity = open_identity(options.folder, options.name)
    link = open_link([identity.device])
    # Through the link, because a device has no other way to its task.
    try:
        membership = Membership(options.folder, population_of(options.task), identity)
        if options.token is not None:
            enrol(link, membership, token=options.token)
        # None for the next process: its owner starts it again, perhaps with data that end.
        loading = Watch(None)
        try:
            setting = _make_setting(link, options, membership=membership, watch=loading)
        finally:
            loading.close()
        watch = Watch(options.folder / f"{options.task}.training")
        try:
            trainer = WatchedTrainer(setting.trainer, watch, identity.label)
            loop = DeviceLoop(link, [replace(setting, trainer=trainer)], now_ms=read_clock_ms())
            return _run(loop, lambda: loop.count() + watch.count(), is_done=is_done)
        finally:
            watch.close()
    finally:
        link.close()


def _make_setting(link: Link, options: DeviceOptions, *, membership: Membership, watch: Watch) -> DeviceSetting:
    """Everything that the device is made of, once its task can be read."""
    identity = membership.identity
    allowed = options.allowed.including(options.data)
    created, limit_s = await_task(link, options.task), options.load_s
    work = watch.watch(
        lambda: open_work(created, allowed=allowed, data=options.data, fallback=FOLDER_DATA),
        until_opened(options.task, limit_s=limit_s),
    )
    part = Part(folder=options.folder)
    deadline = until_loaded(identity.label, code=work.loader, limit_s=limit_s)
    return DeviceSetting(
        task=options.task,
        identity=identity,
        folder=options.folder,
        trainer=watch.watch(lambda: work.make_trainer(part), deadline),
        allowed=allowed,
        profile=FixedProfile(options.conditions),
        cohort=options.cohort,
        running=options.running,
        helpers=options.helpers,
        membership=membership,
        differing=work.differing,
        clock_ms=read_clock_ms,
    )


def _run(loop: DeviceLoop, count: Callable[[], Stats], *, is_done: Callable[[Stats], bool]) -> Stats:
    wait_s = 0.0
    while not is_done(stats := count()):
        # In a fleet the other devices go on without a failed one; here there is no other.
        if stats.error:
            raise DeviceError(stats.error)
        next_ms = loop.step(read_clock_ms(), wait_s)
        # Not longer than this, so that `is_done` is asked even when no answer comes.
        wait_s = min(STEP_MS_MAX, max(0, next_ms - read_clock_ms())) / 1000
    return stats
