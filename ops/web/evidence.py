"""What a page proves instead of telling: a version made anew, and the state of an actor around a record.

Both read the log itself, in the thread that asks; what is found about a record never changes, and is kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ops.audit.findings import Findings
from ops.audit.journal_states import Changed, compare_states
from ops.audit.replay import Anchor
from ops.audit.spot_check import check_version
from schemas.identifiers import TaskId, Version
from streams.log import EventLog, TopicPartition

KEPT_MAX = 200


@dataclass(frozen=True, slots=True)
class Evidence:
    """The log of a site, and what its operator knows from elsewhere. `open_log` gives a log of one's own."""

    open_log: Callable[[], AbstractContextManager[EventLog]]
    anchor: Anchor
    # One at a time: each folds a journal from its beginning, and two would only halve the speed of both.
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _kept: OrderedDict[tuple[str, int, int], list[Changed] | None] = field(default_factory=OrderedDict)

    def check_version(self, task: TaskId, version: Version) -> Findings:
        """The version's sum and model, recomputed now. Raises JournalBroken, LogUnavailable."""
        with self._turn, self.open_log() as log:
            return check_version(log, task, version=version, anchor=self.anchor)

    def compare_states(self, topic: str, *, partition: int, offset: int) -> list[Changed] | None:
        """What a record has changed in the state of its actor; None for a record of no journal."""
        key = (topic, partition, offset)
        with self._turn:
            if key not in self._kept:
                with self.open_log() as log:
                    at = TopicPartition(topic, partition)
                    self._kept[key] = compare_states(log, at, offset=offset, operator=self.anchor.operator)
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
            return self._kept[key]
