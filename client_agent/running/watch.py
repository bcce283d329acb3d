"""What ends a user's code that does not end by itself, and tells the next process where it was at work.

Once its time is over, the code gets an exception, which reaches any loop in Python. What does not listen sleeps or
is in native code, and only the end of its process ends it: by a thread here, or, where native code holds the
interpreter, by faulthandler's, which needs none. A file names the place, such as the lease of a training, and the line,
so that nobody tries it again.
Threads and wall clock belong to real devices, fleets and the evaluator: a simulation by virtual time has no watch.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from client_agent.learning.foreign import LearnerError, is_user_file, name_place
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.trainer import Trained, Trainer
from client_agent.running.loop import Stats
from schemas.errors import EXIT_NO, FedlogError

T = TypeVar("T")

# A training may be a little longer than its lease: the log's time, which judges it, is not the device's.
GRACE_S = 5.0
REPEAT_S = 2.0  # from one exception to the next, for code that catches all of them
STUCK_S = 10.0  # from the first exception to the end of the process
LAST_S = 5.0  # how much later faulthandler ends it, where nothing else can run
QUIET_S = 10.0  # after so long without a step people are told
TRIES_MAX = 2  # of a place at which the process ended
LOST_MAX = 1000  # places that a file remembers
LOAD_S = 600.0  # for the data of one device
LOAD_ADVICE = "Have it read less, give it a timeout where it waits for something, or allow more with --load-s"
_POLL_S = 0.5

logger = structlog.get_logger(__name__)


class Overtime(BaseException):
    """The time was over, and the code was still at work; a subclass for each deadline has what to say."""

    # No Exception: a user's loop that catches those would go on.
    told = ""

    def __str__(self) -> str:
        return self.told


class TookTooLong(LearnerError):
    """A user's code was stopped at its deadline, or has ended its process there before."""

    code = "took_too_long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """How long one call of a user's code may take.

    `doing` is what it does, for whom is `label`, and `place` is what is given up where it ends its process. `within`
    says the time in words, and `advice` what a person can do who needs more.
    """

    doing: str
    label: str
    place: str
    limit_s: float
    within: str
    advice: str


@dataclass(frozen=True, slots=True)
class _Run:
    """One call at work; times by the monotonic clock."""

    deadline: Deadline
    thread: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Before:
    """Where the process before ended, how often that was tried, why it is lost, if it is, and all that is lost."""

    place: str = ""
    tries: int = 0
    lost_for: str = ""
    lost: dict[str, str] = field(default_factory=dict)


class Watch:
    """Watches the calls of one process, one at a time; `file` is what the next process reads, if there is one.

    `end_process` gets the place that did not end, and why.
    """

    def __init__(
        self, file: Path | None, *, end_process: Callable[[str, str], object] = lambda *_: os._exit(EXIT_NO)
    ) -> None:
        # Appended to, so that faulthandler writes behind the name of the place.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._file = _open_nameless() if file is None else os.open(file, flags, 0o600)
        # Without a file for the next process people read what nothing but faulthandler could say.
        self._last_words = 2 if file is None else self._file
        self._end_process = end_process
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._is_injected = False  # an exception may be on its way
        self._closed = threading.Event()
        self._before = _read(self._file)
        self._recovered = Stats()
        if reason := self._before.lost_for:
            self._recovered = Stats(given_up=1, reasons={reason: 1})
            logger.warning("given_up", place=self._before.place, reason=reason)
        threading.Thread(target=self._watch, daemon=True, name="fedlog-watch").start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def count(self) -> Stats:
        """What was found of the process before, and which call is taking long."""
        return self._recovered + Stats(waiting_for=self.describe_wait())

    def describe_wait(self) -> str:
        """The call that is taking long, and how long; empty where there is none."""
        run = self._run
        if run is None or (long_s := time.monotonic() - run.begin_s) < QUIET_S:
            return ""
        return f"{run.deadline.label}, {run.deadline.doing} for {long_s:.0f} s"

    def watch(self, function: Callable[[], T], deadline: Deadline) -> T:
        """The result of `function`. Raises TookTooLong once its time is over, or where that ended a process before."""
        # Raised as if by the code, so that with privacy a zero vector is sent under this lease as well.
        if reason := self._before.lost.get(deadline.place):
            raise TookTooLong(reason)
        now_s = time.monotonic()
        run = _Run(deadline, threading.get_ident(), now_s, now_s + deadline.limit_s)
        with self._record(run):
            try:
                try:
                    self._run = run
                    return function()
                finally:
                    self._finish()
            # Where it comes outside of the user's code; the next one is seconds away.
            except Overtime as error:
                self._finish()
                raise TookTooLong(f"{deadline.doing}: {error}{name_place(error)}") from error
            except FedlogError as error:
                if not _comes_from_overtime(error):
                    raise
                text = str(error)
                raise TookTooLong(text if text.startswith(deadline.doing) else f"{deadline.doing}: {text}") from error

    @contextlib.contextmanager
    def _record(self, run: _Run) -> Iterator[None]:
        """While the block runs, the file says so, and a process that hangs in it is ended whatever holds it."""
        tries = self._before.tries + 1 if run.deadline.place == self._before.place else 1
        self._write({**asdict(run.deadline), "tries": tries, "thread": run.thread})
        limit_s = run.deadline.limit_s + STUCK_S + LAST_S
        faulthandler.dump_traceback_later(limit_s, exit=True, file=self._last_words)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._write({})

    def _write(self, told: dict[str, Any]) -> None:
        """What the file says from now on; what is lost stays so for as long as there is a file."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        if lost := self._before.lost:
            told["lost"] = lost
        if told:
            os.write(self._file, json.dumps(told).encode() + b"\n")

    def _finish(self) -> None:
        """No exception comes after this: one that is on its way is caught here."""
        while True:
            try:
                with self._lock:
                    self._run, is_under_way = None, self._is_injected
                if is_under_way:
                    _absorb()
                self._is_injected = False
            # It came before its turn; what it was meant for is over.
            except Overtime:
                continue
            return

    def _watch(self) -> None:
        told_s = injected_s = 0.0
        while not self._closed.wait(_POLL_S):
            now_s = time.monotonic()
            with self._lock:
                run = self._run
                if run is not None and now_s > run.end_s + STUCK_S:
                    self._end(run.deadline)
                elif run is not None and now_s > run.end_s and now_s > injected_s + REPEAT_S:
                    self._is_injected = True
                    _inject(run.thread, _name_overtime(run.deadline))
                    injected_s = now_s
            if run is not None and now_s > max(run.begin_s, told_s) + QUIET_S:
                logger.warning("no_step", place=run.deadline.place, waiting_for=self.describe_wait())
                told_s = now_s

    def _end(self, deadline: Deadline) -> None:
        faulthandler.dump_traceback(self._file)
        reason = _read(self._file).lost_for
        logger.error("stuck", place=deadline.place, label=deadline.label, reason=reason)
        self._end_process(deadline.place, reason)


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
        """The same. Raises TookTooLong once the lease is over."""
        deadline = until_lease_ends(self.label, lease=context.lease, left_s=context.left_s)
        return self.watch.watch(lambda: self.trainer.train(model, context), deadline)


