"""One real device on its own folder, in the foreground, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_agent.device import Conditions, Plain, Setting
from client_agent.identity import open_identity
from client_agent.learning.data import Part, load
from client_agent.learning.plugins import resolve
from client_agent.links.kafka import Link
from client_agent.running.loop import Crowd, Stats, wall_ms
from schemas.errors import EXIT_USAGE, FedlogError
from streams.log import EventLog

STEP_MS_MAX = 500


class DeviceError(FedlogError):
    """The device cannot go on; the message says why."""

    exit_code = EXIT_USAGE
    code = "device_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """What one device is made of; `name` is needed the first time only, and drawn by chance when it is left out."""

    task: str
    folder: Path
    data: str = "client_agent.learning.examples:folder_npz"
    name: str | None = None
    conditions: Conditions = field(default_factory=Conditions)
    cohort: str = ""
    trainer: str = "client_agent.learning.classification:train"


def run_device(log: EventLog, options: DeviceOptions, *, is_done: Callable[[Stats], bool]) -> Stats:
    """Take part until `is_done`, asked after every step, says so; what the device did.

    Raises IdentityError, PlugError, OutboxError and DeviceError. `log` stays open.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    identity = open_identity(options.folder, options.name)
    setting = Setting(
        task=options.task,
        identity=identity,
        folder=options.folder,
        examples=load(options.data, Part(folder=options.folder)),
        train=resolve(options.trainer),
        life=Plain(options.conditions),
        cohort=options.cohort,
        clock_ms=wall_ms,
    )
    link = Link(log, [identity.device])
    try:
        return _run(Crowd(link, [setting], now_ms=wall_ms()), is_done)
    finally:
        link.close()


def _run(crowd: Crowd, is_done: Callable[[Stats], bool]) -> Stats:
    wait_s = 0.0
    while not is_done(stats := crowd.stats()):
        if stats.error:
            raise DeviceError(stats.error)
        next_ms = crowd.step(wall_ms(), wait_s)
        wait_s = min(STEP_MS_MAX, max(0, next_ms - wall_ms())) / 1000
    return stats
