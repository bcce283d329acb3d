"""The page as a browser or curl gets it: every view at every moment, for every role."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from ops.history.tables.serving import WriterGone
from ops.web.app import make_app
from ops.web.callers import Caller, Role
from ops.web.page.assets_index import NAMES, address_of, read_asset
from ops.web.page.layout import Page
from ops.web.page.moment import Moment
from ops.web.page.pages import Pages
from ops.web.page.routes import parse_number, render_login
from ops.web.site import Site
from tests.gallery import DONE, MAIN, paint
from tests.serving import make_client, make_token, opened_site
from tests.worlds.builders import device_id, policy
from tests.worlds.federation import Federation

WEIGHT_MAX = 150_000
PATHS = [
    "/tasks",
    f"/tasks/{MAIN}",
    f"/tasks/{DONE}",
    f"/tasks/{MAIN}/versions/0",
    f"/tasks/{MAIN}/versions/5",
    f"/tasks/{MAIN}/versions/5?with=3",
    "/events",
    f"/events?task={MAIN}&kind=UpdateAdmitted",
    f"/records/rounds/{paint().partition}/60",
    "/devices",
    f"/devices?task={MAIN}&cohort=phones",
    f"/devices/{device_id(MAIN + '-0')}",
    "/privacy",
    f"/privacy?task={MAIN}",
    "/system",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on the gallery's history."""
    with opened_site(tmp_path_factory.mktemp("site"), paint().log) as (opened, _):
        yield opened


@pytest.fixture(scope="module", params=["viewer", "operator"])
def client(request: pytest.FixtureRequest, site: Site) -> TestClient:
    """Somebody who only looks, and somebody who may change tasks."""
    return make_client(site, request.param)


@pytest.fixture(scope="module")
def assets_bytes(site: Site) -> int:
    """What every view loads beside itself."""
    client = make_client(site)
    return sum(len(client.get(address_of(name)).content) for name in NAMES)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("at", ["", f"{MAIN}@7", "2023-11-14T22:15:00.000"])
def test_every_view_answers_at_every_moment(client: TestClient, path: str, at: str, assets_bytes: int) -> None:
    """A bookmark of any view at any time is a page, which weighs little and names no other host."""
    answer = client.get(path if not at else f"{path}{'&' if '?' in path else '?'}at={at}")
    assert answer.status_code == 200
    assert len(answer.content) + assets_bytes <= WEIGHT_MAX
    assert not re.findall(r"(?:src|href|action)=\"(?!/|#)", answer.text)


def test_the_same_moment_is_the_same_page(client: TestClient) -> None:
    """A view is a function of the history at a position: what came later is not on a page of earlier."""
    then = client.get(f"/tasks/{MAIN}", params={"at": f"{MAIN}@5"}).text
    assert f"/tasks/{MAIN}/versions/5?" in then
    assert f"/tasks/{MAIN}/versions/6?" not in then
    assert "hx-sse:connect" not in then
    assert 'id="to-now"' in then


@pytest.mark.parametrize("name", NAMES)
def test_style_and_script_are_packed_for_whoever_unpacks(site: Site, name: str) -> None:
    """The same bytes either way, and a cache between tells them apart; a page, which holds a secret, is not packed."""
    client = make_client(site)
    plain = client.get(address_of(name), headers={"Accept-Encoding": "identity"})
    packed = client.get(address_of(name), headers={"Accept-Encoding": "gzip, br"})
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert packed.content == plain.content == read_asset(name)
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in client.get("/tasks", headers={"Accept-Encoding": "gzip"}).headers


def test_the_frame_of_a_task_goes_ahead_of_its_view(site: Site) -> None:
    """Head and navigation can be painted before the view is asked for; what fails after that is said below them."""
    told: list[str] = []

    def refuse(moment: Moment, asked: Mapping[str, str]) -> Page | None:
        told.append("asked")
        raise WriterGone("it is gone")

    pages = Pages(site)
    request = Request({"type": "http", "path": f"/tasks/{MAIN}", "query_string": b"", "headers": []})
    request.state.caller = Caller(subject="ada", role="viewer")
    parts = pages._write(request, refuse, title=MAIN, moment=pages.make_moment(request))
    frame = next(parts)
    assert told == []
    assert f"<title>{MAIN} · fedlog</title>" in frame
    assert '<a href="/tasks" data-key="t" aria-current="page">' in frame
    rest = "".join(parts)
    assert "it is gone Load the page again." in rest
    assert rest.endswith("</body></html>")
    whole = make_client(site).get(f"/tasks/{MAIN}").text
    assert whole.count("<body") == whole.count("</html>") == 1


def test_what_is_not_there_is_said(client: TestClient) -> None:
    """A task, a version or a moment of no history has a page that says so, with its status."""
    assert client.get("/tasks/nobodys").status_code == 404
    assert client.get(f"/tasks/{MAIN}/versions/999").status_code == 404
    refused = client.get("/tasks", params={"at": "yesterday"})
    assert refused.status_code == 422
    assert "neither TASK@VERSION nor a time" in refused.text
    assert client.get("/assets/0/../routes.py").status_code == 404


