"""Simulated devices: what a fleet's options promise of them, over many seeds' draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_agent.running.profiles import (
    STEADY,
    HabitsError,
    SimulatedCrash,
    SimulatedProfile,
    SimulationOptions,
    parse_habits,
    read_habits,
)
from ops.processes import demo as demo_module
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


def test_nothing_is_simulated_unless_asked_for() -> None:
    """Guarantee: without habits devices are always there, equally fast, and never die; a file adds what it names."""
    steady = [SimulatedProfile(parse_habits(""), device=f"d{index}", seed=0) for index in range(50)]
    assert all(profile.find_return_ms(now_ms) == now_ms for profile in steady for now_ms in range(0, 60_000, 977))
    times = {profile.choose_training_ms(f"lease{index}", 7) for profile in steady for index in range(50)}
    assert max(times) <= 2
    for profile in steady:
        profile.choose_training_ms("lease", 7)
        for step in ("granted", "kept", "sent"):
            profile.note_step(step)
    assert parse_habits("presence = 0.5") == replace(STEADY, presence=0.5)
    for wrong in ("presence = 0", "presence = true", 'presence = "1"', "presense = 1", "presence ="):
        with pytest.raises(HabitsError):
            parse_habits(wrong)
    demo = Path(demo_module.__file__).with_name("habits.toml")
    assert read_habits(demo) == SimulationOptions()
    assert read_habits(None) == STEADY


def test_a_file_of_habits_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Guarantee: another encoding, no file, a folder or a wrong field: the message names the file and what is wrong."""
    file = tmp_path / "habits.toml"
    with pytest.raises(HabitsError, match=r"habits.toml cannot be read: No such file"):
        read_habits(file)
    with pytest.raises(HabitsError, match="cannot be read: Is a directory"):
        read_habits(tmp_path)
    file.write_bytes("presence = 0.5\n# Gerät".encode("latin-1"))
    with pytest.raises(HabitsError, match=r"habits.toml is not UTF-8: byte 0xe4 in line 2; save"):
        read_habits(file)
    file.write_text("presence = 2")
    with pytest.raises(HabitsError, match=r"habits.toml: presence = 2: must be a number from 0.01 to 1"):
        read_habits(file)
    file.write_text("presence = 0.5", encoding="utf-8-sig")
    assert read_habits(file) == replace(STEADY, presence=0.5)
