"""The child process of `fedlog worker`: reads its orders from stdin, runs the actor, and ends with its supervisor.

`ops.processes.supervisor` starts it. Stdin is the pipe between the two: one line of orders, so that no secret is in an
argument list, and then nothing. When the pipe closes, however the supervisor has died, the worker ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import msgspec

from actors.hosts.crash_marker import CrashMarker
from actors.keys import RoleKey
from actors.runtime.guard import InputPlace, PoisonInput
from actors.wiring import ROLES
from ops.console import note
from ops.logging_setup import set_up_logging
from ops.settings import Settings
from schemas.errors import EXIT_CONFIGURATION

STOP_TIMEOUT_S = 15.0
EXIT_UNCERTAIN = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a supervisor tells its worker: settings, its key, the open file of the crash marker, an input to skip."""

    settings: Settings
    key: RoleKey
    crash_marker: int
    poison_input: PoisonInput | None

    def encode(self) -> bytes:
        """One line of JSON."""
        fields = {
            "settings": asdict(self.settings),
            "key": msgspec.json.encode(self.key).decode(),
            "crash_marker": self.crash_marker,
            "poison_input": self.poison_input,
        }
        return json.dumps(fields, default=str).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Orders:
        """The same from its line."""
        fields = json.loads(line)
        values, poison = fields["settings"], fields["poison_input"]
        paths = {name: Path(values[name]) for name in ("folder", "operator_key_file", "epoch_keys")}
        return cls(
            settings=Settings(**{**values, **paths, "allow": tuple(values["allow"])}),
            key=msgspec.json.decode(fields["key"], type=RoleKey),
            crash_marker=fields["crash_marker"],
            poison_input=poison and PoisonInput(poison[0], InputPlace(*poison[1]), *poison[2:]),
        )


def list_inputs(actor: str) -> tuple[str, ...]:
    """The topics that an actor decides on; a shard worker decides nothing."""
    return ROLES[actor].inputs if actor in ROLES else ()


def work(actor: str) -> None:
    """Read the orders, watch the pipe, run the actor. Never returns with the pipe unwatched."""
    # A crash inside a C extension leaves no traceback otherwise.
    faulthandler.enable()
    # Where a worker waits is seen nowhere else; a signal works too while every thread is stuck.
    faulthandler.register(signal.SIGUSR1)
    # While the supervisor asks for the key; whoever hosts the actor imports it in earnest, and says what is wrong.
    with contextlib.suppress(Exception):
        import_module(_find_host(actor))
    if not (line := sys.stdin.buffer.readline()):
        sys.exit(EXIT_UNCERTAIN)
    orders = Orders.decode(line)
    threading.Thread(target=_end_with_supervisor, name="supervisor-watch", daemon=True).start()
    set_up_logging(as_json=True)
    from actors.effects.sealing.epoch_keys import EpochKeysUnusable
    from actors.expiry import KeyExpired
    from actors.hosts.metrics import MetricsUnserved
    from streams.log import LogRefused, TopicUnfit

    try:
        _host(actor, orders)
    except (EpochKeysUnusable, KeyExpired, MetricsUnserved, LogRefused, TopicUnfit) as error:
        note(f"{actor}: {error}")
        # A key, a folder, an address or a topic that is wrong stays wrong: the supervisor must not try again.
        sys.exit(EXIT_CONFIGURATION)


def _find_host(actor: str) -> str:
    return "actors.hosts.faust_app" if actor in ROLES else "actors.hosts.shard_host"


def _host(actor: str, orders: Orders) -> None:
    from actors.hosts.worker import WorkerOptions

    settings = orders.settings
    options = WorkerOptions(
        kafka=settings.kafka(f"fedlog-{actor}"),
        key=orders.key,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        # Named after the supervisor, so that a worker that restarts within the session timeout keeps its partitions.
        instance=f"{socket.gethostname()}-{os.getppid()}",
        crash_marker=CrashMarker(orders.crash_marker, list_inputs(actor)),
        poison_input=orders.poison_input,
    )
    host = import_module(_find_host(actor))
    if actor in ROLES:
        host.run(actor, options)
    else:
        host.run(options)


def _end_with_supervisor() -> None:
    """Block until the pipe closes, then end this process: in order when that is possible, in any case soon."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    # A worker without a supervisor would hold its partitions forever, which is worse than a doubtful end.
    os._exit(EXIT_UNCERTAIN)
