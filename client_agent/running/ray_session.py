"""Ray for one large fleet: reached on loopback alone, with a token of its own, and ended with all that it started.

`running/fleet.py` runs its processes here; nothing else of fedlog knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import structlog
from ray._common.usage import usage_lib
from ray._private import ray_constants, services
from ray._private import worker as ray_worker
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from client_agent.files import write_durably
from client_agent.running.plain_session import COLLECT_S, STOP_S, FleetError
from client_agent.running.scratch import make_scratch

SCRATCH = Path("/tmp")  # noqa: S108 - what is made there is ours alone
OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum; only counts go through it
CALL_S = 60.0
START_S = 120.0  # Ray itself has 30, which is short on a busy machine

_SPANS_MACHINES = ray_constants.ENABLE_RAY_CLUSTER

logger = structlog.get_logger(__name__)


class RaySession:
    """One Ray on this machine and the actors in it. `start` and `stop` cannot be interrupted half-way."""

    def __init__(self) -> None:
        self._actors: list[Any] = []
        self._asked: dict[int, Any] = {}
        self._scratch: Path | None = None
        self._environment: dict[str, str | None] = {}

    def start(self, *, processes: int) -> None:
        """Start Ray. Raises FleetError where it does not start, or this process uses it already."""
        if ray.is_initialized():
            raise FleetError("Ray is already in use in this process; a fleet needs its own")
        # Ray's sockets are in here, and their paths must be short: never in a user's folder.
        self._scratch = make_scratch(SCRATCH)
        self._shut_out_others(self._scratch)
        ray_worker.print_to_stdstream = _note_message
        usage_lib.set_usage_stats_enabled_via_env_var(False)  # Ray would report each start to its developers
        try:
            with _wait_for_node(START_S):
                ray.init(
                    address="local",
                    num_cpus=processes,
                    num_gpus=0,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=OBJECT_STORE_BYTES,
                    # Inside a folder of ours alone: Ray opens its own to all, and through its sockets run pickles.
                    _temp_dir=str(self._scratch / "r"),
                )
        # Ray says this with a bare Exception, for instance where a machine needs longer still.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise FleetError(
                f"Ray did not start ({reason}); start the fleet again when the machine is less busy"
            ) from error

    def spawn(self, kind: type, *arguments: object) -> None:
        """Start a process with one object of `kind` in it; Ray starts it again when it dies."""
        actor: Any = ray.remote(num_cpus=1, max_restarts=-1)(kind)
        self._actors.append(actor.remote(*arguments))

    def begin(self, method: str) -> None:
        """Have each process call `method`. Raises FleetError when one fails, or does not answer within a minute."""
        try:
            ray.get([getattr(actor, method).remote() for actor in self._actors], timeout=CALL_S)
        except ray.exceptions.RayTaskError as error:
            # Ray's own text is twenty lines of its frames; what a person can act on is what our code said.
            raise FleetError(f"a process of the fleet failed: {error.cause}") from error
        except ray.exceptions.RayError as error:
            raise FleetError(f"a process of the fleet does not answer: {error}") from error

    def collect(self, method: str) -> list[Any]:
        """The same without waiting for all: None for a process that is busy, or being started again."""
        for place, actor in enumerate(self._actors):
            # One question at a time, so that a busy process does not find a queue of them.
            if place not in self._asked:
                self._asked[place] = getattr(actor, method).remote()
        ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=COLLECT_S)
        return [self._take_answer(place) for place in range(len(self._actors))]

    def _take_answer(self, place: int) -> Any:
        try:
            answer = ray.get(self._asked[place], timeout=0)
        except ray.exceptions.GetTimeoutError:
            return None
        except ray.exceptions.RayTaskError as error:
            raise FleetError(f"a process of the fleet failed: {error.cause}") from error
        # It died, and Ray starts it again.
        except ray.exceptions.RayActorError:
            answer = None
        except ray.exceptions.RayError as error:
            raise FleetError(f"a process of the fleet does not answer: {error}") from error
        del self._asked[place]
        return answer

    def stop(self, method: str) -> None:
        """Call `method` in each process, end every process of Ray, and remove what it wrote."""
        try:
            # A process that does not stop in time is ended by the shutdown below.
            if stopped := [getattr(actor, method).remote() for actor in self._actors]:
                ray.wait(stopped, num_returns=len(stopped), timeout=STOP_S)
        except ray.exceptions.RayError as error:
            logger.warning("fleet_stop_failed", error=str(error))
        finally:
            self._actors, self._asked = [], {}
            ray.shutdown()
            _set_environment(self._environment)
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _shut_out_others(self, scratch: Path) -> None:
        """Whoever reaches Ray runs code as this user: it listens on loopback alone, and asks for a token there."""
        token = scratch / "token"
        write_durably(token, secrets.token_hex(32).encode(), synced=False)
        wanted = {
            # Under this name Ray has the switch that keeps it to one machine; it resolves 127.0.0.1 to another address.
            ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": None,
            "RAY_AUTH_TOKEN_PATH": str(token),
            # Devices may compute on an accelerator that Ray is not asked for; by default it would hide it from them.
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }
        self._environment = {name: os.environ.get(name) for name in wanted}
        _set_environment(wanted)


def _note_message(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    """What Ray says of its processes, such as that one died."""
    del ignore_prefix
    logger.info("ray_says", lines=[line[:200] for line in data["lines"]])


@contextlib.contextmanager
def _wait_for_node(limit_s: float) -> Iterator[None]:
    """Within the block Ray's own process has so long to appear: this is how Ray asks for it, and gives up."""
    asked: Any = services.get_node
    give_up_s = time.monotonic() + limit_s

    def ask(*arguments: Any, **named: Any) -> Any:
        while True:
            try:
                return asked(*arguments, **named)
            except RuntimeError:
                if time.monotonic() > give_up_s:
                    raise
            time.sleep(0.1)

    services.get_node = ask
    try:
        yield
    finally:
        services.get_node = asked


def _set_environment(values: Mapping[str, str | None]) -> None:
    """Set or unset variables of Ray, here and in what it has read of them already."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    on_one_machine = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR) == "0"
    # Ray has read this one when it was imported, and the token and the mode as well.
    ray_constants.ENABLE_RAY_CLUSTER = _SPANS_MACHINES and not on_one_machine
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
