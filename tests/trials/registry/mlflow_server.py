"""A real MLflow server on loopback, out of an environment of its own, which is killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.root import ROOT

PROGRAM = ROOT / "build" / "mlflow" / "server" / "bin" / "mlflow"
CLIENT = ROOT / "build" / "mlflow" / "python"
READY_WITHIN_S = 180.0
# It asks its maker for nothing, and tells it nothing.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


class MlflowProcess:
    """One server on a port of its own, with SQLite and files in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url, self._folder = f"http://127.0.0.1:{self._port}", folder
        self._child: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [
            *(str(PROGRAM), "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        with (self._folder / "mlflow.log").open("ab") as log:
            self._child = subprocess.Popen(
                words,
                cwd=self._folder,
                env={**os.environ, **QUIET},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up_s = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            assert time.monotonic() < give_up_s, self.read_log()
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, with its workers."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self.kills += 1

    def read_log(self) -> str:
        """What it said."""
        return (self._folder / "mlflow.log").read_text()[-4_000:]

    def ask(self, path: str, **parameters: str) -> Any:
        """An answer of its REST API, without any client of MLflow's."""
        asked = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
        with urlopen(f"{self.url}/api/2.0/mlflow/{path}?{asked}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The same for what is asked by POST."""
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def fetch(self, run: dict[str, Any], file: str) -> bytes:
        """A file of a run, as a browser downloads it."""
        place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        with urlopen(f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{place}/{file}", timeout=60) as answer:
            data: bytes = answer.read()
            return data

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@contextmanager
def running(folder: Path) -> Iterator[MlflowProcess]:
    """A server that answers, and its end."""
    server = MlflowProcess(folder)
    server.start()
    try:
        yield server
    except BaseException:
        # What it said last goes with its folder.
        sys.stderr.write(server.read_log())
        raise
    finally:
        server.kill()


def make_environment() -> dict[str, str]:
    """In which `fedlog mlflow` finds its client, and this checkout."""
    # Behind our own environment for what both have, which is of the same version.
    return {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join([str(ROOT), str(CLIENT)])}


def import_client() -> None:
    """Have MLflow's client found in this process."""
    os.environ.update(QUIET)
    sys.path.append(str(CLIENT))
