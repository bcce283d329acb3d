"""A bucket for each key: a burst at once, a rate in the long run, and memory that does not grow."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from ops.web.access.limiting import KEYS_MAX, Limiter, RateExceeded


def test_a_burst_is_let_in_and_then_a_rate() -> None:
    """What is refused costs nothing; keys do not disturb each other."""
    now = [0.0]
    limiter = Limiter(2, burst=3, clock=lambda: now[0])
    for _ in range(3):
        limiter.take("ada")
    with pytest.raises(RateExceeded) as refused:
        limiter.take("ada")
    assert refused.value.headers == {"Retry-After": "1"}
    limiter.take("bob")
    now[0] = 0.5
    limiter.take("ada")
    with pytest.raises(RateExceeded):
        limiter.take("ada")


def test_the_memory_is_bounded() -> None:
    """However many strangers come, and whoever comes often is not forgotten for them."""
    limiter = Limiter(0.001, burst=2, clock=lambda: 0.0)
    limiter.take("ada")
    for number in range(KEYS_MAX + 5):
        if number % 100 == 99:
            # The second time her burst is over, and stays so.
            with pytest.raises(RateExceeded) if number > 99 else nullcontext():
                limiter.take("ada")
        limiter.take(str(number))
    assert len(limiter._buckets) == KEYS_MAX
