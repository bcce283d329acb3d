"""What a device knows of its own surroundings: battery and network, when it is reachable, how long training takes.

`Device` asks its profile before each step. A real device has a `FixedProfile`; simulated devices have the ones of
`running/profiles.py`, which also decide where a device crashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The part of a check-in that says what state the device is in."""

    battery_percent: int = 100
    charging: bool = True
    unmetered: bool = True
    idle: bool = True


class DeviceProfile(Protocol):
    """How one device behaves: its owner's use of it, or a simulation's random draws."""

    # All times are given and returned, so that a profile can be simulated in virtual time.

    def read_conditions(self, now_ms: int) -> Conditions:
        """Battery and network at `now_ms`."""
        ...

    def find_return_ms(self, now_ms: int) -> int:
        """The time at which the device is reachable again; `now_ms` or less while it is."""
        ...

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """How long training under this lease has to take at least; 0 for no minimum."""
        ...

    def note_step(self, step: str) -> None:
        """A step of a lease is done. An exception from here stops the device there, as a crash would."""
        ...


class FixedProfile:
    """A real device: always reachable, under the same conditions, training as fast as it can."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self._conditions = conditions or Conditions()

    def read_conditions(self, now_ms: int) -> Conditions:
        """The conditions that it was made with."""
        return self._conditions

    def find_return_ms(self, now_ms: int) -> int:
        """Now: it never leaves."""
        return now_ms

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """No minimum."""
        return 0

    def note_step(self, step: str) -> None:
        """Nothing happens between two steps."""
        return
