"""How often somebody may ask, and how much at once, by key and in memory.

A bucket of tokens for each key, with a bound on how many keys; and places, of which each key may hold some.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from schemas.errors import FedlogError

KEYS_MAX = 10_000


class RateExceeded(FedlogError):
    """Too many requests; ask again later."""

    code = "rate_exceeded"

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"Too many requests; ask again in {max(1, round(wait_s))} s.")
        self.headers = {"Retry-After": str(max(1, round(wait_s)))}


class Limiter:
    """Each key may ask `rate_per_s` times a second in the long run, and `burst` times at once."""

    def __init__(
        self,
        rate_per_s: float,
        *,
        burst: int,
        keys_max: int = KEYS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_per_s, self._burst, self._keys_max, self._clock = rate_per_s, burst, keys_max, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """One request of this key. Raises RateExceeded."""
        left = self._find_left(key)
        # What is refused costs nothing, so that whoever waits is let in again.
        self._buckets.pop(key, None)
        self._buckets[key] = (left - 1 if left >= 1 else left, self._clock())
        # The one that was quiet for longest has a full bucket again anyhow, or soon.
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        self._require(left)

    def check(self, key: str) -> None:
        """Whether this key could ask; nothing is taken. Raises RateExceeded."""
        self._require(self._find_left(key))

    def _find_left(self, key: str) -> float:
        now_s = self._clock()
        left, since_s = self._buckets.get(key, (float(self._burst), now_s))
        return min(self._burst, left + (now_s - since_s) * self._rate_per_s)

    def _require(self, left: float) -> None:
        if left < 1:
            raise RateExceeded((1 - left) / self._rate_per_s)


class Places:
    """What is held at the same time: `each_max` by one key, and `all_max` by all of them; for any thread."""

    def __init__(self, *, each_max: int, all_max: int, wait_s: float = 30.0) -> None:
        """`wait_s`: after which whoever was refused is told to ask again."""
        self._each_max, self._all_max, self._wait_s = each_max, all_max, wait_s
        self._held = Counter[str]()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many are held by all of them."""
        return self._held.total()

    def check(self, key: str) -> None:
        """Whether this key could hold one more; none is taken. Raises RateExceeded."""
        if self._held[key] >= self._each_max or self._held.total() >= self._all_max:
            raise RateExceeded(self._wait_s)

    def take(self, key: str) -> None:
        """Hold one more. Raises RateExceeded."""
        with self._lock:
            self.check(key)
            self._held[key] += 1

    def leave(self, key: str) -> None:
        """Hold one less."""
        with self._lock:
            self._held[key] -= 1
            # Whoever holds nothing takes no memory.
            self._held += Counter()
