"""One real device on its own folder, in the foreground of its process; `fedlog device` calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_agent.conditions import Conditions, FixedProfile
from client_agent.files import open_private_folder
from client_agent.identity import open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part, load
from client_agent.learning.plugins import resolve
from client_agent.link import OpenLink
from client_agent.locks import Lock
from client_agent.running.loop import DeviceLoop, Stats, read_clock_ms
from client_agent.setting import DeviceSetting
from schemas.errors import EXIT_USAGE, FedlogError

STEP_MS_MAX = 500


class DeviceError(FedlogError):
    """The device cannot continue; the message says why."""

    exit_code = EXIT_USAGE
    code = "device_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """What a device is started with; `name` only counts the first time, and is random when left out."""

    task: str
    folder: Path
    data: str = "client_agent.learning.examples:folder_npz"
    name: str | None = None
    conditions: Conditions = field(default_factory=Conditions)
    cohort: str = ""
    trainer: str = "client_agent.learning.classification:train"
    allowed: AllowList = field(default_factory=AllowList)


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
    setting = DeviceSetting(
        task=options.task,
        identity=identity,
        folder=options.folder,
        examples=load(options.data, Part(folder=options.folder)),
        train=resolve(options.trainer),
        allowed=options.allowed.including(options.data, options.trainer),
        profile=FixedProfile(options.conditions),
        cohort=options.cohort,
        clock_ms=read_clock_ms,
    )
    link = open_link([identity.device])
    try:
        return _run(DeviceLoop(link, [setting], now_ms=read_clock_ms()), is_done)
    finally:
        link.close()


def _run(loop: DeviceLoop, is_done: Callable[[Stats], bool]) -> Stats:
    wait_s = 0.0
    while not is_done(stats := loop.count()):
        # In a fleet the other devices go on without a failed one; here there is no other.
        if stats.error:
            raise DeviceError(stats.error)
        next_ms = loop.step(read_clock_ms(), wait_s)
        # Not longer than this, so that `is_done` is asked even when no answer comes.
        wait_s = min(STEP_MS_MAX, max(0, next_ms - read_clock_ms())) / 1000
    return stats
