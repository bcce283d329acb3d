"""A process that has imported what others need, and forks them: each is there at once, and shares its memory.

It runs nothing but imports, so that it has no thread of its own when it forks; where an import has begun one, or the
system is not Linux, its owner starts processes in the other way. It ends when its socket closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from client_agent.running.nursery import nurse; nurse(int(sys.argv[1]), json.loads(sys.argv[3]))"
)
# What runs in each process, from the descriptor of its pipe on; it never returns.
SERVE = "client_agent.running.plain_session", "serve"
# What goes with a descriptor, either way: a message cannot be of descriptors alone.
_ASKED = b"1"
_LAST_S = 0.5


@dataclass(slots=True)
class Nursery:
    """One such process. Raises OSError where it cannot be started."""

    modules: Sequence[str]
    _socket: socket.socket = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    _unborn: list[Born] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            words = [str(theirs.fileno()), json.dumps(sys.path), json.dumps([*self.modules])]
            # What a user's code prints is for people; on the owner's standard output a program may be reading.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def bear(self, pipe: socket.socket) -> Born:
        """A process that serves this pipe, as soon as all is imported; raises OSError where the nursery has ended."""
        socket.send_fds(self._socket, [_ASKED], [pipe.fileno()])
        self._unborn.append(born := Born(self))
        return born

    def hear(self, *, wait_s: float = 0.0) -> None:
        """Take note of what was born meanwhile, in the order in which it was asked for."""
        while self._unborn and select.select([self._socket], [], [], wait_s)[0]:
            with contextlib.suppress(OSError):
                told, descriptors, _, _ = socket.recv_fds(self._socket, len(_ASKED), 1)
                if told and descriptors:
                    self._unborn.pop(0).descriptor = descriptors[0]
                    continue
            # It has ended, and what it was asked for was never born.
            self._unborn.clear()

    def close(self) -> None:
        """End it, and nothing that it has forked."""
        self.hear()
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_S)
        # In the middle of an import it sees nothing of this, and holds nothing.
        self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class Born:
    """A process that a nursery forks; as much of `subprocess.Popen` as sessions need."""

    nursery: Nursery
    descriptor: int = -1

    def kill(self) -> None:
        """End it at once; nothing where it has ended or was never born."""
        self.nursery.hear()
        if self.descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        """Return when it has ended. Raises subprocess.TimeoutExpired."""
        self.nursery.hear()
        if self.descriptor < 0:
            return
        # The descriptor of a process becomes readable when it ends, whoever its parent is.
        if not select.select([self.descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a process of the fleet", timeout or 0.0)
        os.close(self.descriptor)
        self.descriptor = -1


def can_fork() -> bool:
    """Whether a nursery works here: elsewhere system libraries break in a process that was forked."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def list_modules(function: Callable[..., Any]) -> list[str]:
    """The modules that a process imports when it is given this function, in whatever it is bound."""
    if isinstance(function, partial):
        inner: list[Callable[..., Any]] = [
            function.func,
            *(given for given in function.args if isinstance(given, partial)),
        ]
        return [module for each in inner for module in list_modules(each)]
    return [function.__module__]


def nurse(descriptor: int, modules: Sequence[str]) -> None:
    """The life of a nursery: import, and fork for each descriptor that comes, until the socket closes."""
    for module in modules:
        # Whoever needs it in earnest says why it cannot be imported.
        with contextlib.suppress(Exception):
            import_module(module)
    serve: Callable[[int], None] = getattr(import_module(SERVE[0]), SERVE[1])
    asked = socket.socket(fileno=descriptor)
    while True:
        told, descriptors, _, _ = socket.recv_fds(asked, len(_ASKED), 1)
        if not told:
            _collect()
            return
        pid = _fork()
        if pid == 0:
            asked.close()
            _live(serve, descriptors[0])
        os.close(descriptors[0])
        # Before it is collected its number is nobody else's.
        born = os.pidfd_open(pid)
        socket.send_fds(asked, [_ASKED], [born])
        os.close(born)
        _collect()


def _fork() -> int:
    with warnings.catch_warnings():
        # Numpy's library of algebra keeps threads, and ends and begins them anew around a fork by itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _live(serve: Callable[[int], None], descriptor: int) -> NoReturn:
    """One of those that are forked, to its end: what it raises must not go back to where it was forked."""
    try:
        os.setsid()
        _draw_anew()
        serve(descriptor)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    os._exit(1)


def _draw_anew() -> None:
    """Two processes must not draw the same; Python's own generator sees to that itself."""
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()


def _collect() -> None:
    """Let go of those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
