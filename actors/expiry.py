"""Until when the operator certified a role: told at the start and on each day of the last month; then the role ends.

What a role says under a certificate that is over is junk to everybody, and the role itself would not notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from actors.keys import OperatorKeyError, RoleKey
from schemas.errors import EXIT_CONFIGURATION

DAY_MS = 86_400_000
WARNED_DAYS = 30

logger = structlog.get_logger()


class KeyExpired(OperatorKeyError):
    """The certificate of a role's key is over; the message says how to issue it again."""

    exit_code = EXIT_CONFIGURATION
    code = "key_expired"


def read_clock_ms() -> int:
    """By this machine, as keys are issued; a certificate is judged by the brokers' clock, which is not far from it."""
    return time.time_ns() // 1_000_000


def require_unexpired(key: RoleKey, now_ms: int | None = None) -> None:
    """Raise KeyExpired where nobody would believe this key any more."""
    if (read_clock_ms() if now_ms is None else now_ms) > key.until_ms:
        until = datetime.fromtimestamp(key.until_ms / 1000, UTC)
        raise KeyExpired(
            f"The key of the {key.role} ran out on {until:%Y-%m-%d %H:%M} UTC, and nobody believes it any more. Issue "
            f"it again with `fedlog key issue --for {key.role}`, put it in place of the old file, and start again."
        )


class Expiry:
    """Watches one key; call `look` now and then, as often as is convenient."""

    def __init__(self, key: RoleKey, *, clock_ms: Callable[[], int] = read_clock_ms) -> None:
        self._key, self._clock_ms = key, clock_ms
        self._told_ms: int | None = None

    def look(self) -> None:
        """Say when the key runs out, at first and then once a day in its last month. Raises KeyExpired."""
        now_ms = self._clock_ms()
        require_unexpired(self._key, now_ms)
        left_days = (self._key.until_ms - now_ms) // DAY_MS
        is_first = self._told_ms is None
        if left_days < WARNED_DAYS and (is_first or now_ms - (self._told_ms or 0) >= DAY_MS):
            advice = f"fedlog key issue --for {self._key.role}"
            logger.warning("key_expires_soon", role=self._key.role, left_days=left_days, advice=advice)
        elif is_first:
            logger.info("key_expires", role=self._key.role, left_days=left_days)
        else:
            return
        self._told_ms = now_ms
