"""Buckets that several gateways share, in Redis. The only user of `limits`, and through it of a client for Redis.

Its windows slide in Redis and cost one script a request. Its store in memory is not used: it looks through all keys at
every request, 13 ms where there are 100,000.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.errors import EXIT_USAGE, FedlogError

if TYPE_CHECKING:
    from limits.aio.strategies import SlidingWindowCounterRateLimiter

# Longer, and a request waits for Redis more than for Kafka.
ANSWER_S = 0.25
RETRY_S = 5.0
PREFIX = "fedlog"


class SharedAway(Exception):
    """Redis does not answer."""


class RedisUnfit(FedlogError):
    """Limits cannot be shared by this address."""

    exit_code = EXIT_USAGE
    code = "redis_unfit"


@dataclass(slots=True)
class SharedBuckets:
    """A Redis. While it does not answer it is asked again now and then, by one request at a time."""

    limiter: SlidingWindowCounterRateLimiter
    clock_s: Callable[[], float] = time.monotonic
    _again_s: float = field(default=0.0, init=False)

    async def take(self, kind: str, name: str, *, amount: int, seconds: int) -> bool:
        """Whether there was one. Raises SharedAway."""
        from limits import RateLimitItemPerSecond
        from limits.errors import StorageError

        if self.clock_s() < self._again_s:
            raise SharedAway("it did not answer a moment ago")
        # The one that asks again does so alone: the requests of the meantime must not wait for it too.
        if self._again_s:
            self._again_s = self.clock_s() + RETRY_S
        try:
            async with asyncio.timeout(ANSWER_S):
                is_free = await self.limiter.hit(RateLimitItemPerSecond(amount, seconds), kind, name)
        except (StorageError, TimeoutError, OSError) as error:
            self._again_s = self.clock_s() + RETRY_S
            raise SharedAway(f"{type(error).__name__}: {error}") from error
        self._again_s = 0.0
        return is_free


def open_shared(url: str) -> SharedBuckets:
    """The buckets at `redis://…` or `rediss://…`. Raises RedisUnfit."""
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter
    from limits.errors import ConfigurationError

    if not url.startswith(("redis://", "rediss://")):
        raise RedisUnfit(f"{url}: the address of a Redis begins with redis:// or rediss://.")
    try:
        storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=PREFIX,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
        )
    except ConfigurationError as error:
        raise RedisUnfit("Sharing limits needs a client for Redis: pip install 'fedlog[redis]'.") from error
    except ValueError as error:
        raise RedisUnfit(f"{url}: {error}.") from error
    return SharedBuckets(SlidingWindowCounterRateLimiter(storage))
