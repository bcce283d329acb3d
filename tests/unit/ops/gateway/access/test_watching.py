"""What a gateway tells about its requests: every answer and refusal counted, and nothing of a device in it."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from ops.gateway.access.limits import Limits, Rate
from ops.gateway.access.watching import Books
from ops.gateway.gates import Outside
from schemas.leases import read_lease
from streams.log import LogUnavailable
from tests.worlds.device_world import TASK
from tests.worlds.gateway.asking import Behind, carrying, opened, wait_until
from tests.worlds.gateway.raw import connected


@contextlib.contextmanager
def watched(folder: Path, **outside: object) -> Iterator[tuple[Behind, Books]]:
    """A gateway, and what it has counted."""
    books = Books()
    with opened(folder, outside=Outside(books=books, **outside)) as behind:  # type: ignore[arg-type]
        yield behind, books


def count(books: Books, name: str, **labels: str) -> float:
    """A figure, as Prometheus would see it."""
    return books.instruments.registry.get_sample_value(f"fedlog_gateway_{name}", labels) or 0.0


def test_every_answer_and_refusal_is_counted(tmp_path: Path) -> None:
    """Guarantee: by route and status, and a refusal by its reason, also of gates and of what is no request."""
    limits = Limits({"address": Rate(6, 99_999)})
    with watched(tmp_path, limits=limits) as (behind, books):
        behind.ask("GET", f"/v1/tasks/{TASK}")
        behind.ask("POST", "/v1/check-ins", b"junk")
        behind.ask("GET", "/anything/else")
        behind.ask("GET", "/v1/tasks/nobody", X="a" * 20_000)
        with connected(behind.url) as raw:
            raw.send(b"junk\r\n\r\n")
            raw.read_all()
        for _ in range(3):
            behind.ask("GET", "/v1/deployment")
        expected = {"request_unreadable": 2, "not_found": 1, "head_too_large": 1, "too_often": 1}
        # An answer is counted once it is out.
        wait_until(lambda: count(books, "refusals_total", code="too_often") == 1)
        assert {code: count(books, "refusals_total", code=code) for code in expected} == expected
        assert count(books, "requests_total", route="/v1/tasks/{task}", status="200") == 1
        assert count(books, "requests_total", route="/v1/check-ins", status="400") == 1
        assert count(books, "requests_total", route="none", status="404") == 1
        assert count(books, "request_seconds_count", route="/v1/deployment") == 2


def test_how_things_stand_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: who waits, what is not acknowledged, uploads, and whether Kafka answers, at the time of a scrape."""
    with watched(tmp_path) as (behind, books):
        asking = threading.Thread(
            target=lambda: behind.ask("POST", "/v1/check-ins", behind.checkin(), Prefer="wait=20"), daemon=True
        )
        asking.start()
        wait_until(lambda: count(books, "waiting") == 1)
        assert (count(books, "log_answers"), count(books, "limits_shared"), count(books, "uploads")) == (1, 1, 0)

        def refuse(drafts: object) -> list[int]:
            raise LogUnavailable("no broker")

        monkeypatch.setattr(behind.world.log, "append", refuse)
        assert behind.ask("POST", "/v1/check-ins", behind.checkin(sent_ms=2)).status == 503
        assert count(books, "log_answers") == 0
    asking.join()
    # Whoever waited was told where to ask when the gateway ended.
    assert count(books, "requests_total", route="/v1/check-ins", status="202") == 1


def test_the_log_of_requests_tells_nothing_of_a_device(tmp_path: Path) -> None:
    """Guarantee: no body, lease, key, digest or name of a device stands in a line or a figure."""
    with capture_logs() as lines, watched(tmp_path, logs_access=True) as (behind, books):
        sealed, checkin = behind.lease(), behind.checkin()
        place = behind.ask("POST", "/v1/check-ins", checkin).headers["location"]
        behind.ask("GET", place)
        behind.ask("POST", "/v1/updates", behind.update(sealed), carrying(sealed))
        behind.ask("GET", f"/v1/updates/{read_lease(sealed).lease}", b"", carrying(sealed))
        behind.ask("GET", "/v1/tasks/my-secret-name?token=hunter2")
        behind.ask("GET", "/hunter2", Authorization="Bearer hunter2")
        wait_until(lambda: sum(line["event"] == "request" for line in lines) == 6)
    asked = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in asked] == [
        ("POST", "/v1/check-ins", 202),
        ("GET", "/v1/check-ins/{digest}", 202),
        ("POST", "/v1/updates", 202),
        ("GET", "/v1/updates/{lease}", 202),
        ("GET", "/v1/tasks/{task}", 404),
        ("GET", "none", 404),
    ]
    assert asked[-1]["refused_for"] == "not_found"
    told = repr(lines) + generate_latest(books.instruments.registry).decode()
    secrets = [behind.phone.device, place.rpartition("/")[2], read_lease(sealed).lease, "hunter2", "my-secret-name"]
    secrets.append(base64.b64encode(sealed).decode()[:40])
    assert [secret for secret in secrets if secret in told] == []


def test_figures_are_served_at_a_port_of_their_own(tmp_path: Path) -> None:
    """Guarantee: devices do not see them, and Prometheus does."""
    with capture_logs() as lines, watched(tmp_path) as (behind, books):
        books.instruments.serve("127.0.0.1", 0)
        [port] = [line["port"] for line in lines if line["event"] == "metrics"]
        assert behind.ask("GET", "/metrics").status == 404
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"fedlog_gateway_requests_total" in answer.read()
