"""Keeps one worker alive: the supervisor starts it again with back-off, and the worker ends when its supervisor does.

The two halves share a pipe, the worker's stdin. The supervisor writes the settings into it (no secret is in an argument
list) and keeps it open; when it closes, by whatever death, the worker ends. They also share a breadcrumb: when a
worker has died at the same input three times in a row, the next one is told to pass that input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from actors.hosts.crash_marker import CrashMarker
from actors.runtime.guard import DEATHS_MAX, InputPlace, PoisonInput
from actors.wiring import ROLES
from ops.console import note
from ops.processes import children
from ops.settings import Settings
from schemas.errors import FedlogError

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
STEADY_AFTER_S = 20.0
STOP_TIMEOUT_S = 15.0
EXIT_CONFIGURATION = 78  # sysexits.h: starting again cannot help
EXIT_UNCERTAIN = 70

# Not `python -m`: that would search the current folder first, and a folder `schemas` there is likely enough.
_WORKER = "import sys; sys.path[0] = sys.argv[1]; from ops.processes import supervisor; supervisor.work(sys.argv[2])"


class WorkerCannotRun(FedlogError):
    """The worker ended because of its settings; starting it again cannot help."""

    code = "worker_cannot_run"


class Supervisor:
    """One worker's keeper. `run` returns when told to stop, and raises WorkerCannotRun."""

    def __init__(self, actor: str, settings: Settings) -> None:
        self._actor = actor
        self._settings = settings
        self._child: children.Child | None = None
        self._stopping = threading.Event()
        self._starts = 0
        self._breadcrumb = CrashMarker.new(_inputs(actor))
        self._died: PoisonInput | None = None

    @property
    def run_file(self) -> Path:
        """Where this supervisor tells its pids."""
        return self._settings.folder / "run" / f"{self._actor}-{os.getpid()}.json"

    def run(self) -> None:
        """Keep the worker alive until SIGTERM or SIGINT."""
        backoff_s = BACKOFF_FIRST_S
        with self._signals():
            try:
                while not self._stopping.is_set():
                    began = time.monotonic()
                    code = self._watch(self._start())
                    self._died = self._died_again(code)
                    if self._stopping.is_set():
                        return
                    if code == EXIT_CONFIGURATION:
                        raise WorkerCannotRun(
                            f"The {self._actor} cannot run with these settings; see its message above."
                        )
                    if time.monotonic() - began > STEADY_AFTER_S:
                        backoff_s = BACKOFF_FIRST_S
                    note(f"{self._actor}: {ended(code)}; starts again in {backoff_s:g} s")
                    self._stopping.wait(backoff_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            finally:
                self._end()
                with contextlib.suppress(OSError):
                    self.run_file.unlink(missing_ok=True)

    def _start(self) -> children.Child:
        child = children.start(
            [sys.executable, "-c", _WORKER, str(Path(__file__).parents[2]), self._actor],
            has_pipe=True,
            descriptors=[self._breadcrumb.descriptor],
        )
        self._child = child
        self._starts += 1
        self._record(child.pid)
        note(f"{self._actor}: worker pid {child.pid}, supervisor pid {os.getpid()}")
        assert child.stdin is not None
        deadly = self._died if self._died is not None and self._died.deaths >= DEATHS_MAX else None
        if deadly is not None:
            where = f"{deadly.at.topic}[{deadly.partition}]@{deadly.at.offset} ({deadly.at.number})"
            note(f"{self._actor}: {deadly.deaths} deaths in a row at {where}; it is passed as a defect")
        with contextlib.suppress(BrokenPipeError):
            told = {"settings": asdict(self._settings), "breadcrumb": self._breadcrumb.descriptor, "deadly": deadly}
            child.stdin.write(json.dumps(told, default=str).encode() + b"\n")
            child.stdin.flush()
        return child

    def _died_again(self, code: int) -> PoisonInput | None:
        """What the worker had in hand when it died, and how often in a row; None where it was at no input."""
        found = self._breadcrumb.taken()
        if found is None:
            return None
        before = self._died
        deaths = before.deaths if before is not None and (before.partition, before.at) == found else 0
        return PoisonInput(*found, deaths + 1, ended(code))

    def _record(self, child: int) -> None:
        told = {"actor": self._actor, "supervisor": os.getpid(), "child": child, "starts": self._starts}
        written = self.run_file.with_suffix(".new")
        try:
            self.run_file.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(json.dumps(told) + "\n")
            written.replace(self.run_file)
        except OSError as error:
            # A container's file system may be read-only; the worker can do without.
            note(f"{self.run_file}: {error.strerror}; the pids stand only here")

    def _watch(self, child: children.Child) -> int:
        """Wait for the worker's end, or for the order to stop."""
        while child.poll() is None and not self._stopping.wait(0.1):
            pass
        return child.returncode if child.returncode is not None else 0

    def _end(self) -> None:
        """End the worker, if one was started."""
        if self._child is not None:
            children.end([self._child], timeout_s=STOP_TIMEOUT_S)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(signum: int, frame: FrameType | None) -> None:
            self._stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ended(code: int) -> str:
    """How a worker ended, for people."""
    if code == EXIT_UNCERTAIN:
        return "ended in doubt about its last write (the next start finds out)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def work(actor: str) -> None:
    """The other half: read the settings, watch the pipe, run the actor. Never returns with the pipe unwatched."""
    # A crash inside a C extension leaves no traceback otherwise.
    faulthandler.enable()
    told: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    values = told["settings"]
    settings = Settings(**{**values, **{name: Path(values[name]) for name in ("folder", "operator_key_file")}})
    threading.Thread(target=_end_with_supervisor, name="supervisor-watch", daemon=True).start()
    from ops.logging_setup import set_up_logging

    set_up_logging(as_json=True)
    from actors import keys
    from streams.log import LogRefused, TopicUnfit

    try:
        _host(actor, settings, told=told)
    except (keys.OperatorKeyError, LogRefused, TopicUnfit) as error:
        note(f"{actor}: {error}")
        sys.exit(EXIT_CONFIGURATION)


def _host(actor: str, settings: Settings, *, told: dict[str, Any]) -> None:
    kafka, metrics = settings.kafka(f"fedlog-{actor}"), (settings.metrics_host, settings.metrics_port)
    # Of the supervisor, so that a worker that comes back within the session timeout finds its partitions waiting.
    instance = f"{socket.gethostname()}-{os.getppid()}"
    if actor not in ROLES:
        from actors.hosts import shard_host

        shard_host.run(kafka, settings.operator_key_file, instance=instance, metrics=metrics)
        return
    from actors.hosts import faust_app

    deadly = told["deadly"]
    options = faust_app.WorkerOptions(
        kafka=kafka,
        operator_key_file=settings.operator_key_file,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        instance=instance,
        breadcrumb=CrashMarker(told["breadcrumb"], _inputs(actor)),
        deadly=deadly and PoisonInput(deadly[0], InputPlace(*deadly[1]), *deadly[2:]),
    )
    faust_app.run(actor, options)


def _inputs(actor: str) -> tuple[str, ...]:
    """What an actor decides on; a shard worker decides nothing."""
    return ROLES[actor].inputs if actor in ROLES else ()


def _end_with_supervisor() -> None:
    """Block until the pipe closes, then end this process: in order when that is possible, in any case soon."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os._exit(EXIT_UNCERTAIN)
