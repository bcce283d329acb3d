"""Keeps one worker alive: starts `ops.processes.worker` as a child, and starts it again with back-off when it ends.

`fedlog worker` runs it. A crash marker, which both processes share, names the input that the worker has in hand: when
three workers in a row have died at the same input, the next one is ordered to skip it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from actors.hosts.crash_marker import CrashMarker
from actors.keys import RoleKey
from actors.runtime.guard import DEATHS_MAX, PoisonInput
from client_agent.files import FolderTooOpen
from ops.console import note
from ops.processes import children
from ops.processes.worker import EXIT_UNCERTAIN, STOP_TIMEOUT_S, Orders, list_inputs
from ops.settings import Settings
from schemas.errors import EXIT_CONFIGURATION, FedlogError

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
STEADY_AFTER_S = 20.0
POLL_S = 0.1

# Not `python -m`: that would search the current folder first, and a folder `schemas` there is likely enough.
_PROGRAM = "import sys; sys.path[0] = sys.argv[1]; from ops.processes import worker; worker.work(sys.argv[2])"


class WorkerCannotRun(FedlogError):
    """The worker ended because of its settings; starting it again cannot help."""

    exit_code = EXIT_CONFIGURATION
    code = "worker_cannot_run"


class Supervisor:
    """The keeper of one worker. `run` returns after SIGTERM or SIGINT, and raises WorkerCannotRun."""

    def __init__(self, actor: str, settings: Settings, *, find_key: Callable[[], RoleKey]) -> None:
        self._actor, self._find_key = actor, find_key
        self._settings = settings
        self._key: RoleKey | None = None
        self._child: children.Child | None = None
        self._waiting: children.Child | None = None  # for its first orders
        self._stop_requested = threading.Event()
        self._starts = 0
        self._crash_marker = CrashMarker.new(list_inputs(actor))
        self._poison_input: PoisonInput | None = None

    @property
    def run_file(self) -> Path:
        """Where this supervisor writes its own pid and its worker's."""
        return self._settings.folder / "run" / f"{self._actor}-{os.getpid()}.json"

    def run(self) -> None:
        """Keep the worker alive until SIGTERM or SIGINT. Raises what `find_key` raises."""
        # The first one imports for a second, in which its key is asked for; a signal ends both meanwhile, as usual.
        self._waiting = self._spawn()
        try:
            self._key = self._find_key()
        except BaseException:
            children.end([self._waiting], timeout_s=0)
            raise
        with self._handle_signals():
            try:
                self._restart_until_stopped()
            finally:
                if self._child is not None:
                    children.end([self._child], timeout_s=STOP_TIMEOUT_S)
                with contextlib.suppress(OSError):
                    self.run_file.unlink(missing_ok=True)

    def _restart_until_stopped(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stop_requested.is_set():
            began_s = time.monotonic()
            code = self._wait(self._start())
            self._poison_input = self._count_deaths(code)
            if self._stop_requested.is_set():
                return
            if code == EXIT_CONFIGURATION:
                raise WorkerCannotRun(f"The {self._actor} cannot run with these settings; see its message above.")
            # A worker that ran for a while has recovered from what ended it, so the next end is another matter.
            if time.monotonic() - began_s > STEADY_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            note(f"{self._actor}: {describe_end(code)}; restarts in {backoff_s:g} s")
            self._stop_requested.wait(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _spawn(self) -> children.Child:
        """A worker that waits for its orders."""
        return children.start(
            [sys.executable, "-c", _PROGRAM, str(Path(__file__).parents[2]), self._actor],
            has_pipe=True,
            inherits=children.Inheritance(descriptors=[self._crash_marker.descriptor]),
        )

    def _start(self) -> children.Child:
        child = self._child = self._waiting or self._spawn()
        self._waiting = None
        assert self._key is not None
        self._starts += 1
        self._write_run_file(child.pid)
        note(f"{self._actor}: worker pid {child.pid}, supervisor pid {os.getpid()}")
        orders = Orders(
            settings=self._settings,
            key=self._key,
            crash_marker=self._crash_marker.descriptor,
            poison_input=self._choose_skip(),
        )
        assert child.stdin is not None
        # A worker that has died already is noticed by waiting for it; its pipe is no news.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(orders.encode())
            child.stdin.flush()
        return child

    def _choose_skip(self) -> PoisonInput | None:
        """The input that the next worker must skip, if enough workers in a row have died at it."""
        poison = self._poison_input
        if poison is None or poison.deaths < DEATHS_MAX:
            return None
        where = f"{poison.place.topic}[{poison.partition}]@{poison.place.offset} ({poison.place.number})"
        note(f"{self._actor}: {poison.deaths} deaths in a row at {where}; it is skipped as a defect")
        return poison

    def _count_deaths(self, code: int) -> PoisonInput | None:
        """The input that the worker had in hand when it died and the deaths in a row there; None for none."""
        # Reading it also empties it: the next worker may die before it reaches any input.
        found = self._crash_marker.take()
        if found is None:
            return None
        before = self._poison_input
        # Only deaths in a row count, so that kills at random never make an input look poisonous.
        deaths = before.deaths if before is not None and (before.partition, before.place) == found else 0
        return PoisonInput(*found, deaths + 1, describe_end(code))

    def _write_run_file(self, child: int) -> None:
        pids = {"actor": self._actor, "supervisor": os.getpid(), "child": child, "starts": self._starts}
        # For a run that looks whether a worker of its own topics is here already.
        told = {**pids, "topic_prefix": self._settings.topic_prefix}
        # The demo and tests read this file while it changes, so it is replaced in one step.
        written = self.run_file.with_suffix(".new")
        try:
            self._settings.open_folder()
            self.run_file.parent.mkdir(exist_ok=True)
            written.write_text(json.dumps(told) + "\n")
            written.replace(self.run_file)
        except (OSError, FolderTooOpen) as error:
            # A container's file system may be read-only; the worker can do without.
            note(f"{self.run_file}: {error}; the pids are printed here only")

    def _wait(self, child: children.Child) -> int:
        """The exit code of the worker; 0 when it was this supervisor that was asked to stop."""
        while child.poll() is None and not self._stop_requested.wait(POLL_S):
            pass
        return child.returncode if child.returncode is not None else 0

    @contextlib.contextmanager
    def _handle_signals(self) -> Iterator[None]:
        def stop(signum: int, frame: FrameType | None) -> None:
            self._stop_requested.set()

        # The handlers are restored afterwards, so that a second signal ends the process as usual.
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def describe_end(code: int) -> str:
    """How a worker ended, for people."""
    if code == EXIT_UNCERTAIN:
        return "ended in doubt about its last write (the next start resolves it)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
