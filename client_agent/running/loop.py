"""The devices of one process: a loop over a heap of wake times, with one link to the log."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import structlog

from client_agent.device import Counts, Device, Setting
from client_agent.links.kafka import Link
from client_agent.running.profiles import Died
from schemas.events import Answer
from streams.log import LogUnavailable

RETRY_MS = 1_000
NEVER_MS = 1 << 62
WORK_MS_MAX = 1_000  # of one step: what has been made by then is sent before the next device trains

_log = structlog.get_logger(__name__)


def wall_ms() -> int:
    """The wall clock, which a crowd at real work lives by."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a crowd, or a whole fleet, is doing and has done. `closed`: devices that were told that the task is over."""

    devices: int = 0
    training: int = 0
    away: int = 0
    closed: int = 0
    checked_in: int = 0
    declined: int = 0
    trained: int = 0
    admitted: int = 0
    refused: int = 0
    died: int = 0
    failed: int = 0
    error: str = ""

    def __add__(self, other: Stats) -> Stats:
        """Both together; of two errors the first."""
        numbers = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "error"}
        return Stats(**numbers, error=self.error or other.error)


class Crowd:
    """Drives devices by calls; knows no clock but theirs, so a fleet and a deterministic simulation use it alike.

    A device that dies is made anew from its folder after `down_ms`; one that fails for good stays away.
    """

    def __init__(self, link: Link, settings: Sequence[Setting], *, now_ms: int, down_ms: int = 3_000) -> None:
        self._link = link
        self._down_ms = down_ms
        self._settings = {setting.identity.device: setting for setting in settings}
        self._devices = {name: Device(link, setting) for name, setting in self._settings.items()}
        self._due = dict.fromkeys(self._settings, now_ms)
        self._heap = [(now_ms, name) for name in self._settings]
        heapq.heapify(self._heap)
        self._past = Counts()
        self._died = 0
        self._failed: dict[str, str] = {}
        self._away: set[str] = set()

    def step(self, now_ms: int, timeout_s: float = 0.0) -> int:
        """Take in the answers that came within `timeout_s`, wake whoever is due, send; the next wake time in ms."""
        try:
            answers = self._link.answers(timeout_s)
        except LogUnavailable:
            answers = []
        for answer in answers:
            self._answered(answer, now_ms)
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, name = heapq.heappop(self._heap)
            if self._due[name] == at_ms:
                self._drive(name, now_ms, call=self._wake)
            if self._link.is_laden:
                self._store(now_ms)
            if self._settings[name].clock_ms() > now_ms + WORK_MS_MAX:
                break
        self._store(now_ms)
        self._link.flush()
        return self._heap[0][0] if self._heap else NEVER_MS

    def stats(self) -> Stats:
        """Now, or about now when another thread asks; for any thread."""
        past, devices, errors = self._past, list(self._devices.values()), list(self._failed.values())
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
            died=self._died,
            failed=len(errors),
            error=next(iter(errors), ""),
        )

    def _answered(self, answer: Answer, now_ms: int) -> None:
        """A device that is down hears nothing, and asks again when it is back."""
        name = answer.device
        if name in self._devices and self._settings[name].life.away_until_ms(now_ms) <= now_ms:
            self._drive(name, now_ms, call=lambda device, at_ms: device.answered(answer, at_ms))

    def _store(self, now_ms: int) -> None:
        """Store the bodies that devices have, all together, and let each submit its own."""
        for name, update, body in self._link.stored():
            if name in self._devices:
                self._drive(name, now_ms, call=partial(Device.stored, update=update, body=body))

    def _wake(self, device: Device, now_ms: int) -> int:
        name = device.setting.identity.device
        is_away = device.setting.life.away_until_ms(now_ms) > now_ms
        (self._away.add if is_away else self._away.discard)(name)
        return device.wake(now_ms)

    def _drive(self, name: str, now_ms: int, *, call: Callable[[Device, int], int]) -> None:
        """Let one device do something, and note when it wants to be woken next."""
        try:
            if name not in self._devices:
                self._devices[name] = Device(self._link, self._settings[name])
            self._schedule(name, call(self._devices[name], now_ms))
        except Died:
            self._forget(name)
            self._died += 1
            self._schedule(name, now_ms + self._down_ms)
        except LogUnavailable:
            self._schedule(name, now_ms + RETRY_MS)
        except Exception as error:  # noqa: BLE001 - one device's model or data must not stop the others
            self._forget(name)
            self._due[name] = NEVER_MS
            self._failed[name] = f"{name}: {error}"
            _log.error("device_failed", device=name, error=f"{type(error).__name__}: {error}")

    def _forget(self, name: str) -> None:
        """The device's memory is gone; what it counted stays."""
        device = self._devices.pop(name, None)
        if device is not None:
            self._past += device.counts

    def _schedule(self, name: str, at_ms: int) -> None:
        self._due[name] = at_ms
        heapq.heappush(self._heap, (at_ms, name))
