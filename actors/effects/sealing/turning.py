"""The host's part in an epoch's life: its key is made before the epoch begins, and destroyed before it is said to be.

The aggregator's effects ask here for what the state of a task waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import structlog
from msgspec import UNSET

from actors.deciders.aggregator import EpochInput
from actors.deciders.aggregator_state import Task
from actors.deciders.epochs import EpochKeyGone, EpochMade, list_idle, list_over, wants_epoch
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.keys import RoleKey
from schemas.sealing.epochs import EpochKey, sign_epoch_key

logger = structlog.get_logger()


class Turning:
    """For one actor's thread. `time_ms` is the log's, of the newest decision."""

    def __init__(self, key: RoleKey) -> None:
        self.keys, self._signer = EpochKeys.open_for(key), key.signer
        self.time_ms = 0

    def is_due(self, tasks: Iterable[Task]) -> bool:
        """Whether a key may go by now."""
        return any([*list_over(task, self.time_ms)] for task in tasks)

    def make_inputs(self, task: Task) -> Iterator[EpochInput]:
        """What to decide about the epochs of a task; each is decided before the next is made.

        Raises EpochKeysUnusable where this process was told of another folder than those before it.
        """
        if task.epochs is UNSET:
            return
        created = task.created
        for number in [*list_over(task, self.time_ms)]:
            # Those of a masked task are its helpers', who destroy them when they read that they are over.
            if created.policy.is_sealed:
                # Elsewhere it would stay, and be called destroyed.
                self.keys.require_home(created, number)
                self.keys.destroy(created, number)
            yield EpochKeyGone(task=created.task, epoch=number, reason="over")
        if not created.policy.is_sealed:
            return
        # A life before this one may have deleted the key of an idle one, by a later time than the journal knows, and
        # died before it could say so: such an epoch ends when its time comes again.
        idle = {*list_idle(task)}
        for number in [n for n in task.epochs.held if n not in idle and self.keys.find(created, n) is None]:
            self.keys.require_home(created, number)
            logger.error("epoch_key_lost", task=created.task, epoch=number)
            yield EpochKeyGone(task=created.task, epoch=number, reason="lost")
        if wants_epoch(task):
            yield self._make(task, task.epochs.next)

    def _make(self, task: Task, number: int) -> EpochMade:
        created, secret = task.created, self.keys.make(task.created, number)
        key = EpochKey(deployment=created.deployment, task=created.task, epoch=number, public_key=secret.public_key)
        return EpochMade(task=created.task, epoch=number, statement=sign_epoch_key(key, self._signer))
