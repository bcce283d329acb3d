"""Attackers that are early, or strike together: asynchronous rounds fill with whatever comes first."""

from __future__ import annotations

from client_agent.running.profiles import SimulatedProfile, SimulationOptions


class FastProfile(SimulatedProfile):
    """A device that takes no time to train, and so is in more rounds than others."""

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """A millisecond."""
        super().choose_training_ms(lease, samples)
        return 1


class BurstProfile(SimulatedProfile):
    """A device that holds its updates back until all attackers send theirs, at the multiples of `period_ms`."""

    def __init__(self, options: SimulationOptions, *, device: str, seed: int, period_ms: int) -> None:
        super().__init__(options, device=device, seed=seed)
        self._period_ms = period_ms
        self._now_ms = 0

    def find_return_ms(self, now_ms: int) -> int:
        """As for others; it is asked before anything else, and so tells the time."""
        self._now_ms = now_ms
        return super().find_return_ms(now_ms)

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """Until the next strike."""
        super().choose_training_ms(lease, samples)
        return self._period_ms - self._now_ms % self._period_ms
