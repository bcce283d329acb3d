"""A device with crash points: the real device, its outbox and its own process; what it learns is nothing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client_agent.conditions import Conditions, FixedProfile
from client_agent.links.kafka import KafkaLink
from client_agent.running import foreground
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.learners import FLAT_LEARNER
from tests.trials.chaos.points import TASK
from tests.trials.chaos.trap import Trap
from tests.trials.chaos.worker import prepare
from tests.worlds.builders import ALLOWED

NAME = "struck-device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a device process is told."""

    kafka: KafkaSettings
    operator: bytes
    trap: Trap
    folder: Path
    log_file: Path


def work(orders: Orders) -> None:
    """Be a device until death."""
    prepare(orders.log_file)
    foreground.FixedProfile = lambda conditions: TrappedProfile(conditions, orders.trap)  # type: ignore[assignment,misc]
    options = foreground.DeviceOptions(
        task=TASK,
        folder=orders.folder,
        name=NAME,
        allowed=ALLOWED.including(FLAT_LEARNER),
    )
    with closing(KafkaLog(orders.kafka)) as log:
        foreground.run_device(partial(KafkaLink, log, orders.operator), options, is_done=lambda _: False)


class TrappedProfile(FixedProfile):
    """A real device's profile, in which each step is a crash point."""

    def __init__(self, conditions: Conditions, trap: Trap) -> None:
        super().__init__(conditions)
        self._trap = trap

    def note_step(self, step: str) -> None:
        self._trap.passed(step)