def test_what_devices_name_is_text(tmp_path: Path) -> None:
    """Cohorts, labels and arguments with markup in them are shown as what they are, on every view."""
    world = Federation(policy(model_arguments={"<script>alert(1)</script>": 1}), parameters=4)
    for name in "abc":
        world.device(name).check_in()
        world.settle()
        world.device(name).submit(np.ones(4, np.float32), world.rules)
        world.settle()
    with opened_site(tmp_path, world.log) as (site, _):
        client = make_client(site, "operator")
        device = device_id("a")
        paths = [
            "/tasks",
            "/tasks/digits",
            "/tasks/digits/versions/1",
            "/devices",
            f"/devices/{device}",
            "/events",
            "/events?kind=LeaseGranted",
            "/events?reason=<script>alert(3)</script>",
            "/privacy",
            "/system",
            "/tasks/<script>alert(4)</script>",
        ]
        for path in [*paths, f"/records/tasks/{world.partition}/0"]:
            text = client.get(path).text
            assert "<script>alert" not in text, path
        assert "&lt;script&gt;alert(1)" in client.get(f"/records/tasks/{world.partition}/0").text


def test_only_operators_see_what_changes_tasks(site: Site) -> None:
    """Whoever may change nothing is offered nothing, and whoever may not create offers no fork."""
    roles: tuple[Role, ...] = ("viewer", "operator", "admin")
    pages = {role: make_client(site, role).get(f"/tasks/{MAIN}").text for role in roles}
    offered = {role: [f"/tasks/{MAIN}/{name}" in text for name in ("pause", "fork")] for role, text in pages.items()}
    assert offered == {"viewer": [False, False], "operator": [True, False], "admin": [True, True]}


def test_secrets_of_a_private_task_are_not_for_viewers(site: Site) -> None:
    """Clip scales and digests of updates stand on an operator's page of a version, and on no viewer's."""
    path = f"/tasks/{MAIN}/versions/5"
    digest = site.reader.ask("SELECT sha256 FROM updates WHERE task = $task AND version = 5", parameters={"task": MAIN})
    secret = digest.rows[0][0]
    assert secret in make_client(site, "operator").get(path).text
    assert secret not in make_client(site, "viewer").get(path).text


def test_states_of_actors_are_for_operators(site: Site) -> None:
    """What a record changed in a state, which names devices and their weights, is on no viewer's page."""
    asked = (
        """SELECT topic, "partition", "offset" FROM events WHERE event = 'UpdateAdmitted' AND task = $task LIMIT 1"""
    )
    topic, partition, offset = site.reader.ask(asked, parameters={"task": MAIN}).rows[0]
    path = f"/records/{topic}/{partition}/{offset}"
    shown = {role: "part of the state" in make_client(site, role).get(path).text for role in ("viewer", "operator")}
    assert shown == {"viewer": False, "operator": True}


def test_a_stream_goes_on_where_its_page_was(site: Site) -> None:
    """Whoever comes back with the position that the page has gets beats alone, and everybody else all sections."""
    app = make_app(site)

    async def read_first(*headers: tuple[bytes, bytes]) -> bytes:
        sent: asyncio.Queue[bytes] = asyncio.Queue()
        token = make_token(site.tokens, "viewer").encode()
        asked = [(b"host", b"localhost"), (b"authorization", b"Bearer " + token), *headers]
        path = f"/live/tasks/{MAIN}"
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": asked}
        gone = asyncio.Event()

        async def receive() -> dict[str, object]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message.get("body"):
                sent.put_nowait(message["body"])

        answering = asyncio.create_task(app({**scope, "http_version": "1.1", "root_path": ""}, receive, send))
        try:
            return await asyncio.wait_for(sent.get(), 60)
        finally:
            gone.set()
            answering.cancel()

    async def look() -> tuple[bytes, bytes]:
        watching = asyncio.create_task(site.changes.watch())
        try:
            position = str(site.reader.position).encode()
            return await read_first(), await read_first((b"last-event-id", position))
        finally:
            watching.cancel()

    first, again = asyncio.run(look())
    assert first.startswith(b"id: ")
    assert again.startswith(b"event: beat")


def test_whoever_has_no_token_gets_the_form(site: Site) -> None:
    """A browser without a token is asked for one, and told nothing else."""
    answer = make_client(site, None).get(f"/tasks/{MAIN}", headers={"Accept": "text/html"})
    assert answer.status_code == 401
    assert 'name="token"' in answer.text
    assert "accuracy" not in answer.text


def test_the_form_escapes_what_it_repeats() -> None:
    """The address that somebody asked for stands in the form, whatever it is."""
    text = render_login(problem="<script>", next_path='/"><script>alert(1)</script>')
    assert "<script>" not in text.replace('<script src="', "")


@pytest.mark.parametrize("text", ["", "x", "-1", "٣", "9" * 40])
def test_no_number_is_none(text: str) -> None:
    """What an address names is a number or nothing."""
    assert parse_number(text) is None
