"""The gate: foreign hosts, foreign pages, strangers and floods get no further, whatever the route is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.web.access import gate
from ops.web.access.gate import BODY_BYTES_MAX, COOKIE, LOGIN_BYTES_MAX
from ops.web.access.limiting import Limiter
from tests.serving import BASE, Served, make_client, make_token, opened_site
from tests.worlds.ops_journal import TASK, memory_log

PAUSE = f"/api/v1/tasks/{TASK}/pause"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_a_foreign_host_is_refused(served: Served) -> None:
    """A page elsewhere whose name leads here still says its own name."""
    site, _ = served
    client = make_client(site)
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8700", "", "[::1"):
        assert client.get("/api/v1/tasks", headers={"Host": host}).json()["code"] == "foreign_host"
    assert client.get("/api/v1/tasks", headers={"Host": "localhost:8700"}).status_code == 200


def test_with_the_cookie_alone_nothing_changes(tmp_path: Path) -> None:
    """A browser sends it whoever wrote the form; the page's own forms know the secret, in a field or a header."""
    with opened_site(tmp_path, memory_log()) as (site, _):
        client = make_client(site, None)
        token = make_token(site.tokens, "operator")
        csrf = site.tokens.read(token).csrf
        client.cookies.set(COOKIE, token)
        for headers, body in (
            ({}, ""),
            ({"X-CSRF-Token": "wrong"}, ""),
            (FORM, "csrf=wrong"),
            ({"X-CSRF-Token": csrf, "Origin": "http://evil.example"}, ""),
            ({"X-CSRF-Token": csrf, "Origin": "null"}, ""),
            ({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}, ""),
            ({"Authorization": "Bearer "}, ""),
        ):
            refused = client.post(PAUSE, headers=headers, content=body)
            assert (refused.status_code, refused.json()["code"]) == (403, "forged_request"), headers
        for headers, body in (({"X-CSRF-Token": csrf, "Origin": BASE}, ""), (FORM, f"csrf={csrf}")):
            assert client.post(PAUSE, headers=headers, content=body).json()["code"] == "task_unknown"


def test_a_body_is_bounded_before_it_is_held(tmp_path: Path) -> None:
    """Also one that does not say how long it is."""
    with opened_site(tmp_path, memory_log()) as (site, _):
        client = make_client(site, "admin")
        parts = (b" " * 65_536 for _ in range(BODY_BYTES_MAX // 65_536 + 1))
        assert client.post("/api/v1/tasks", content=parts).status_code == 413
        assert client.post("/login", content=b"x" * (LOGIN_BYTES_MAX + 1)).status_code == 413


def test_a_strangers_body_is_not_read(served: Served) -> None:
    """Four hundred at once from one address would hold 400 MiB for half a minute, and none of them has a token."""
    site, _ = served
    with make_client(site, None) as client:
        assert client.post("/api/v1/tasks", content=b" " * (BODY_BYTES_MAX + 1)).status_code == 401


@pytest.mark.parametrize("role", [None, "viewer"])
def test_who_asks_too_often_has_to_wait(served: Served, monkeypatch: pytest.MonkeyPatch, role: str | None) -> None:
    """Tokens that are tried, and a token that is used: each with a bound of its own, told with Retry-After."""
    bursts = iter((1_000, 1_000 if role is None else 5, 5))
    monkeypatch.setattr(gate, "Limiter", lambda rate_per_s, burst: Limiter(1e-6, burst=next(bursts)))
    site, _ = served
    with make_client(site, role) as client:  # type: ignore[arg-type]
        if role is None:
            client.headers["Authorization"] = "Bearer guessed"
        answers = [client.get("/api/v1/nowhere") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [404 if role else 401] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].json()["code"] == "rate_exceeded"


def test_who_tries_tokens_at_the_door_has_to_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form and the link count as a program's tries do: then no token is looked at, and whoever is in stays in."""
    bursts = iter((1_000, 1_000, 5))
    monkeypatch.setattr(gate, "Limiter", lambda rate_per_s, burst: Limiter(1e-6, burst=next(bursts)))
    site, _ = served
    with make_client(site, "viewer") as client:
        tries = [client.post("/login", data={"token": "guessed"}), client.get("/login", params={"token": "guessed"})]
        tries += [client.post("/login", data={"token": f"guessed {number}"}) for number in range(4)]
        assert [answer.status_code for answer in tries] == [401] * 5 + [429]
        right = {"token": make_token(site.tokens, "viewer")}
        assert client.post("/login", data=right).status_code == client.get("/login", params=right).status_code == 429
        assert client.get("/login").status_code == client.get("/api/v1/tasks").status_code == 200


def test_every_answer_forbids_what_a_page_of_ours_never_does(served: Served) -> None:
    """No script of others, no frame around it, no guessing of types, and nothing kept by caches between."""
    site, _ = served
    for client in (make_client(site), make_client(site, None)):
        headers = client.get("/api/v1/tasks").headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
