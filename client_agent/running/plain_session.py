"""Plain processes for a small fleet: they are there in a second, where Ray needs several before it gives any work.

It offers what `ray_session` does. Each process holds one object and answers questions through a pipe; it ends when the
pipe closes, however its starter has died, and is started again when it dies itself. Several are forked by a `nursery`
where that is possible: a second import of torch takes as long as the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import structlog

from client_agent.running.nursery import Born, Nursery, can_fork
from schemas.errors import EXIT_USAGE, FedlogError

COLLECT_S = 5.0
STOP_S = 5.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from client_agent.running.plain_session import serve; serve(int(sys.argv[1]))"
)

Process = subprocess.Popen[bytes] | Born


class FleetError(FedlogError):
    """The fleet cannot start or continue; the message says why."""

    exit_code = EXIT_USAGE
    code = "fleet_failed"


class Session(Protocol):
    """What runs the processes of one fleet, in Ray or plainly."""

    def start(self, *, processes: int) -> None:
        """Get ready. Raises FleetError."""

    def spawn(self, kind: type, *arguments: object) -> None:
        """Start a process with one object of `kind` in it."""

    def begin(self, method: str) -> None:
        """Have each process call `method` first. What it raises is raised here, or where answers are collected."""

    def collect(self, method: str) -> Sequence[Any]:
        """The same without waiting for all: None for a process that is busy, or being started again."""

    def stop(self, method: str) -> None:
        """Call `method` in each process, and end them all."""


@dataclass(slots=True)
class _Member:
    """One process, and how to start it again."""

    kind: type
    arguments: tuple[object, ...]
    process: Process
    pipe: Connection
    is_asked: bool = False


@dataclass(slots=True)
class PlainSession:
    """The processes of one fleet. `modules`: what each of them imports sooner or later."""

    modules: Sequence[str] = ()
    _members: list[_Member] = field(default_factory=list)
    _nursery: Nursery | None = None

    def start(self, *, processes: int) -> None:
        """Have somebody import for all of them; one process alone imports for itself."""
        if processes > 1 and can_fork():
            self._nursery = Nursery(self.modules)

    def spawn(self, kind: type, *arguments: object) -> None:
        """Start a process with one object of `kind` in it; it is started again when it dies."""
        self._members.append(_Member(kind, arguments, *_start(kind, arguments, nursery=self._nursery)))

    def begin(self, method: str) -> None:
        """Have each process call `method` first; nobody waits for those that are still being imported."""
        for member in self._members:
            _send(member, method)

    def collect(self, method: str) -> Sequence[Any]:
        """The same without waiting for all: None for a process that is busy, or being started again."""
        for member in self._members:
            # One question at a time, so that a busy process does not find a queue of them.
            if not member.is_asked:
                _send(member, method)
        give_up_s = time.monotonic() + COLLECT_S
        waiting = [member.pipe for member in self._members]
        while waiting and (left_s := give_up_s - time.monotonic()) > 0:
            answered = wait(waiting, left_s)
            waiting = [pipe for pipe in waiting if pipe not in answered]
        return [self._receive(member) if member.pipe.poll() else None for member in self._members]

    def stop(self, method: str) -> None:
        """Call `method` in each process, and end those that have not ended soon after."""
        members, self._members = self._members, []
        for member in members:
            with contextlib.suppress(OSError):
                member.pipe.send(method)
                # What it has been asked before it answers as before; then it finds that nobody asks any more.
                member.pipe.send("")
        give_up_s = time.monotonic() + STOP_S
        for member in members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.process.wait(max(0.0, give_up_s - time.monotonic()))
            member.process.kill()
            member.process.wait()
            member.pipe.close()
        # Last: of what it has not forked yet it tells nobody.
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _receive(self, member: _Member) -> Any:
        """An answer; None of a process that has died and is started again. Raises FleetError for what it raised."""
        member.is_asked = False
        try:
            is_answer, value = member.pipe.recv()
        except (EOFError, OSError):
            member.pipe.close()
            member.process.kill()
            member.process.wait()
            member.process, member.pipe = _start(member.kind, member.arguments, nursery=self._nursery)
            return None
        if not is_answer:
            raise FleetError(f"a process of the fleet failed: {value}")
        return value


def _start(kind: type, arguments: tuple[object, ...], *, nursery: Nursery | None) -> tuple[Process, Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = _begin(theirs, nursery)
    pipe = Connection(ours.detach())
    pipe.send((kind, arguments))
    return process, pipe


def _begin(theirs: socket.socket, nursery: Nursery | None) -> Process:
    # A nursery that has died costs time and nothing else.
    with contextlib.suppress(OSError):
        if nursery is not None:
            return nursery.bear(theirs)
    words = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
    # What a user's code prints is for people; on the fleet's standard output a program may be reading.
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()], start_new_session=True
    )


def _send(member: _Member, method: str) -> None:
    member.is_asked = True
    # One that has died is noticed where its answer is read.
    with contextlib.suppress(OSError):
        member.pipe.send(method)


def serve(descriptor: int) -> None:
    """The life of a process: make its object, and answer one question after the other until the pipe closes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    pipe = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        kind, arguments = pipe.recv()
        served = kind(*arguments)
        while method := pipe.recv():
            pipe.send(_call(served, method))
    # Without waiting for a device that trains in another thread, perhaps for hours.
    os._exit(0)


def _call(served: object, method: str) -> tuple[bool, Any]:
    try:
        return True, getattr(served, method)()
    except Exception as error:  # noqa: BLE001 - told to the starter, who ends the fleet
        return False, str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"
