"""Simulated lives: how fast a device is, when it is there, and when it dies; all drawn from one seed."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

from client_agent.device import Conditions

# Where a dying device stops: while training, with the update kept but not sent, or right after it was sent.
_DEATHS = ("granted", "kept", "sent")


class Died(Exception):
    """The device stops here, as a crash would; what is on its disk is what it starts from again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How the devices of a fleet differ. Times in ms.

    Training takes `training_ms` for a typical device and one pass over a typical share, times a lognormal factor with
    `speed_sigma` for each device. A device is there for `presence` of each `day_ms`, at its own hours.
    """

    training_ms: float = 400.0
    speed_sigma: float = 0.6
    drop_probability: float = 0.03
    away_after_death_ms: int = 3_000
    day_ms: int = 60_000
    presence: float = 0.85
    charging_share: float = 0.6


class Life:
    """The life of device `device` under `habits`; the same for the same seed and the same leases."""

    def __init__(self, habits: Habits, *, device: str, seed: int) -> None:
        draw = random.Random(f"{seed}/{device}")
        self._habits = habits
        self._name = f"{seed}/{device}"
        self._speed = math.exp(draw.gauss(0.0, habits.speed_sigma))
        self._phase = draw.random()
        self._battery = draw.randrange(30, 101)
        self._is_plugged_in = draw.random() < habits.charging_share
        self._death = ""

    def conditions(self, now_ms: int) -> Conditions:
        """Battery sinks over the device's day unless it is plugged in."""
        _, hour = self._clock(now_ms)
        battery = self._battery if self._is_plugged_in else max(5, self._battery - round(25 * hour))
        return Conditions(battery_percent=battery, charging=self._is_plugged_in)

    def away_until_ms(self, now_ms: int) -> int:
        """When the device's next day begins, once this day's presence is over."""
        day, hour = self._clock(now_ms)
        if hour < self._habits.presence:
            return now_ms
        return max(now_ms + 1, math.ceil((day + 1 - self._phase) * self._habits.day_ms))

    def training_ms(self, lease: str, samples: int) -> int:
        """Log-normal by device, with the samples; draws too whether, and where, the device dies under this lease."""
        draw = random.Random(f"{self._name}/{lease}")
        dies = draw.random() < self._habits.drop_probability
        self._death = draw.choice(_DEATHS) if dies else ""
        share = math.sqrt(max(1, samples) / 7)
        return max(1, round(self._habits.training_ms * self._speed * share * draw.uniform(0.8, 1.25)))

    def passed(self, step: str) -> None:
        """Raises Died at the step that was drawn, once."""
        if step == self._death:
            self._death = ""
            raise Died(step)

    def _clock(self, now_ms: int) -> tuple[int, float]:
        """The device's own day, and how much of it is over, from 0 to 1."""
        days = now_ms / self._habits.day_ms + self._phase
        return math.floor(days), days % 1.0


def seed_of(name: str) -> int:
    """A number for a name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
