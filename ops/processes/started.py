"""What one command has started in a folder: a mark in the environment of each process, and a record of the mark.

A process inherits the mark from whoever starts it, so what services start themselves carries it too, whoever their
parent is by now. A command ends what has its own mark; after a `kill -9` its guardian or `fedlog stop` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import psutil

from client_agent.files import write_durably

MARK = "FEDLOG_STARTED_BY"
STOP_TIMEOUT_S = 20.0
_KILL_S = 5.0
_REST_S = 2.0
_ROUNDS_MAX = 10
_LAST = "kafka.Kafka"  # the class that the broker's Java runs: who else is ended may still write


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The mark of one command and the process that runs it; `started_at` tells it from a recycled pid."""

    task: str
    pid: int = field(default_factory=os.getpid)
    started_at: float = field(default_factory=lambda: psutil.Process().create_time())
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def write(self, folder: Path) -> None:
        """Record it, before the first process is started."""
        find_records_folder(folder).mkdir(exist_ok=True, parents=True)
        write_durably(self._find_file(folder), json.dumps(asdict(self)).encode(), mode=0o600, synced=False)

    def forget(self, folder: Path) -> None:
        """Remove the record; a second call changes nothing."""
        self._find_file(folder).unlink(missing_ok=True)

    def find_owner(self) -> psutil.Process | None:
        """The living process of the command; None when it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) < 0.5 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def list_processes(self) -> list[psutil.Process]:
        """What carries the mark and lives, but never the process that asks."""
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and self._marks(process)]

    def end(self, folder: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End what carries the mark, the broker last, and forget the record; how many processes there were."""
        count = 0
        # Again until there is none: what is told to end may just have started something. But not for ever: a process
        # that starts another and ends, again and again, is gone whenever somebody looks.
        for _ in range(_ROUNDS_MAX):
            if not (found := self.list_processes()):
                break
            services = [process for process in found if not _is_last(process)]
            count += len(found)
            _end(services or found, timeout_s=timeout_s)
        self.forget(folder)
        return count

    def _find_file(self, folder: Path) -> Path:
        return find_records_folder(folder) / f"{self.mark}.json"

    def _marks(self, process: psutil.Process) -> bool:
        # Other users' processes do not show their environment, and one that has just ended has none.
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        return False


def find_records_folder(folder: Path) -> Path:
    """Where the records of a deployment's folder lie."""
    return folder / "run" / "started"


def read_records(folder: Path) -> Iterator[Started]:
    """What commands have started in this folder and not ended yet."""
    for file in sorted(find_records_folder(folder).glob("*.json")):
        # A record that another release wrote, or nobody, names nothing that this one could end: without a mark of its
        # own it would name every process that has none.
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            found = msgspec.json.decode(file.read_bytes(), type=Started)
            if file.name == f"{found.mark}.json" and found.pid > 0:
                yield found


def _end(processes: list[psutil.Process], *, timeout_s: float) -> None:
    """SIGTERM to those that others did not start, and SIGKILL to all that are left a little later than `timeout_s`."""
    pids, first = {process.pid for process in processes}, []
    # A supervisor ends its worker in order, and Ray's first process the others.
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.send_signal(signal.SIGTERM)
                first.append(process)
    _wait(first, timeout_s)
    # Those whose starter has ended had their time with it.
    left = _wait(processes, _REST_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(left, _KILL_S)


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that live after so long; a child of this process that has ended is left for its own Popen to collect."""
    give_up_s = time.monotonic() + timeout_s
    left = processes
    while left and time.monotonic() < give_up_s:
        left = [process for process in left if _is_alive(process)]
        time.sleep(0.05)
    return left


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_last(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return _LAST in process.cmdline()
    return False
