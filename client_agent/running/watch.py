"""What ends a training that does not end by itself, and tells the next process under which lease it was.

Once a lease has ended, its training gets an exception, which reaches any loop in Python. What does not listen sleeps or
is in native code, and only the end of its process ends it: by a thread here, or, where native code holds the
interpreter, by faulthandler's, which needs none. A file names the lease and where the training was, so that nobody
tries it again.
Threads and wall clock belong to real devices and fleets: a simulation by virtual time trains without a watch.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from client_agent.learning.foreign import LearnerError, is_user_file
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.trainer import Trained, Trainer
from client_agent.running.loop import Stats
from schemas.errors import EXIT_NO

# A training may be a little longer than its lease: the log's time, which judges it, is not the device's.
GRACE_S = 5.0
REPEAT_S = 2.0  # from one exception to the next, for code that catches all of them
STUCK_S = 10.0  # from the first exception to the end of the process
LAST_S = 5.0  # how much later faulthandler ends it, where nothing else can run
QUIET_S = 10.0  # after so long without a step people are told
TRIES_MAX = 2  # of a lease under which the process ended
_POLL_S = 0.5
_ADVICE = "Train fewer steps, or create a task with a longer lease_s"

logger = structlog.get_logger(__name__)


class Overtime(BaseException):
    """The lease has ended, and its training had not."""

    # No Exception: a user's loop that catches those would go on.
    def __str__(self) -> str:
        return f"the lease had ended before it did. {_ADVICE}"


@dataclass(frozen=True, slots=True)
class _Run:
    """One training at work; times by the monotonic clock."""

    label: str
    lease: str
    thread: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Before:
    """The lease under which the process before ended, how often it had been tried, and why it is lost, if it is."""

    lease: str = ""
    tries: int = 0
    lost_for: str = ""


class Watch:
    """Watches the trainings of one process, one at a time; `file` is what the next process reads."""

    def __init__(self, file: Path, *, end_process: Callable[[int], object] = os._exit) -> None:
        # Appended to, so that faulthandler writes behind the name of the lease.
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._end_process = end_process
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._closed = threading.Event()
        self._before = _read(self._file)
        self._recovered = Stats()
        if reason := self._before.lost_for:
            self._recovered = Stats(given_up=1, reasons={reason: 1})
            logger.warning("lease_given_up", lease=self._before.lease, reason=reason)
        threading.Thread(target=self._watch, daemon=True, name="fedlog-watch").start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def count(self) -> Stats:
        """What was found of the process before, and which training is taking long."""
        run = self._run
        if run is None or (long_s := time.monotonic() - run.begin_s) < QUIET_S:
            return self._recovered
        return self._recovered + Stats(waiting_for=f"{run.label}, training under {run.lease} for {long_s:.0f} s")

    def watch(self, function: Callable[[], Trained], label: str, *, lease: str, left_s: float) -> Trained:
        """The result of `function`. Raises LearnerError once the lease, of which `left_s` are left, is over."""
        # Raised as if by the training, so that with privacy a zero vector is sent under this lease as well.
        if self._before.lost_for and lease == self._before.lease:
            raise LearnerError(self._before.lost_for)
        limit_s = max(0.0, left_s) + GRACE_S
        now_s = time.monotonic()
        run = _Run(label, lease, threading.get_ident(), now_s, now_s + limit_s)
        with self._record(run, limit_s):
            try:
                try:
                    self._run = run
                    return function()
                finally:
                    self._finish()
            # Where it comes outside of the user's code; the next one is seconds away.
            except Overtime as error:
                self._finish()
                raise LearnerError(f"training: {error}") from error

    @contextlib.contextmanager
    def _record(self, run: _Run, limit_s: float) -> Iterator[None]:
        """While the block runs, the file says so, and a process that hangs in it is ended whatever holds it."""
        tries = self._before.tries + 1 if run.lease == self._before.lease else 1
        os.ftruncate(self._file, 0)
        told = {"label": run.label, "lease": run.lease, "tries": tries, "thread": run.thread}
        os.write(self._file, json.dumps(told).encode() + b"\n")
        faulthandler.dump_traceback_later(limit_s + STUCK_S + LAST_S, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            os.ftruncate(self._file, 0)

    def _finish(self) -> None:
        """No exception comes after this: one that is on its way is taken back."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                _inject(run.thread, None)

    def _watch(self) -> None:
        told_s = injected_s = 0.0
        while not self._closed.wait(_POLL_S):
            now_s = time.monotonic()
            with self._lock:
                run = self._run
                if run is not None and now_s > run.end_s + STUCK_S:
                    self._end(run)
                elif run is not None and now_s > run.end_s and now_s > injected_s + REPEAT_S:
                    _inject(run.thread, Overtime)
                    injected_s = now_s
            if run is not None and now_s > max(run.begin_s, told_s) + QUIET_S:
                logger.warning("no_step", training=run.label, lease=run.lease, seconds=round(now_s - run.begin_s))
                told_s = now_s

    def _end(self, run: _Run) -> None:
        faulthandler.dump_traceback(self._file)
        reason = _read(self._file).lost_for
        logger.error("training_stuck", training=run.label, lease=run.lease, reason=reason, advice="start it again")
        self._end_process(EXIT_NO)


@dataclass(frozen=True, slots=True)
class WatchedTrainer:
    """A trainer whose trainings end with their lease; `label` names the device."""

    trainer: Trainer
    watch: Watch
    label: str

    @property
    def sample_count(self) -> int:
        """How many examples it has."""
        return self.trainer.sample_count

    def train(self, model: Model, context: Context) -> Trained:
        """The same. Raises LearnerError once the lease is over."""
        return self.watch.watch(
            lambda: self.trainer.train(model, context), self.label, lease=context.lease, left_s=context.left_s
        )


def _inject(thread: int, error: Any) -> None:
    """Raise `error` in a thread as soon as it is in Python code; None takes back what it has not met yet."""
    kind = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), kind)


def _read(file: int) -> _Before:
    """What a process has left in its file."""
    head, _, dump = os.pread(file, 1 << 16, 0).decode(errors="replace").partition("\n")
    try:
        found = json.loads(head)
        lease, tries, thread = str(found["lease"]), int(found["tries"]), int(found["thread"])
    except (ValueError, KeyError, TypeError):
        return _Before()
    if dump.strip():
        place = _find_place(dump, thread)
        reason = f"training did not end with its lease, and its process was ended{place}. {_ADVICE}"
        return _Before(lease, tries, reason)
    # Killed once it is tried again, as after any crash; what ends its process each time would end it for ever.
    if tries >= TRIES_MAX:
        reason = f"its process ended {tries} times while training: look for os._exit, a crash, or want of memory"
        return _Before(lease, tries, reason)
    return _Before(lease, tries)


def _find_place(dump: str, thread: int) -> str:
    """The user's line in a traceback of faulthandler, which has the newest frame first."""
    section = re.search(rf"0x0*{thread:x}\b.*?:\n(.*?)(\n\n|\Z)", dump, re.DOTALL)
    frames = re.findall(r'File "(.+?)", line (\d+)', section[1]) if section else []
    users = [frame for frame in frames if is_user_file(frame[0])]
    return " ({}:{})".format(*(users or frames)[0]) if frames else ""
