"""Attackers in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client_agent.hostile.timing import BurstProfile, FastProfile
from client_agent.running.profiles import STEADY


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**6))
def test_bursts_come_together(one_ms: int, other_ms: int, period_ms: int) -> None:
    """Guarantee: whenever two attackers took their leases, they are ready at multiples of the period, within one."""
    for number, now_ms in enumerate((one_ms, other_ms)):
        profile = BurstProfile(STEADY, device=str(number), seed=1, period_ms=period_ms)
        assert profile.find_return_ms(now_ms) == now_ms
        training_ms = profile.choose_training_ms(f"lease{number}", 1_000)
        assert (now_ms + training_ms) % period_ms == 0
        assert 0 < training_ms <= period_ms


def test_the_fast_take_no_time() -> None:
    """Guarantee: however many examples it claims, a fast attacker is there at once."""
    assert FastProfile(STEADY, device="1", seed=1).choose_training_ms("lease", 10_000) == 1
