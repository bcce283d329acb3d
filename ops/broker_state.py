"""What the folder of the embedded broker says: which process it is, its ports, its password, whether it still runs.

The settings ask here how to reach the embedded broker; `ops.processes.broker` writes here what it has started.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_agent.files import write_durably

if TYPE_CHECKING:
    import psutil

USER = "fedlog"
STATE_FILE = "broker.json"
# Of a broker behind doors, beside its state: whom its clients trust, and a file for each principal.
AUTHORITY_FILE, CLIENTS = "authority.pem", "clients"
START_TIME_TOLERANCE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHandle:
    """A running embedded broker; `started_at` is its process's start time and tells it from a recycled pid.

    `password` is empty for a broker that an earlier release started: it asks for none. `authority` is the file with
    whom its clients trust, empty where it speaks no TLS.
    """

    pid: int
    started_at: float
    port: int
    controller_port: int
    password: str = field(default="", repr=False)
    authority: str = ""

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def connection(self) -> dict[str, Any]:
        """What a client needs to get in, under the names of the settings."""
        told = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": USER,
            "sasl_password": self.password,
        }
        if not self.authority:
            return told
        doors = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "ssl_cafile": self.authority}
        return {**told, **doors}


def find_running(folder: Path) -> BrokerHandle | None:
    """The broker that runs on `folder`, if any."""
    handle = read_state(folder)
    return handle if handle is not None and find_process(handle) is not None else None


def read_state(folder: Path) -> BrokerHandle | None:
    """The broker that was started last on `folder`; its process may have ended since."""
    try:
        return BrokerHandle(**json.loads((folder / STATE_FILE).read_text()))
    # A file that another release wrote is as good as none: the broker then starts as on a new folder.
    except (FileNotFoundError, ValueError, TypeError):
        return None


def has_doors(folder: Path) -> bool:
    """Whether the broker of `folder` asks by TLS and SCRAM who comes, and what for."""
    return (folder / CLIENTS).is_dir()


def list_principals(folder: Path) -> list[str]:
    """Those who have a password at the broker of `folder`, which has doors."""
    return sorted(path.stem for path in (folder / CLIENTS).glob("*.env"))


def read_password(folder: Path, principal: str) -> str:
    """The password of a principal at the broker of `folder`; empty where there is none."""
    try:
        lines = (folder / CLIENTS / f"{principal}.env").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line.partition("=")[2] for line in lines if line.startswith("FEDLOG_SASL_PASSWORD=")), "")


def write_state(folder: Path, handle: BrokerHandle) -> None:
    """Record the broker of `folder`, all of it or nothing, readable by its owner alone."""
    # A reader in another process must never see half a file, and whoever reads it can write to every topic.
    write_durably(folder / STATE_FILE, json.dumps(asdict(handle)).encode(), mode=0o600, synced=False)


def find_process(handle: BrokerHandle) -> psutil.Process | None:
    """The living process that the handle means; None when it ended or when its pid now names another one."""
    # psutil is slow to import, and most commands name their servers and never come here.
    import psutil

    try:
        process = psutil.Process(handle.pid)
        # A process id is used again after a while; only together with its start time does it name one process.
        same = abs(process.create_time() - handle.started_at) < START_TIME_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