def until_lease_ends(label: str, *, lease: str, left_s: float) -> Deadline:
    """The time that a training has under a lease of which `left_s` are left."""
    return Deadline(
        doing="training",
        label=label,
        place=lease,
        limit_s=max(0.0, left_s) + GRACE_S,
        within="with its lease",
        advice="Train fewer steps, or create a task with a longer lease_s",
    )


def until_loaded(label: str, *, code: str, limit_s: float) -> Deadline:
    """The time in which `code` has to load the data of a device."""
    return Deadline(
        doing=f"loading data with {code!r}",
        label=label,
        place=f"data of {label}",
        limit_s=limit_s,
        within=f"within {limit_s:g} s",
        advice=LOAD_ADVICE,
    )


def until_imported(plugin: str, *, limit_s: float) -> Deadline:
    """The time in which the module of a data plugin has to be imported, before there are devices."""
    return Deadline(
        doing=f"importing {plugin!r}",
        label="the fleet",
        place=f"module of {plugin}",
        limit_s=limit_s,
        within=f"within {limit_s:g} s",
        advice=LOAD_ADVICE,
    )


def until_opened(label: str, *, limit_s: float) -> Deadline:
    """The time in which a task's learner or question has to make its model, at least LOAD_S."""
    # Whatever data may take: a framework that is imported here takes long on a busy machine.
    limit_s = max(limit_s, LOAD_S)
    return Deadline(
        doing="making the model",
        label=label,
        place=f"model of {label}",
        limit_s=limit_s,
        within=f"within {limit_s:g} s",
        advice=LOAD_ADVICE,
    )


