"""A key that runs out is told of well before, and then nobody goes on with it."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from actors.expiry import DAY_MS, WARNED_DAYS, Expiry, KeyExpired, require_unexpired
from schemas.errors import EXIT_CONFIGURATION
from tests.worlds.builders import role_key

UNTIL_MS = 1_800_000_000_000


def _looks(*times_ms: int) -> list[tuple[str, int]]:
    """What is told at these times."""
    clock = iter(times_ms)
    expiry = Expiry(role_key("selector", until_ms=UNTIL_MS), clock_ms=lambda: next(clock))
    with capture_logs() as lines:
        for _ in times_ms:
            expiry.look()
    return [(line["event"], line["left_days"]) for line in lines]


def test_a_key_that_lasts_is_told_of_once() -> None:
    """At the start, so that its date stands in every log; and not again in the months before."""
    begin_ms = UNTIL_MS - 300 * DAY_MS
    assert _looks(begin_ms, begin_ms + 1, begin_ms + 9 * DAY_MS) == [("key_expires", 300)]


def test_the_last_month_warns_every_day() -> None:
    """A worker that runs for long warns from thirty days on, once a day, however often it looks."""
    begin_ms = UNTIL_MS - (WARNED_DAYS + 1) * DAY_MS
    hours_ms = range(begin_ms, begin_ms + 4 * DAY_MS, DAY_MS // 24)
    told = _looks(*hours_ms)
    assert told[0] == ("key_expires", WARNED_DAYS + 1)
    assert told[1:] == [("key_expires_soon", left) for left in (29, 28, 27)]


def test_a_key_that_is_over_ends_its_program() -> None:
    """With a message that says how to renew, and a code at which nothing starts it again."""
    key = role_key("selector", until_ms=UNTIL_MS)
    require_unexpired(key, UNTIL_MS)
    with pytest.raises(KeyExpired, match=r"ran out on 2027-01-15 .*`fedlog key issue --for selector`") as caught:
        Expiry(key, clock_ms=lambda: UNTIL_MS + 1).look()
    assert caught.value.exit_code == EXIT_CONFIGURATION
    with pytest.raises(KeyExpired):
        require_unexpired(role_key("selector", until_ms=time.time_ns() // 1_000_000 - 1))
