"""What operators change through the API: written once, seen next, and by nobody who may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.operator.deployments import name_deployment
from ops.web.callers import ROLES
from schemas.certificates import parse_certified
from schemas.creations import SERVE
from schemas.topics import TASKS
from streams.log import TopicPartition, scan
from tests.learners import PAIR_LEARNER
from tests.places import home_of
from tests.serving import make_client, opened_site
from tests.worlds.builders import KEY
from tests.worlds.ops_journal import PLACE, TASK, append, created, memory_log

POLICY = f"""
learner = "{PAIR_LEARNER}"
[selection]
devices_expected = 10
concurrency = 10
[aggregation]
updates_per_round = 3
[clipping]
norm = 1.0
[compression]
codec = "int8"
[stop]
versions_max = 5
"""


def test_a_task_is_created_paused_resumed_and_closed(tmp_path: Path) -> None:
    """Each answer waits for the history: what was written is in the very next question."""
    with opened_site(tmp_path, memory_log()) as (site, _), make_client(site, "admin") as client:
        made = client.post("/api/v1/training/start", json={"name": TASK, "policy": POLICY})
        assert (made.status_code, made.headers["location"]) == (201, f"/api/v1/tasks/{TASK}")
        assert client.get(made.headers["location"]).json()["task"]["status"] == "created"
        assert client.post("/api/v1/tasks", json={"name": TASK, "policy": POLICY}).json()["code"] == "task_exists"
        for verb, status in (("pause", "paused"), ("resume", "created"), ("close", "closing")):
            done = client.post(f"/api/v1/tasks/{TASK}/{verb}")
            assert (done.status_code, done.json()["seen"]) == (200, True), verb
            shown = client.get(f"/api/v1/tasks/{TASK}", params={"not_older_than": done.json()["position"]})
            assert shown.json()["task"]["status"] == status


@pytest.mark.parametrize("role", ROLES)
def test_who_may_not_change_anything_writes_nothing(tmp_path: Path, role: str) -> None:
    """A viewer nothing at all: no route that changes something answers otherwise than 403."""
    log = memory_log()
    with opened_site(tmp_path, log) as (site, _), make_client(site, role) as client:  # type: ignore[arg-type]
        paths = [
            path.replace("{task}", TASK)
            for path, methods in client.get("/api/v1/openapi.json").json()["paths"].items()
            if "post" in methods
        ]
        assert len(paths) > 5
        before = log.bounds(TopicPartition(TASKS.name, PLACE)).end
        answers = {client.post(path, json={}).status_code for path in paths}
        assert (answers == {403}) == (role == "viewer")
        assert log.bounds(TopicPartition(TASKS.name, PLACE)).end == before


def test_a_policy_runs_no_code_that_the_owner_did_not_allow(tmp_path: Path) -> None:
    """An operator's token is no shell: a plugin that this machine's owner did not name is not imported."""
    with opened_site(tmp_path, memory_log()) as (site, _), make_client(site, "admin") as client:
        policy = POLICY.replace(PAIR_LEARNER, "antigravity:fly")
        refused = client.post("/api/v1/tasks", json={"name": TASK, "policy": policy})
        assert (refused.status_code, refused.json()["code"]) == (422, "plugin_not_allowed")
        assert client.get(f"/api/v1/tasks/{TASK}").status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "UPPER", "policy": POLICY}, "task_name_invalid"),
        ({"name": TASK, "policy": "no toml"}, "policy_invalid"),
        ({"name": TASK, "policy": POLICY, "more": 1}, "request_invalid"),
        ({"name": TASK}, "request_invalid"),
        ([], "request_invalid"),
    ],
)
def test_what_cannot_be_created_is_told_why(tmp_path: Path, body: object, code: str) -> None:
    """With the code that the console's error has, and 422."""
    with opened_site(tmp_path, memory_log()) as (site, _), make_client(site, "admin") as client:
        refused = client.post("/api/v1/tasks", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_the_log_says_who_asked(tmp_path: Path) -> None:
    """The fact names the subject of the token, under the server's certificate; the history shows it."""
    log = memory_log()
    with opened_site(tmp_path, log) as (site, history), make_client(site, "admin") as client:
        client.post("/api/v1/tasks", json={"name": TASK, "policy": POLICY})
        client.post(f"/api/v1/tasks/{TASK}/pause")
        asked = "SELECT asked_by FROM facts.{}"
        for fact in ("task_created", "task_paused"):
            assert history.ask(asked.format(fact)).rows == [("an admin",)]
    for record in scan(log, TopicPartition(TASKS.name, PLACE)):
        # Nothing of it is the operator's own signature: that key is not used here.
        assert parse_certified(record.value or b"")


def test_a_server_that_may_not_create_tasks_creates_none(tmp_path: Path) -> None:
    """Its key is for `serve`: it pauses, and refuses to create before anything is written."""
    log = memory_log()
    append(log, TASKS.name, created(deployment=name_deployment(log, KEY)))
    with opened_site(tmp_path, log, role=SERVE) as (site, _), make_client(site, "admin") as client:
        assert client.post(f"/api/v1/tasks/{TASK}/pause").json()["seen"]
        before = log.bounds(TopicPartition(TASKS.name, home_of("other"))).end
        refused = client.post("/api/v1/tasks", json={"name": "other", "policy": POLICY})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        assert log.bounds(TopicPartition(TASKS.name, home_of("other"))).end == before


def test_an_operator_does_not_create(tmp_path: Path) -> None:
    """Creating and forking are an admin's; an operator pauses, resumes and closes."""
    with opened_site(tmp_path, memory_log()) as (site, _), make_client(site, "operator") as client:
        for path, body in (("tasks", {"name": "x", "policy": POLICY}), ("tasks/x/fork", {"name": "y", "version": 0})):
            assert client.post(f"/api/v1/{path}", json=body).json()["code"] == "not_allowed"
        assert client.post("/api/v1/tasks/x/pause").json()["code"] == "task_unknown"
