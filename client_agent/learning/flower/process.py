"""The process that an app runs in: started by the first request, ended with this one, and anew where it is gone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from client_agent.learning.flower.fedlog_node.frames import (
    HEAD_BYTES,
    FrameError,
    decode_frame,
    encode_frame,
    read_length,
)
from client_agent.learning.foreign import LearnerError

HERE = Path(__file__).parent
_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; from fedlog_node.serving import serve; sys.path.pop(0); "
    "serve(int(sys.argv[2]))"
)
_READ_BYTES = 1 << 20
# A model, the app's own state and its metrics; the first messages come unasked, and with the model in them.
ANSWER_TIMES_MAX = 8
ANSWER_BYTES_MAX = 1 << 30
_LOOK_EVERY_S = 0.2


class AppProcess:
    """One process of Flower's environment; requests of several threads wait for each other."""

    def __init__(self, python: Path, app: Path, run_config: list[str]) -> None:
        self._command = [str(python), "-E", "-c", _BOOT, str(HERE)]
        self._app = app
        self._run_config = run_config
        self._child: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[Any, AppProcess] | None = None
        self._lock = threading.Lock()

    def ask(self, do: str, *, timeout_s: float, **content: Any) -> dict[str, Any]:
        """The answer to a request. Raises LearnerError where the app fails, dies or takes longer than that."""
        request = {"do": do, "app": str(self._app), "run_config": self._run_config, **content}
        with self._lock:
            try:
                answer = self._exchange(encode_frame(request), timeout_s=timeout_s)
            except BaseException:
                # Whatever it is at, its next answer would belong to this request.
                self._end()
                raise
        if "error" in answer:
            raise LearnerError(f"Flower app {self._app.name!r}: {answer['error']}")
        return answer

    @property
    def process(self) -> int | None:
        """The number of the process, which leads its own group; None while there is none."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def close(self) -> None:
        """End the process; a later request starts another."""
        with self._lock:
            self._end()

    def _exchange(self, request: bytes, *, timeout_s: float) -> dict[str, Any]:
        child = self._start()
        give_up_s = time.monotonic() + timeout_s
        try:
            self._write(child, request, give_up_s=give_up_s)
            head = self._read(child, HEAD_BYTES, give_up_s=give_up_s)
            size = read_length(head)
            # Before any of it is in memory: an app may be broken, or worse.
            if size > max(ANSWER_BYTES_MAX, ANSWER_TIMES_MAX * len(request)):
                raise FrameError(f"an answer of {size:,} bytes to a request of {len(request):,}")
            return decode_frame(head, self._read(child, size, give_up_s=give_up_s))
        except TimeoutError as error:
            raise LearnerError(
                f"Flower app {self._app.name!r}: no answer within {timeout_s:g} s, and it was ended"
            ) from error
        except FrameError as error:
            raise LearnerError(f"Flower app {self._app.name!r}: {error}") from error
        except (OSError, EOFError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
            raise LearnerError(
                f"Flower app {self._app.name!r}: its process ended (exit code {child.returncode})"
            ) from error

    def _start(self) -> subprocess.Popen[bytes]:
        # One that died between two leases, for want of memory perhaps, is no reason to fail the next.
        if self._child is None or self._child.poll() is not None:
            self._end()
            # Nobody inherits our end: it closes when this process ends or becomes another, however that comes.
            theirs, ours = os.pipe()
            try:
                self._child = subprocess.Popen(
                    [*self._command, str(theirs)],
                    # Where Flower would start it: an app's paths are relative to its folder.
                    cwd=self._app,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    # A group of its own, so that all that the app starts can be ended, and Ctrl-C reaches only us.
                    process_group=0,
                    pass_fds=[theirs],
                    bufsize=0,
                )
            except BaseException:
                os.close(ours)
                raise
            finally:
                os.close(theirs)
            self._finalizer = weakref.finalize(self, _end_group, self._child, ours)
        return self._child

    def _write(self, child: subprocess.Popen[bytes], data: bytes, *, give_up_s: float) -> None:
        """All of it, to an app that may not read. Raises TimeoutError, EOFError."""
        assert child.stdin is not None
        left, number = memoryview(data), child.stdin.fileno()
        os.set_blocking(number, False)
        while left:
            _, ready, _ = select.select([], [number], [], _LOOK_EVERY_S)
            if ready:
                left = left[os.write(number, left[:_READ_BYTES]) :]
            elif child.poll() is not None:
                raise EOFError
            if left and time.monotonic() > give_up_s:
                raise TimeoutError

    def _read(self, child: subprocess.Popen[bytes], size: int, *, give_up_s: float) -> bytes:
        """Exactly so many bytes. Raises TimeoutError, EOFError."""
        assert child.stdout is not None
        parts, left, number = list[bytes](), size, child.stdout.fileno()
        while left:
            if time.monotonic() > give_up_s:
                raise TimeoutError
            ready, _, _ = select.select([number], [], [], _LOOK_EVERY_S)
            if not ready:
                # A grandchild may hold the pipe open after its parent died.
                if child.poll() is not None:
                    raise EOFError
                continue
            if not (part := os.read(number, min(left, _READ_BYTES))):
                raise EOFError
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._child = self._finalizer = None


def _end_group(child: subprocess.Popen[bytes], lifeline: int) -> None:
    """End a child and its group, also where the child is gone already and others of its group are not."""
    os.close(lifeline)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    child.wait()
