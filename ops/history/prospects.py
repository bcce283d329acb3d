"""Whether the devices of a fleet can still bring their task forward, and why not: asked every second while they train.

The task is as the log has it; of the devices only counts are asked for, so that a fleet, a device and a run ask alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.history.task_view import TaskView
from schemas.events import name_unit
from schemas.identifiers import TaskId

# Devices of another fleet may be on their way, and a round may wait for its slowest.
STALL_S = 15.0
# A fleet of one or two may have bad luck.
LOSSES_MIN = 3

UNSUCCESSFUL = ("diverged", "idle", "regressed", "too_few_devices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The devices of a fleet in numbers: those that still work, what they did, and why most leases gave no update.

    `lost`: leases that were given up, or ended in a zero vector. `unfit`: those of the living that have too few
    examples, and are never asked.
    """

    living: int
    unfit: int = 0
    trained: int
    lost: int
    reason: str = ""


class Prospects:
    """Remembers since when nothing has gone on."""

    def __init__(self, *, read_clock_s: Callable[[], float] = time.monotonic) -> None:
        self._read_clock_s = read_clock_s
        self._trained = self._lost_before = 0
        self._admitted = -1
        self._moved_s = read_clock_s()

    def judge(self, crew: Crew, view: TaskView) -> str:
        """Why there is nothing to wait for any more; empty while there is."""
        if crew.trained > self._trained:
            # One training proves that the task can be trained: only losses in a row say anything.
            self._trained, self._lost_before = crew.trained, crew.lost
        lost = crew.lost - self._lost_before
        if crew.living and lost >= max(crew.living, LOSSES_MIN):
            return f"{_describe_losses(crew, view, lost=lost)} Most often: {crew.reason or 'no reason is known'}"
        return self._judge_size(crew, view)

    def _judge_size(self, crew: Crew, view: TaskView) -> str:
        now_s = self._read_clock_s()
        if view.admitted != self._admitted or not view.noticed or view.paused:
            self._admitted, self._moved_s = view.admitted, now_s
        # Where all have failed it is not their number that is wrong.
        missing = describe_missing(view, living=crew.living, unfit=crew.unfit) if crew.living else ""
        return missing if missing and now_s - self._moved_s > STALL_S else ""


def _describe_losses(crew: Crew, view: TaskView, *, lost: int) -> str:
    """What the log and the counts show, and no more: some devices may train while others hold their round up."""
    if not crew.trained:
        return f"no device has trained {view.task}: {lost} leases in a row gave no update."
    needed = f", and its round has {view.buffer_fill} of {view.members_min} updates" if view.members_min else ""
    return (
        f"{view.task} does not go on: the last {lost} leases gave no update, after {crew.trained} trainings that "
        f"did{needed}. Devices that cannot train hold it up."
    )


def describe_missing(view: TaskView, *, living: int, unfit: int = 0) -> str:
    """How many devices a round of the task lacks, with `living` here and those that the log has seen; or nothing."""
    # Another fleet's devices count too, as soon as the log has seen them.
    seen = {*view.participations, *map(name_unit, view.leases.values())}
    most = max(living - unfit, len(seen))
    if view.members_min is None or view.is_over or most >= view.members_min:
        return ""
    needed = f"{view.task} takes {view.members_min} devices a round (aggregation.updates_per_round), and "
    if unfit:
        return (
            f"{needed}{unfit} of {living} here have too few examples (selection.samples_min): give them more, or "
            "create a task that asks for fewer"
        )
    return f"{needed}there are {most}: start more, or create a task with a smaller round"


def begin_sentence(text: str, task: TaskId) -> str:
    """The same with a capital letter, unless it begins with the name of the task, which has none."""
    return text if text.startswith(task) else f"{text[0].upper()}{text[1:]}"


def describe_failure(view: TaskView) -> str:
    """Why a task that is over is no success; nothing where it is one, or goes on."""
    if view.halted is None or view.halted.reason not in UNSUCCESSFUL:
        return ""
    return f"{view.task} halted: {view.halted.reason}, at version {view.halted.version}"
