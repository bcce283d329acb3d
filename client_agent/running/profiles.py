"""Simulated devices: how fast each is, when it is reachable and where it crashes, all drawn from one seed.

`running/fleet.py` gives each of its devices a `SimulatedProfile`.
"""

from __future__ import annotations

import math
import random
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from client_agent.conditions import Conditions
from schemas.errors import EXIT_USAGE, FedlogError

# Where a device may crash: while training, with the update kept but not sent, or right after it was sent.
_CRASH_STEPS = ("granted", "kept", "sent")


class SimulatedCrash(Exception):
    """The device stops here, as a crash would stop it; it starts again from what is on its disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """How the devices of a fleet differ. Times in ms.

    Training takes `training_ms` for a typical device and one pass over a typical share, times a lognormal factor with
    `speed_sigma` for each device. A device is reachable for `presence` of each `day_ms`, at its own hours.
    """

    training_ms: float = 400.0
    speed_sigma: float = 0.6
    drop_probability: float = 0.03
    away_after_death_ms: int = 3_000
    day_ms: int = 60_000
    presence: float = 0.85
    charging_share: float = 0.6
    battery_percent_min: int = 30


# Devices that are always there, equally fast and never die: what is simulated is asked for, one habit at a time.
STEADY = SimulationOptions(
    training_ms=1.0,
    speed_sigma=0.0,
    drop_probability=0.0,
    presence=1.0,
    charging_share=1.0,
    battery_percent_min=100,
)
_BOUNDS = {
    "training_ms": (1, 1e9),
    "speed_sigma": (0, 5),
    "drop_probability": (0, 1),
    "away_after_death_ms": (0, 1e9),
    "day_ms": (1_000, 1e9),
    "presence": (0.01, 1),
    "charging_share": (0, 1),
    "battery_percent_min": (0, 100),
}


class HabitsError(FedlogError):
    """A file of habits cannot be used; the message names the field and says what fits."""

    exit_code = EXIT_USAGE
    code = "habits_invalid"


def read_habits(file: Path | None) -> SimulationOptions:
    """The habits in a file; STEADY where none is named. Raises HabitsError, which names the file."""
    if file is None:
        return STEADY
    try:
        # Some editors begin a file with a mark of its encoding.
        return parse_habits(file.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise HabitsError(f"{file} is not UTF-8: byte 0x{byte:02x} in line {line}; save the file as UTF-8") from error
    except OSError as error:
        raise HabitsError(f"{file} cannot be read: {error.strerror}") from error
    except HabitsError as error:
        raise HabitsError(f"{file}: {error}") from error


def parse_habits(text: str) -> SimulationOptions:
    """The habits in a TOML file; what it leaves out is as in STEADY. Raises HabitsError."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HabitsError(f"the habits are not TOML: {error}") from error
    for name, value in found.items():
        if name not in _BOUNDS:
            raise HabitsError(f"{name} is no habit: there are {', '.join(_BOUNDS)}")
        low, high = _BOUNDS[name]
        # A truth value is a number to Python, and never meant as one.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise HabitsError(f"{name} = {value!r}: must be a number from {low:g} to {high:g}")
    whole = {name: round(value) for name, value in found.items() if isinstance(getattr(STEADY, name), int)}
    return replace(STEADY, **{**found, **whole})


class SimulatedProfile:
    """The profile of device `device` under `options`; the same for the same seed and the same leases."""

    def __init__(self, options: SimulationOptions, *, device: str, seed: int) -> None:
        draw = random.Random(f"{seed}/{device}")
        self._options = options
        self._name = f"{seed}/{device}"
        self._slowness = math.exp(draw.gauss(0.0, options.speed_sigma))
        self._phase = draw.random()
        self._battery_percent = draw.randrange(options.battery_percent_min, 101)
        self._is_plugged_in = draw.random() < options.charging_share
        self._crash_step = ""

    def read_conditions(self, now_ms: int) -> Conditions:
        """The battery drains over the device's day unless it is plugged in."""
        _, hour = self._split_time(now_ms)
        battery = self._battery_percent if self._is_plugged_in else max(5, self._battery_percent - round(25 * hour))
        return Conditions(battery_percent=battery, charging=self._is_plugged_in)

    def find_return_ms(self, now_ms: int) -> int:
        """When the device's next day begins, once this day's presence is over."""
        day, hour = self._split_time(now_ms)
        if hour < self._options.presence:
            return now_ms
        # Later than now in any case: rounding down would let the device return while it is still away.
        return max(now_ms + 1, math.ceil((day + 1 - self._phase) * self._options.day_ms))

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """Lognormal by device, growing with the samples; also draws whether, and where, the device crashes."""
        # By lease, so that the draws do not depend on how many leases the device had before.
        draw = random.Random(f"{self._name}/{lease}")
        crashes = draw.random() < self._options.drop_probability
        self._crash_step = draw.choice(_CRASH_STEPS) if crashes else ""
        share = math.sqrt(max(1, samples) / 7)
        return max(1, round(self._options.training_ms * self._slowness * share * draw.uniform(0.8, 1.25)))

    def note_step(self, step: str) -> None:
        """Raises SimulatedCrash at the step that was drawn, once."""
        # Only once, because the restarted device passes the same step under the same lease.
        if step == self._crash_step:
            self._crash_step = ""
            raise SimulatedCrash(step)

    def _split_time(self, now_ms: int) -> tuple[int, float]:
        """The device's own day, and the part of it that is over, from 0 to 1."""
        days = now_ms / self._options.day_ms + self._phase
        return math.floor(days), days % 1.0
