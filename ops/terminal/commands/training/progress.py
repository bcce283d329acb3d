"""How `fedlog device` and `fedlog fleet` tell what their devices do, and what may be wrong when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ops.console import Progress, note, number, say, say_json
from ops.history.prospects import Crew, Prospects, begin_sentence, describe_failure, describe_missing
from ops.history.task_view import TaskView
from ops.processes.panel import describe_progress
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
        self._prospects = Prospects(read_clock_s=read_clock_s)
        self._missing = ""
        self._verdict = ""
        self.stats: Stats | None = None

    def judge(self, stats: Stats, view: TaskView) -> bool:
        """Whether there is nothing to wait for any more; `end` says why. What is missing is said at once."""
        living = stats.devices - stats.failed
        missing = describe_missing(view, living=living, unfit=stats.unfit)
        # Where all have failed it is not their number that is wrong, and the end says what is.
        if missing and living and not self._missing and not stats.loading:
            self._missing = missing
            note(missing)
        reason = next(iter(stats.reasons), "")
        lost = stats.given_up + stats.untrained
        crew = Crew(living=living, unfit=stats.unfit, trained=stats.trained, lost=lost, reason=reason)
        self._verdict = self._prospects.judge(crew, view) or describe_failure(view)
        return bool(self._verdict) and not view.is_over

    def follow(self, stats: Stats, view: TaskView | None = None) -> None:
        """Take the newest counts, and how far the task is."""
        self.stats = stats
        self._progress.update({**_describe_task(view), **_list_counts(stats)})
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
        else:
            self._progress.finish(as_json=False)
        # For people in any case: where a program reads the counts, this is in its log.
        for reason, count in [*self.stats.failed_for.items(), *self.stats.reasons.items()]:
            (note if as_json else say)(f"{count:>6} × {reason}")

    def end(self, task: str, *, as_json: bool) -> None:
        """Print the last counts, and say how the devices have ended. Raises ConsoleError where that is no success."""
        self.finish(as_json=as_json)
        if self.stats is not None:
            tell_end(task, self.stats, verdict=self._verdict)


def tell_end(task: str, stats: Stats, *, verdict: str = "") -> None:
    """Say how devices have ended. Raises ConsoleError when some failed or nothing was trained: that is no success."""
    # Whoever was told by the server knows; a device that has failed knows nothing about its task.
    if stats.closed:
        note(f"{task} is over.")
    if verdict:
        raise ConsoleError(f"{begin_sentence(verdict, task)}.")
    if stats.failed:
        raise ConsoleError(f"{stats.failed} of {stats.devices} devices failed. The first: {stats.error}")
    if stats.reasons and not stats.trained:
        told = f"{stats.given_up} leases were given up, {stats.untrained} ended in zero vectors"
        raise ConsoleError(f"Nothing was trained: {told}. Most often: {next(iter(stats.reasons))}")


def _describe_task(view: TaskView | None) -> dict[str, Any]:
    """How far a task is: its version, percent and time left, and the score that stands for it."""
    if view is None or view.version is None or view.created is None:
        return {}
    goal = view.created.policy.stop.versions_max
    shown = {"version": f"{view.version} of {goal} ({describe_progress(view)})"}
    return shown if view.metric is None else {**shown, view.metric_name or "score": number(view.metric)}


def _list_counts(stats: Stats) -> dict[str, Any]:
    """The counts for a line: of the reasons only the most common."""
    counts = asdict(stats)
    del counts["reasons"], counts["failed_for"]
    if most := next(iter(stats.reasons.items()), None):
        counts["because"] = f"({most[1]} ×) {most[0]}"
    return counts
