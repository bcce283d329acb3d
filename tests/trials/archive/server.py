"""A real S3 server on loopback: versitygw, of the PATH or built with Go, over a folder that outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.root import ROOT

MODULE, VERSION = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
FOLDER = ROOT / "build" / "versitygw"
KEY, SECRET = "archivist", "no secret of anybody"
PATIENCE_S = 20.0


def find_versitygw() -> str:
    """The program; built once into build/versitygw. Exits where neither it nor Go is there."""
    if (found := shutil.which("versitygw")) is not None:
        return found
    built = FOLDER / "versitygw"
    if not built.exists():
        if shutil.which("go") is None:
            sys.exit("versitygw is missing: install it, or Go to build it with.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(FOLDER), "GOFLAGS": "-p=1"}
        subprocess.run(["go", "install", f"{MODULE}@{VERSION}"], env=environment, check=True)
    return str(built)


class Server:
    """One server on a port of its own; what it has acknowledged stands in `folder`, a bucket a folder there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("buckets", "sidecar"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = [find_versitygw(), "--port", f"127.0.0.1:{self.port}", "--access", KEY, "--secret", SECRET, "--quiet"]
        # Beside the files, because not every file system has attributes for users.
        words += ["posix", "--sidecar", str(self._folder / "sidecar"), str(self._folder / "buckets")]
        with (self._folder / "server.log").open("ab") as log:
            self._child = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        give_up_s = time.monotonic() + PATIENCE_S
        while not self._listens():
            assert self._child.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < give_up_s, "the S3 server does not listen"
            time.sleep(0.05)

    def make_bucket(self, name: str) -> None:
        """As its owner does by hand."""
        (self._folder / "buckets" / name).mkdir(exist_ok=True)

    def kill(self) -> None:
        """SIGKILL, in the midst of whatever it does."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def stop(self) -> None:
        """Answer nobody, and take connections all the same."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a stop."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _listens(self) -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False
