"""`fedlog gateway` in a process of its own, which can be killed and started again on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from tests.root import ROOT

READY_WITHIN_S = 60.0


class GatewayProcess:
    """One gateway on a stage, with the options of the console that reach it."""

    def __init__(self, options: Sequence[str], folder: Path, *, words: Sequence[str] = ()) -> None:
        self._options, self._words, self._folder, self._port = list(options), list(words), folder, 0
        self._child: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        words = ["gateway", "--port", str(self._port), "--state", str(self._folder / "gateway"), *self._words]
        with (self._folder / "gateway.log").open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.terminal.cli", *self._options, *words],
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip()
        assert self.url, self.read_log()
        self._port = urlsplit(self.url).port or 0
        give_up_s = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            assert time.monotonic() < give_up_s, self.read_log()
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._child is not None
        return self._child.pid

    def is_ready(self) -> bool:
        """Whether it would take devices now."""
        try:
            with urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, and the process is gone."""
        assert self._child is not None
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        assert self._child is not None
        self._child.terminate()
        return self._child.wait(60)

    def read_log(self) -> str:
        """What it has said."""
        return (self._folder / "gateway.log").read_text(errors="replace")


@contextmanager
def running(options: Sequence[str], folder: Path, *, words: Sequence[str] = ()) -> Iterator[GatewayProcess]:
    """A gateway with more `words` in its command line, and its end whatever happens."""
    gateway = GatewayProcess(options, folder, words=words)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill()
