"""Simulated devices: what a fleet's options promise of them, over many seeds' draws."""

from __future__ import annotations

import numpy as np

from client_agent.running.profiles import SimulatedCrash, SimulatedProfile, SimulationOptions
from tests.worlds.builders import device_id


def test_a_profile_keeps_to_its_options() -> None:
    """Guarantee: presence, drop-out and speed are the fleet's options, drawn from the seed; devices differ."""
    options = SimulationOptions(training_ms=400, drop_probability=0.25, day_ms=10_000, presence=0.6)
    profiles = [SimulatedProfile(options, device=f"sim{index}", seed=7) for index in range(300)]
    here = [profile.find_return_ms(now) <= now for profile in profiles for now in range(0, 100_000, 3_331)]
    assert 0.55 < np.mean(here) < 0.65
    times = [profile.choose_training_ms("a" * 32, 7) for profile in profiles]
    assert 300 < np.median(times) < 520
    assert max(times) > 3 * min(times)
    deaths = 0
    for profile in profiles:
        try:
            for step in ("granted", "kept", "sent"):
                profile.note_step(step)
        except SimulatedCrash:
            deaths += 1
    assert 50 < deaths < 100
    conditions = [profile.read_conditions(12_345) for profile in profiles]
    assert {condition.charging for condition in conditions} == {True, False}
    assert all(5 <= condition.battery_percent <= 100 for condition in conditions)


def test_a_device_comes_back_when_its_day_begins() -> None:
    """Guarantee: an absent device is away exactly until the time that it names."""
    profile = SimulatedProfile(SimulationOptions(day_ms=10_000, presence=0.5), device=device_id("sim0"), seed=0)
    for now in range(0, 40_000, 97):
        until = profile.find_return_ms(now)
        if until > now:
            assert until - now <= 5_001
            assert profile.find_return_ms(until) <= until
