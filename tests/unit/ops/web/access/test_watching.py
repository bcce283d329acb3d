"""A server counts its answers by route and status, and nothing that a stranger could fill its memory with."""

from __future__ import annotations

from prometheus_client import generate_latest
from starlette.testclient import TestClient

from ops.web.access.watching import Books
from ops.web.app import make_app
from tests.serving import BASE, Served


def test_answers_are_counted_by_route_and_status(served: Served) -> None:
    """Law: the service level counts every answer, those of the gate too; addresses are counted as their routes."""
    site, _ = served
    books = Books()
    books.watch(log_answers=lambda: True, streams=lambda: site.watchers.count)
    client = TestClient(make_app(site, books), base_url=BASE)
    token = site.tokens.issue(subject="me", role="viewer", expires_s=60)
    client.headers["Authorization"] = f"Bearer {token}"
    assert client.get("/tasks").status_code == 200
    for name in ("a", "b", "c"):
        client.get(f"/tasks/{name}")
        client.get(f"/{name}/{name}/{name}")
    client.headers["Authorization"] = "Bearer nonsense"
    assert client.get("/api/v1/tasks").status_code == 401
    text = generate_latest(books.instruments.registry).decode()
    counted = [line for line in text.splitlines() if line.startswith("fedlog_serve_requests_total")]
    assert 'fedlog_serve_requests_total{route="/tasks",status="200"} 1.0' in counted
    assert 'fedlog_serve_requests_total{route="/tasks/{task}",status="404"} 3.0' in counted
    # What is no route, and what never came to one.
    assert 'fedlog_serve_requests_total{route="none",status="404"} 3.0' in counted
    assert 'fedlog_serve_requests_total{route="none",status="401"} 1.0' in counted
    assert len(counted) == 4
    assert "fedlog_serve_log_answers 1.0" in text
    assert "fedlog_serve_streams 0.0" in text
