"""Opened bodies that wait for their admission, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from actors.deciders.aggregator_state import Task
from schemas.tensors import Quanta

BYTES_MAX = 128 * 2**20


class HeldVectors:
    """Vectors by update."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, Quanta] = OrderedDict()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether to wait for admissions before more is opened."""
        return self._bytes >= BYTES_MAX

    def put(self, update: str, quanta: Quanta) -> None:
        """Keep the vector of an update until it is decided."""
        self._vectors[update] = quanta
        self._bytes += quanta.values.nbytes

    def take(self, update: str) -> Quanta | None:
        """The vector of a decided update, which is no longer kept."""
        quanta = self._vectors.pop(update, None)
        self._bytes -= quanta.values.nbytes if quanta is not None else 0
        return quanta

    def drop_decided(self, tasks: Collection[Task]) -> None:
        """Drop updates that had their outcome before: a worker that reads `updates` late may open such bodies."""
        for update in [update for update in self._vectors if any(update in task.outcomes for task in tasks)]:
            self.take(update)
