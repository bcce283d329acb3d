"""Child processes: started in a session of their own, and ended in order or by force.

The supervisor starts its worker here, the demo its workers and devices, and the embedded broker its Java process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

KILL_WAIT_S = 10.0

Child = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a child gets from here: open files, and its whole environment where that is not this process's own."""

    descriptors: Sequence[int] = ()
    environment: Mapping[str, str] | None = None


def open_private(path: str, flags: int) -> int:
    """An `opener` for files that only their owner may read."""
    return os.open(path, flags, 0o600)


def start(
    command: Sequence[str],
    *,
    output: Path | None = None,
    folder: Path | None = None,
    has_pipe: bool = False,
    inherits: Inheritance | None = None,
) -> Child:
    """Start `command` in `folder`; stdout and stderr go to the file `output`, else to those of this process.

    With `has_pipe` its stdin is a pipe from here. What it writes, and its output, only the owner can read.
    """
    inherited = inherits or Inheritance()
    with contextlib.ExitStack() as stack:
        file = None if output is None else stack.enter_context(open(output, "wb", opener=open_private))
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE if has_pipe else subprocess.DEVNULL,
            stdout=file,
            stderr=None if file is None else subprocess.STDOUT,
            pass_fds=inherited.descriptors,
            env=inherited.environment,
            cwd=folder,
            # Broker, workers and fleet write raw updates and keys; no other user of the machine may read them.
            umask=0o077,
            # In its own session Ctrl-C in the terminal does not reach it: its parent ends it, in order.
            start_new_session=True,
        )


def end(children: Iterable[Child], *, timeout_s: float, with_descendants: bool = False) -> None:
    """SIGTERM to all of them, and SIGKILL to those that have not ended after `timeout_s`.

    `with_descendants` also kills what a child has started itself and left behind.
    """
    children = list(children)
    try:
        for child in children:
            if child.poll() is None:
                child.terminate()
        _wait_until_ended(children, timeout_s=timeout_s)
    finally:
        # An interruption while waiting comes here too: no child may outlive its parent unseen.
        for child in children:
            _kill(child, with_descendants=with_descendants)


def end_process(process: psutil.Process, *, timeout_s: float) -> None:
    """The same for a process that may be the child of another; an interruption while waiting kills it at once."""
    try:
        if timeout_s > 0:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout_s)
    except psutil.TimeoutExpired:
        pass
    except psutil.NoSuchProcess:
        return
    finally:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            if process.is_running():
                process.kill()
                process.wait(KILL_WAIT_S)


def _wait_until_ended(children: Iterable[Child], *, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.1, deadline_s - time.monotonic()))


def _kill(child: Child, *, with_descendants: bool) -> None:
    if with_descendants:
        # Each child leads a session of its own, so this ends what it has left behind and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    elif child.poll() is None:
        # A stopped process hears no signal but this one.
        child.kill()
    child.wait()
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
