"""A helper with crash points: the service of production in a process of its own, which tells each step to the trap."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from actors.hosts.helper import service
from actors.hosts.helper.service import HelperService
from actors.hosts.helper.store import HelperStore
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.trials.chaos.trap import Trap
from tests.trials.chaos.worker import prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a helper's process is told; `folder` is all that it has."""

    kafka: KafkaSettings
    operator: bytes
    trap: Trap
    folder: Path
    log_file: Path


def work(orders: Orders) -> None:
    """Be a helper until death."""
    prepare(orders.log_file)
    service.HelperService = partial(HelperService, note_step=orders.trap.passed)  # type: ignore[assignment,misc]
    with closing(KafkaLog(orders.kafka)) as log:
        service.run_service(log, HelperStore(orders.folder), operator=orders.operator)
