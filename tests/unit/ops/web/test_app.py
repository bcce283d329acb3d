"""The application as a whole: nothing is open that nobody opened."""

from __future__ import annotations

from tests.serving import Served, make_client


def test_every_route_without_a_token_answers_401(served: Served) -> None:
    """Each route that the server has, found in the server itself; what lets people in are the exceptions."""
    site, _ = served
    client = make_client(site, None)
    app = client.app
    paths = {getattr(route, "path", "") for route in app.router.routes}  # type: ignore[attr-defined]
    assert {"/login", "/logout", "/api/v1/openapi.json"} <= paths
    # Style and script are what the form for the token is made of.
    closed = {path for path in paths - {"/login"} if not path.startswith("/assets/")}
    for path in [*sorted(closed), "/api/v1/nowhere", "/api/v1/position"]:
        for method in ("GET", "POST", "DELETE"):
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"


def test_the_position_is_that_of_the_history(served: Served) -> None:
    """What the API says is what the file says."""
    site, history = served
    answer = make_client(site).get("/api/v1/position")
    assert (answer.status_code, answer.json()) == (200, {"position": str(history.position)})
