"""How often somebody may ask: a bucket of tokens for each key, in memory, and a bound on how many keys."""

from __future__ import annotations

import time
from collections import OrderedDict
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

    def __init__(self, rate_per_s: float, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s, self._burst, self._clock = rate_per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """One request of this key. Raises RateExceeded."""
        now_s = self._clock()
        left, since_s = self._buckets.pop(key, (float(self._burst), now_s))
        left = min(self._burst, left + (now_s - since_s) * self._rate_per_s)
        # What is refused costs nothing, so that whoever waits is let in again.
        self._buckets[key] = (left - 1 if left >= 1 else left, now_s)
        # The one that was quiet for longest has a full bucket again anyhow, or soon.
        if len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateExceeded((1 - left) / self._rate_per_s)
