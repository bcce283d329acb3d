"""How `fedlog device` and `fedlog fleet` tell what their devices do, and what may be wrong when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from ops.console import Progress, note

if TYPE_CHECKING:
    from client_agent.running.loop import Stats

SILENCE_S_MAX = 20.0


class TrainingProgress:
    """The progress line of devices, and one hint when they have asked for long and nobody has answered any of them."""

    def __init__(self, title: str, *, read_clock_s: Callable[[], float] = time.monotonic) -> None:
        self._progress = Progress(title)
        self._read_clock_s = read_clock_s
        self._asked_s: float | None = None
        self._is_answered = False

    def follow(self, stats: Stats) -> None:
        """Take the newest counts."""
        self._progress.update(asdict(stats))
        self._is_answered |= any((stats.declined, stats.training, stats.trained, stats.admitted, stats.refused))
        if self._is_answered or not stats.checked_in:
            return
        now_s = self._read_clock_s()
        self._asked_s = now_s if self._asked_s is None else self._asked_s
        if now_s - self._asked_s > SILENCE_S_MAX:
            note(
                f"Nothing has answered for {SILENCE_S_MAX:.0f} s. Does `fedlog worker selector` run, on the same "
                "servers and with the same --topic-prefix?"
            )
            # Said once: whoever reads it cannot do more by reading it again.
            self._is_answered = True

    def finish(self, *, as_json: bool) -> None:
        """Print the last counts."""
        self._progress.finish(as_json=as_json)
