"""What operators may do asks back first, is done once, and is for nobody else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ops.operator.deployments import establish
from ops.web.site import Site
from tests.gallery import DONE, MAIN, STILL, Gallery
from tests.serving import make_client, opened_site
from tests.worlds.builders import DEPLOYMENT, KEY

ACTIONS = ("pause", "resume", "close", "fork")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on a gallery of its own, because these tests change it."""
    gallery = Gallery(versions=6)
    gallery.play()
    # Whoever signs later must find the deployment that has signed until then.
    establish(gallery.log, KEY, deployment=DEPLOYMENT)
    with opened_site(tmp_path_factory.mktemp("site"), gallery.log) as (opened, _):
        yield opened


@pytest.mark.parametrize("name", ACTIONS)
def test_each_asks_back_and_changes_nothing_by_asking(site: Site, name: str) -> None:
    """The page with the question has a form to the same address, and a way out."""
    before = site.reader.ask("SELECT count(*) FROM events WHERE event LIKE 'Task%'").rows
    text = make_client(site, "operator").get(f"/tasks/{MAIN}/{name}").text
    assert f'action="/tasks/{MAIN}/{name}"' in text
    assert "Leave it" in text
    assert site.reader.ask("SELECT count(*) FROM events WHERE event LIKE 'Task%'").rows == before


@pytest.mark.parametrize("name", ACTIONS)
def test_viewers_may_do_none_of_it(site: Site, name: str) -> None:
    """Neither the question nor the deed is for whoever only looks."""
    viewer = make_client(site, "viewer")
    assert viewer.get(f"/tasks/{MAIN}/{name}").status_code == 403
    assert viewer.post(f"/tasks/{MAIN}/{name}", data={}).status_code == 403
    assert viewer.get(f"/tasks/{MAIN}/versions/3/recompute").status_code == 403
    assert viewer.post("/system/kill").status_code == 403


def test_a_fork_may_have_a_budget_of_its_own(site: Site) -> None:
    """The form of a private task names what is spent; what is no amount is refused before anything is written."""
    admin = make_client(site, "admin")
    assert 'name="rho_max"' in admin.get(f"/tasks/{MAIN}/fork?version=3").text
    assert 'name="rho_max"' not in admin.get(f"/tasks/{DONE}/fork?version=3").text
    refused = admin.post(f"/tasks/{MAIN}/fork", data={"version": "3", "name": "campus.more", "rho_max": "x"})
    assert (refused.status_code, "rho_max: no number." in refused.text) == (422, True)


def test_what_is_refused_is_told_where_it_was_asked(site: Site) -> None:
    """A task that is over cannot be paused, and a fork needs a version that there is."""
    client = make_client(site, "operator")
    refused = client.post(f"/tasks/{DONE}/pause", data={})
    assert refused.status_code >= 400
    assert 'role="alert"' in refused.text
    assert client.post(f"/tasks/{MAIN}/fork", data={"version": "x", "name": "campus.fork"}).status_code >= 400
    assert client.post("/tasks/nobodys/pause", data={}).status_code == 404


def test_a_version_is_recomputed_where_one_asks(site: Site) -> None:
    """The verdict comes alone for a part of a page, and in a frame of its own without script."""
    client = make_client(site, "operator")
    part = client.get(f"/tasks/{MAIN}/versions/3/recompute", headers={"HX-Request": "true"}).text
    assert part.startswith("<p")
    assert "Identical" in part
    assert "<html" in client.get(f"/tasks/{MAIN}/versions/3/recompute").text
    assert "Nothing to compare" in client.get(f"/tasks/{MAIN}/versions/0/recompute").text


def test_what_is_done_is_seen_on_the_page_that_follows(site: Site) -> None:
    """Whoever resumes is led to the task, which runs by then; whoever may not fork is told so where it was asked."""
    operator = make_client(site, "operator")
    answer = operator.post(f"/tasks/{STILL}/resume", data={})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/tasks/{STILL}")
    assert "paused" not in operator.get(f"/tasks/{STILL}").text
    refused = operator.post(f"/tasks/{STILL}/fork", data={"version": "2", "name": f"{STILL}-b"})
    assert refused.status_code == 403
    assert 'role="alert"' in refused.text


def test_only_a_demo_can_be_killed_from_the_page(site: Site) -> None:
    """Without the demo's own word there is no button, and posting kills nothing; with it, once a post."""
    client = make_client(site, "operator")
    assert "Only a demo" in client.post("/system/kill").text
    assert "/system/kill" not in client.get("/system").text
    killed: list[int] = []
    demo = dataclasses.replace(site, kill=lambda: (killed.append(1), "It is dead.")[1])
    client = make_client(demo, "operator")
    assert "/system/kill" in client.get("/system").text
    assert "/system/kill" not in make_client(demo, "viewer").get("/system").text
    client.get("/system/kill")
    assert killed == []
    assert "It is dead." in client.post("/system/kill").text
    assert killed == [1]
