"""The devices of one process: a heap of wake times, one link, and the books on what the devices did.

`running/fleet.py` calls `step` in each of its processes, `running/foreground.py` for a single device, and the
deterministic simulation by virtual time. The loop itself knows no clock.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce

import structlog

from client_agent.counts import Counts, Reasons, join, join_reasons
from client_agent.device import Device
from client_agent.learning.trainer import Coming
from client_agent.link import Link, LinkUnavailable, StoredBody
from client_agent.running.profiles import SimulatedCrash
from client_agent.setting import DeviceSetting
from schemas.events import Answer

RETRY_MS = 1_000
# Beyond any clock, and still a number that can be compared.
NEVER_MS = 1 << 62
# A task may be created after its devices have started; one that nobody knows for this long has another name.
UNKNOWN_TASK_MS_MAX = 120_000
# And as often as this: a machine that slept between two answers has not been told for long.
UNKNOWN_TASK_ANSWERS_MIN = 4
# After this much training in one step, the updates made so far are sent before the next device trains.
WORK_MS_MAX = 1_000
# A process that says nothing for so long is in native code, or was ended and loads its devices' data again.
SILENT_S_MAX = 20.0

logger = structlog.get_logger(__name__)


def read_clock_ms() -> int:
    """The wall clock, for devices that do real work."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the devices of a loop, or of a whole fleet, are doing and have done.

    `loading`: those whose data are being loaded; `closed`: those whose task is over; `late`: updates after the deadline
    of their lease; `untrained`: zero vectors sent; `declined_for`: why most of those who wait were declined last;
    `unfit`: those that have too few examples.
    `reasons`: why leases were given up or ended in zero vectors, the most common first; `waiting_for`: a
    training that takes long, or a process that does not answer; `source_differs`: plugins whose source
    is not the operator's; `failed_for`: why devices failed; `error`: the first of them. `attack`: the one that some of
    them carry out, as a test.
    """

    devices: int = 0
    loading: int = 0
    training: int = 0
    away: int = 0
    closed: int = 0
    checked_in: int = 0
    declined: int = 0
    trained: int = 0
    admitted: int = 0
    refused: int = 0
    late: int = 0
    died: int = 0
    given_up: int = 0
    untrained: int = 0
    failed: int = 0
    reasons: Reasons = field(default_factory=dict)
    failed_for: Reasons = field(default_factory=dict)
    declined_for: str = ""
    unfit: int = 0
    waiting_for: str = ""
    source_differs: str = ""
    error: str = ""
    attack: str = ""

    def forget_present(self) -> Stats:
        """What was done, without what is so at the moment: of a process that has ended."""
        now = dict.fromkeys(("devices", "loading", "training", "away", "closed", "failed", "unfit"), 0)
        told = dict.fromkeys(("declined_for", "waiting_for", "error"), "")
        return replace(self, **now, **told, failed_for={})  # type: ignore[arg-type]

    def __add__(self, other: Stats) -> Stats:
        """Both together; of two texts the first."""
        return Stats(**{name: join(getattr(self, name), getattr(other, name)) for name in _STATS})


_STATS = tuple(f.name for f in fields(Stats))


@dataclass(slots=True)
class Book:
    """What one process of a fleet said last, and what those did that have been started again since."""

    last: Stats
    past: Stats = field(default_factory=Stats)
    process: int = 0
    heard_s: float = field(default_factory=time.monotonic)

    def note(self, answer: tuple[int, Stats] | None) -> None:
        """Take an answer; None where there was none."""
        if answer is None:
            return
        process, stats = answer
        if self.process not in (0, process):
            self.past += self.last.forget_present()
        self.process, self.last, self.heard_s = process, stats, time.monotonic()

    def total(self) -> Stats:
        """All of it."""
        if (silent_s := time.monotonic() - self.heard_s) < SILENT_S_MAX:
            return self.past + self.last
        silent = f"process {self.process} of the fleet, which has not answered for {silent_s:.0f} s"
        return Stats(waiting_for=silent) + self.past + self.last


class DeviceLoop:
    """Drives devices through their link, whenever its owner calls `step`.

    A device that crashes is created again from its folder after `down_ms`; one that fails for good stays away.
    `train_ahead` is told which trainings the devices are about to ask their trainers for.
    """

    def __init__(
        self,
        link: Link,
        settings: Sequence[DeviceSetting],
        *,
        now_ms: int,
        down_ms: int = 3_000,
        train_ahead: Callable[[Sequence[Coming]], object] | None = None,
    ) -> None:
        self._link = link
        self._down_ms = down_ms
        self._train_ahead = train_ahead
        self._settings = {setting.identity.device: setting for setting in settings}
        self._devices = {name: Device(link, setting) for name, setting in self._settings.items()}
        self._wake_ms = dict.fromkeys(self._settings, now_ms)
        self._heap = [(now_ms, name) for name in self._settings]
        heapq.heapify(self._heap)
        self._past_counts = Counts()
        self._crashes = 0
        self._errors: dict[str, str] = {}
        # Since when nobody knows the task of a device, and how often it was told so.
        self._unknown: dict[str, tuple[int, int]] = {}
        self._away: set[str] = set()

    def step(self, now_ms: int, timeout_s: float = 0.0) -> int:
        """Pass on the answers that arrive within `timeout_s`, wake all devices that are due, send; the next wake time.

        `timeout_s` is in seconds, the times are in ms.
        """
        for answer in self._read_answers(timeout_s):
            self._pass_answer(answer, now_ms)
        self._foresee(now_ms)
        self._wake_due(now_ms)
        # Bodies first: the addresses complete updates, which then leave with the other messages.
        for stored in self._link.collect_stored():
            self._pass_address(stored, now_ms)
        self._link.send()
        return self._heap[0][0] if self._heap else NEVER_MS

    def count(self) -> Stats:
        """What the devices are doing now, or were a moment ago when another thread asks."""
        # Copies, because a fleet asks from another thread than the one that steps.
        past, devices, errors = self._past_counts, list(self._devices.values()), list(self._errors.values())
        counts = [past, *(device.counts for device in devices)]
        return Stats(
            devices=len(self._settings),
            training=sum(device.is_training for device in devices),
            away=len(self._away) + len(self._settings) - len(devices) - len(errors),
            closed=sum(device.declined_for == "closed" for device in devices),
            checked_in=sum(count.checked_in for count in counts),
            declined=sum(count.declined for count in counts),
            trained=sum(count.trained for count in counts),
            admitted=sum(count.admitted for count in counts),
            refused=sum(count.refused for count in counts),
            late=sum(count.late for count in counts),
            given_up=sum(count.given_up for count in counts),
            untrained=sum(count.untrained for count in counts),
            died=self._crashes,
            failed=len(errors),
            reasons=reduce(join_reasons, (count.reasons for count in counts), {}),
            declined_for=_find_most_common(device.declined_for for device in devices),
            unfit=sum(device.declined_for == "too_few_samples" for device in devices),
            source_differs=next((", ".join(one.differing) for one in self._settings.values()), ""),
            failed_for=reduce(join_reasons, ({error.partition(": ")[2]: 1} for error in errors), {}),
            error=next(iter(errors), ""),
        )

    def _read_answers(self, timeout_s: float) -> list[Answer]:
        try:
            return self._link.read_answers(timeout_s)
        except LinkUnavailable:
            # Devices that are due still train; what they then hand over is repeated until it arrives.
            return []

    def _pass_answer(self, answer: Answer, now_ms: int) -> None:
        """A device that is away misses the answer, and asks again after its return."""
        name = answer.device
        if name in self._devices and self._settings[name].profile.find_return_ms(now_ms) <= now_ms:
            self._drive(name, now_ms, call=lambda device, at_ms: device.receive(answer, at_ms))
            self._give_up_unknown_task(name, now_ms)

    def _give_up_unknown_task(self, name: str, now_ms: int) -> None:
        """A device whose task nobody knows would ask for ever, because of one wrong letter."""
        device = self._devices.get(name)
        if device is None or device.declined_for != "unknown_task":
            self._unknown.pop(name, None)
            return
        since_ms, answers = self._unknown.get(name, (now_ms, 0))
        self._unknown[name] = since_ms, answers + 1
        if now_ms - since_ms >= UNKNOWN_TASK_MS_MAX and answers + 1 >= UNKNOWN_TASK_ANSWERS_MIN:
            seconds = UNKNOWN_TASK_MS_MAX // 1000
            self._fail(name, f"the server has known no task {device.setting.task!r} for {seconds} s")

    def _pass_address(self, stored: StoredBody, now_ms: int) -> None:
        """A device that has crashed since stores its body again after its restart."""
        if stored.device in self._devices:
            self._drive(stored.device, now_ms, call=lambda device, at_ms: device.take_address(stored, at_ms))

    def _foresee(self, now_ms: int) -> None:
        """Have the trainings made together that devices are about to do one after the other."""
        if self._train_ahead is None:
            return
        due = [name for at_ms, name in self._heap if at_ms <= now_ms and self._wake_ms[name] == at_ms]
        devices = [device for name in due if (device := self._devices.get(name)) is not None]
        if coming := [found for device in devices if (found := device.foresee_training(now_ms)) is not None]:
            self._train_ahead(coming)

    def _wake_due(self, now_ms: int) -> None:
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, name = heapq.heappop(self._heap)
            # An answer may have moved the wake time since; the older item of the heap is void then.
            if self._wake_ms[name] == at_ms:
                self._drive(name, now_ms, call=self._wake)
            if self._settings[name].clock_ms() > now_ms + WORK_MS_MAX:
                break

    def _wake(self, device: Device, now_ms: int) -> int:
        name = device.setting.identity.device
        is_away = device.setting.profile.find_return_ms(now_ms) > now_ms
        (self._away.add if is_away else self._away.discard)(name)
        return device.wake(now_ms)

    def _drive(self, name: str, now_ms: int, *, call: Callable[[Device, int], int]) -> None:
        """Let one device act, and schedule the time at which it wants to be woken next."""
        try:
            if name not in self._devices:
                self._devices[name] = Device(self._link, self._settings[name])
            self._schedule(name, call(self._devices[name], now_ms))
        except SimulatedCrash:
            self._discard(name)
            self._crashes += 1
            self._schedule(name, now_ms + self._down_ms)
        except LinkUnavailable:
            self._schedule(name, now_ms + RETRY_MS)
        # One device's model, data or disk must not stop the others.
        except Exception as error:  # noqa: BLE001
            label = self._settings[name].identity.label
            self._fail(name, reason := f"{type(error).__name__}: {error}")
            logger.error("device_failed", device=name, label=label, error=reason)

    def _fail(self, name: str, reason: str) -> None:
        """The device stays away for good."""
        self._discard(name)
        self._wake_ms[name] = NEVER_MS
        self._errors[name] = f"{self._settings[name].identity.label}: {reason}"

    def _discard(self, name: str) -> None:
        """Forget the device's memory, but not what it counted."""
        device = self._devices.pop(name, None)
        if device is not None:
            self._past_counts += device.counts

    def _schedule(self, name: str, at_ms: int) -> None:
        self._wake_ms[name] = at_ms
        heapq.heappush(self._heap, (at_ms, name))


def _find_most_common(reasons: Iterable[str]) -> str:
    return next((reason for reason, _ in Counter(filter(None, reasons)).most_common(1)), "")
