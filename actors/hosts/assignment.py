"""Which partitions are a host's, from what its carrier says of single topics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from actors.hosts.inbox import Inbox
from streams.log import TopicPartition

# In a rebalance topics move one by one, so that a partition may be divided for a moment.
UNEVEN_FOR_S = 30.0


class Carrier(Protocol):
    """What brings records to a host, and says which are its to decide; `faust_app` makes one of Faust."""

    inbox: Inbox

    @property
    def is_rebalancing(self) -> bool:
        """Whether partitions are being distributed anew at this moment."""
        ...

    @property
    def rebalances(self) -> int:
        """How many distributions have begun so far."""
        ...

    def find_assigned(self) -> Mapping[int, set[str]]:
        """The topics of each partition that are ours now."""
        ...

    async def seek(self, at: TopicPartition, offset: int) -> None:
        """Deliver from this offset on; where the partition has just been taken away, do nothing."""
        ...


class Assignment:
    """Follows a carrier's rebalances."""

    def __init__(self, inputs: tuple[str, ...], carrier: Carrier) -> None:
        self._inputs, self._carrier = inputs, carrier
        self._rebalances = 0
        self._uneven_since_s: float | None = None

    def find_partitions(self) -> set[int]:
        """Partitions of which every input is ours. Raises RuntimeError where a partition stays divided."""
        found = self._carrier.find_assigned()
        # An actor on half of its inputs would decide in an order that the other half contradicts.
        whole = {partition for partition, topics in found.items() if topics == set(self._inputs)}
        if whole == found.keys():
            self._uneven_since_s = None
        elif self._uneven_since_s is None:
            self._uneven_since_s = time.monotonic()
        elif time.monotonic() - self._uneven_since_s > UNEVEN_FOR_S:
            raise RuntimeError(f"partitions are assigned by halves: {dict(found)}; same release on all workers?")
        return whole

    def has_changed(self) -> bool:
        """Whether there was a rebalance since the last call."""
        before, self._rebalances = self._rebalances, self._carrier.rebalances
        return self._rebalances != before
