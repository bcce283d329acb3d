"""A gateway that ends: whoever waits is told where it stands, and what was taken in is in the log."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.log import Draft
from tests.worlds.gateway.asking import Behind, Told, opened, wait_until
from tests.worlds.gateway.raw import connected


def test_who_waits_is_answered_when_the_gateway_ends(tmp_path: Path) -> None:
    """Guarantee: a request that could wait for 25 s more gets 202 and where to ask, from any gateway."""
    told = list[Told]()
    with opened(tmp_path) as behind:
        message = behind.checkin()
        asking = threading.Thread(
            target=lambda: told.append(behind.ask("POST", "/v1/check-ins", message, Prefer="wait=25"))
        )
        asking.start()
        wait_until(lambda: behind.world.records("checkins"))
        time.sleep(0.2)
        began_s = time.monotonic()
    asking.join()
    assert (told[0].status, told[0].headers["location"]) == (
        202,
        f"/v1/check-ins/{hashlib.sha256(message).hexdigest()}",
    )
    # Not a figure, but a bound: a server that ends cuts off whoever takes five seconds.
    assert time.monotonic() - began_s < 5.0


def test_what_was_taken_in_is_acknowledged_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a request whose record is on its way to a slow log is answered 202 for what then stands there."""
    told, reached = list[Told](), threading.Event()
    with opened(tmp_path) as behind:
        slow_down(behind, reached, monkeypatch)
        asking = threading.Thread(target=lambda: told.append(behind.ask("POST", "/v1/check-ins", behind.checkin())))
        asking.start()
        assert reached.wait(20)
    asking.join()
    assert told[0].status == 202
    assert len(behind.world.records("checkins")) == 1


def slow_down(behind: Behind, reached: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the log takes a second for each append."""
    append = behind.world.log.append

    def slow(drafts: list[Draft]) -> list[int]:
        reached.set()
        time.sleep(1.0)
        return append(drafts)

    monkeypatch.setattr(behind.world.log, "append", slow)


def test_an_idle_connection_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """Guarantee: connections that are kept open are closed, and their devices open another elsewhere."""
    with ExitStack() as stack:
        with opened(tmp_path) as behind:
            raw = stack.enter_context(connected(behind.url))
            raw.begin("GET", "/healthz", {})
            assert raw.read_head().startswith("HTTP/1.1 200")
        # It would time out otherwise: nobody else has it closed.
        assert b"HTTP" not in raw.read_until_cut()
