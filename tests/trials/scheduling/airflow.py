"""A real Airflow out of an environment of its own, with SQLite in a folder, that runs the DAG of docs/examples."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.root import ROOT

VERSION = "3.3.2"
PROGRAM = ROOT / "build" / "airflow" / "bin" / "airflow"
DAG = ROOT / "docs" / "examples" / "airflow" / "retrain.py"
ENDS_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the DAG ended: its state, that of each task, and what Airflow said."""

    state: str
    tasks: dict[str, str]
    said: str


class Airflow:
    """Airflow with one DAG, and the connection to a `fedlog serve` that the DAG asks."""

    def __init__(self, folder: Path, *, port: int, token: str) -> None:
        self._folder = folder
        (folder / "dags").mkdir(parents=True)
        shutil.copy(DAG, folder / "dags")
        server = {"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": port, "password": token}
        self._environment = {
            **os.environ,
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Nobody is told that it runs.
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_FEDLOG": json.dumps(server),
            "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        }
        subprocess.run([PROGRAM, "db", "migrate"], env=self._environment, check=True, capture_output=True)

    def run(self, **params: str) -> Ended:
        """One run to its end."""
        with self.running(**params) as run:
            return run.wait()

    @contextlib.contextmanager
    def running(self, **params: str) -> Iterator[Run]:
        """A run that has begun; it is ended with the block."""
        log = self._folder / f"run-{len(self._list_runs())}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [PROGRAM, "dags", "test", "retrain", "--conf", json.dumps(params)],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Run(self, child, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def find_newest(self, said: str) -> Ended:
        """How the newest run stands, in Airflow's own database."""
        run_id, state = self._list_runs()[-1]
        with closing(sqlite3.connect(self._folder / "airflow.db")) as database:
            found = database.execute("SELECT task_id, state FROM task_instance WHERE run_id = ?", (run_id,))
            return Ended(state, dict(found.fetchall()), said)

    def _list_runs(self) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(self._folder / "airflow.db")) as database:
            return database.execute("SELECT run_id, state FROM dag_run ORDER BY id").fetchall()


@dataclass(frozen=True, slots=True)
class Run:
    """A run that goes on."""

    airflow: Airflow
    child: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> Ended:
        """Its end. Raises TimeoutExpired."""
        self.child.wait(timeout=ENDS_WITHIN_S)
        return self.airflow.find_newest(self.log.read_text(errors="replace"))