def until_scored(task: str, *, doing: str, limit_s: float) -> Deadline:
    """The time in which the evaluator's `doing` for a task has to end."""
    return Deadline(
        doing=doing,
        label=task,
        place=task,
        limit_s=limit_s,
        within=f"within {limit_s:g} s",
        advice="Score fewer examples, give it a timeout where it waits for something, or allow more with --limit-s",
    )


def _name_overtime(deadline: Deadline) -> type[Overtime]:
    # A thread can be sent a class only, which has to know its message by itself.
    return type("Overtime", (Overtime,), {"told": f"it did not end {deadline.within}. {deadline.advice}"})


def _comes_from_overtime(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, Overtime):
        error = error.__cause__ or error.__context__
    return error is not None


def _open_nameless() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Absorbed(BaseException):
    """In the place of an exception that is on its way, and caught at once."""


def _inject(thread: int, error: type[BaseException]) -> None:
    """Raise `error` in a thread as soon as it is in Python code, in the place of one that it has not met yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _absorb() -> None:
    """Take back what is on its way to this thread."""
    # Python has a call for that, after which 3.11 still believes that something is on its way: whoever traces the
    # process then, a debugger or the measuring of coverage, hangs it at the next call of a function.
    try:
        _inject(threading.get_ident(), _Absorbed)
        while True:
            pass
    except _Absorbed:
        return


def _read(file: int) -> _Before:
    """What a process has left in its file."""
    head, _, dump = os.pread(file, 1 << 22, 0).decode(errors="replace").partition("\n")
    try:
        found = json.loads(head)
        lost = {str(place): str(reason) for place, reason in dict(found.get("lost", {})).items()}
    except (ValueError, TypeError, AttributeError):
        return _Before()
    try:
        place, tries, thread = str(found["place"]), int(found["tries"]), int(found["thread"])
        doing, within, advice = (str(found[name]) for name in ("doing", "within", "advice"))
    except (ValueError, KeyError, TypeError):
        return _Before(lost=lost)
    reason = ""
    if dump.strip():
        line = _find_place(dump, thread)
        reason = f"{doing} did not end {within}, and its process was ended{line}. {advice}"
    # Killed once it is tried again, as after any crash; what ends its process each time would end it for ever.
    elif tries >= TRIES_MAX:
        reason = f"its process ended {tries} times while {doing}: look for os._exit, a crash, or want of memory"
    kept = dict([*lost.items(), (place, reason)][-LOST_MAX:]) if reason else lost
    return _Before(place, tries, reason, kept)


def _find_place(dump: str, thread: int) -> str:
    """The user's line in a traceback of faulthandler, which has the newest frame first."""
    section = re.search(rf"0x0*{thread:x}\b.*?:\n(.*?)(\n\n|\Z)", dump, re.DOTALL)
    frames = re.findall(r'File "(.+?)", line (\d+)', section[1]) if section else []
    users = [frame for frame in frames if is_user_file(frame[0])]
    return " ({}:{})".format(*(users or frames)[0]) if frames else ""
