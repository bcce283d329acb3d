"""Two gateways before one log that count requests in one real Redis: together, alone while it is away, together again.

`make redis` runs it, with Debian's server: apt install redis-server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ops.gateway.access import shared
from ops.gateway.access.limits import Limits, Rate
from ops.gateway.access.shared import open_shared
from ops.gateway.gates import Outside
from tests.worlds.device_world import TASK
from tests.worlds.gateway.asking import Behind, ask, opened, wait_until
from tests.worlds.gateway.served import served
from tests.worlds.stage import say

RATE = Rate(20, 600)


class Redis:
    """A server of its own on a free port, with nothing on disk."""

    def __init__(self, folder: Path) -> None:
        assert shutil.which("redis-server"), "there is no redis-server: apt install redis-server"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._child = subprocess.Popen(words, cwd=self._folder, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until(self._listens)

    def end(self) -> None:
        """Kill it."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that runs."""
    server = Redis(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.end()


@contextmanager
def two(folder: Path, redis: Redis) -> Iterator[tuple[Behind, str]]:
    """A gateway before a world, and the address of a second one."""

    def outside() -> Outside:
        return Outside(limits=Limits({"address": RATE}, open_shared(redis.url)))

    with (
        opened(folder / "one", outside=outside()) as behind,
        served(behind.world.log, folder / "other", outside=outside()) as url,
    ):
        yield behind, url


def count_served(urls: list[str], times: int) -> int:
    """How many of so many requests, by turns, are answered."""
    statuses = [ask(urls[number % len(urls)], "GET", f"/v1/tasks/{TASK}").status for number in range(times)]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def where(url: str) -> str:
    """Where a gateway says that it counts."""
    told = ask(url, "GET", "/readyz")
    return str(json.loads(told.data)["limits"])


def test_gateways_count_together_and_alone(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: one bucket for all gateways; without Redis each has its own, nobody waits, and readiness says so."""
    monkeypatch.setattr(shared, "RETRY_S", 1.0)
    (tmp_path / "one").mkdir()
    with two(tmp_path, redis) as (behind, other):
        urls = [behind.url, other]
        assert count_served(urls, 2 * RATE.amount) == RATE.amount
        assert [where(url) for url in urls] == ["shared", "shared"]
        redis.end()
        begun_s = time.monotonic()
        # Each has a bucket of its own, which was full until now.
        assert count_served(urls, 4 * RATE.amount) == 2 * RATE.amount
        say(f"{4 * RATE.amount} requests without Redis: {time.monotonic() - begun_s:.2f} s")
        assert [where(url) for url in urls] == ["own: Redis is away"] * 2
        redis.start()
        time.sleep(1.5)
        # It has forgotten what it knew, and both count in it again.
        assert count_served(urls, 2 * RATE.amount) == RATE.amount
        assert [where(url) for url in urls] == ["shared", "shared"]
