"""A browser logs in with a token, gets a cookie that is of no use elsewhere, and is led nowhere else."""

from __future__ import annotations

import pytest

from tests.serving import Served, make_client, make_token


def test_a_token_becomes_a_cookie(served: Served) -> None:
    """HttpOnly and SameSite=Strict; it opens what the token opens, until the browser logs out."""
    site, _ = served
    client = make_client(site, None)
    token = make_token(site.tokens, "viewer")
    done = client.post("/login", data={"token": token, "next": "/tasks/rings?at=rings@3"})
    assert (done.status_code, done.headers["location"]) == (303, "/tasks/rings?at=rings@3")
    cookie = done.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/v1/tasks").status_code == 200
    csrf = site.tokens.read(token).csrf
    assert client.post("/logout", headers={"X-CSRF-Token": csrf}).status_code == 303
    assert client.get("/api/v1/tasks").status_code == 401


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb: c", ""])
def test_a_log_in_leads_nowhere_else(served: Served, target: str) -> None:
    """What is no path of this server is its first page."""
    site, _ = served
    client = make_client(site, None)
    done = client.post("/login", data={"token": make_token(site.tokens, "viewer"), "next": target})
    assert done.headers["location"] == "/"


def test_a_person_without_a_token_is_asked_for_one(served: Served) -> None:
    """A form with 401, where a program gets a problem; what stood in the address is text in it."""
    site, _ = served
    client = make_client(site, None)
    shown = client.get("/tasks/x?q=<script>", headers={"Accept": "text/html"})
    assert (shown.status_code, shown.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert 'action="/login"' in shown.text
    assert "<script>" not in shown.text
    wrong = client.post("/login", data={"token": "<script>"})
    assert (wrong.status_code, "no token of this server" in wrong.text) == (401, True)


def test_a_link_logs_in_and_leaves_the_address(served: Served) -> None:
    """What `fedlog run` prints opens the page by one click; a token of another server opens nothing."""
    site, _ = served
    client = make_client(site, None)
    assert client.get("/login", params={"token": "x" * 40}).status_code == 401
    assert client.get("/api/v1/tasks").status_code == 401
    done = client.get("/login", params={"token": make_token(site.tokens, "viewer"), "next": "//evil.example"})
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert "samesite=strict" in done.headers["set-cookie"].lower()
    assert client.get("/api/v1/tasks").status_code == 200
