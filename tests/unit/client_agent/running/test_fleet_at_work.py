"""A fleet at work: devices that cannot load their data, who reaches its processes, and who else may use its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from client_agent.learning.data import Part
from client_agent.learning.plugins import resolve
from client_agent.locks import FolderInUse
from client_agent.running.fleet import DATA, Fleet
from tests.unit.client_agent.running.test_fleet import children, options


def uneven(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """A share for everybody but two: one is empty, as a Dirichlet split makes them, one loader ends its process."""
    if part.index == 2:
        return np.zeros((0, 64), np.float32), np.zeros(0, np.int64)
    if part.index == 7:
        sys.exit("no licence")
    shares: tuple[np.ndarray, np.ndarray] = resolve(DATA)(part)
    return shares


@pytest.fixture(scope="module")
def uneven_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet at work, two of whose twelve devices cannot load their data."""
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(options(folder, data=f"{__name__}:uneven")) as fleet:
        yield fleet


def test_one_device_s_data_stop_no_other(uneven_fleet: Fleet) -> None:
    """Guarantee: a device whose data cannot be read has failed, with its reason; an empty one is no failure."""
    deadline = time.monotonic() + 60
    while ((stats := uneven_fleet.count()).checked_in < 5 or stats.loading) and time.monotonic() < deadline:
        assert (stats.devices, stats.failed + stats.loading <= 12) == (12, True)
        time.sleep(0.1)
    assert (stats.devices, stats.failed, stats.checked_in >= 5) == (12, 1, True)
    assert stats.error.startswith("sim0-00007: DataError: ")
    assert "no licence" in stats.error
    assert sorted(stats.failed_for.values()) == [1]
    assert not any("for device" in reason for reason in stats.failed_for)


def test_ray_is_reached_from_this_machine_alone_and_with_a_token(uneven_fleet: Fleet) -> None:
    """Guarantee: no process of a fleet listens on another interface, and none answers whoever has no token."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert "::ffff:127.0.0.1" in listening or "127.0.0.1" in listening
    address = ray.get_runtime_context().gcs_address
    ask = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None, 5)"
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    codes = [
        subprocess.run([sys.executable, "-c", ask, address], env=env, capture_output=True, check=False).returncode
        for env in (os.environ, stranger, stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64})
    ]
    assert codes == [0, 1, 1]
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    # What Ray writes it opens to all users, so that the folder around it has to keep them out.
    assert [path.stat().st_mode & 0o077 for path in (token, token.parent)] == [0, 0]
    assert [*token.parent.glob(f"*/session_*_{os.getpid()}")]


def test_two_fleets_never_share_their_devices(uneven_fleet: Fleet) -> None:
    """Guarantee: a second fleet with the same folder, seed and task is refused and told by whom; nothing is started."""
    before = children()
    with pytest.raises(FolderInUse, match=rf"process {os.getpid()}\b"):
        Fleet(uneven_fleet.options).start()
    assert children() == before
