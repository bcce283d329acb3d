"""How `fedlog device` and `fedlog fleet` tell what their devices do, and what may be wrong when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ops.console import Progress, note, say, say_json
from ops.terminal.errors import ConsoleError

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
        self.stats: Stats | None = None

    def follow(self, stats: Stats) -> None:
        """Take the newest counts."""
        self.stats = stats
        self._progress.update(_list_counts(stats))
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
        """Print the last counts, and how often each reason ended a lease without a trained update."""
        if self.stats is None:
            return
        if as_json:
            say_json(asdict(self.stats))
            return
        self._progress.finish(as_json=False)
        for reason, count in [*self.stats.failed_for.items(), *self.stats.reasons.items()]:
            say(f"{count:>6} × {reason}")

    def end(self, task: str, *, as_json: bool) -> None:
        """Print the last counts, and say how the devices have ended. Raises ConsoleError where that is no success."""
        self.finish(as_json=as_json)
        if self.stats is not None:
            tell_end(task, self.stats)


def tell_end(task: str, stats: Stats) -> None:
    """Say how devices have ended. Raises ConsoleError when some failed or nothing was trained: that is no success."""
    # Whoever was told by the server knows; a device that has failed knows nothing about its task.
    if stats.closed:
        note(f"{task} is over.")
    if stats.failed:
        raise ConsoleError(f"{stats.failed} of {stats.devices} devices failed. The first: {stats.error}")
    if stats.reasons and not stats.trained:
        told = f"{stats.given_up} leases were given up, {stats.untrained} ended in zero vectors"
        raise ConsoleError(f"Nothing was trained: {told}. Most often: {next(iter(stats.reasons))}")


def _list_counts(stats: Stats) -> dict[str, Any]:
    """The counts for a line: of the reasons only the most common."""
    counts = asdict(stats)
    del counts["reasons"], counts["failed_for"]
    if most := next(iter(stats.reasons.items()), None):
        counts["because"] = f"({most[1]} ×) {most[0]}"
    return counts
