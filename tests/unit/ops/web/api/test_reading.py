"""What the API shows is what the history holds, a page at a time, as of any moment, and for whom it may be."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.web.api import reading
from tests.serving import Served, make_client

LISTS = ("tasks", "devices", "ledger", "ancestry", "measurements", "workers", "events")
OF_TASK = ("rounds", "versions", "updates", "leases", "evaluations")


def test_pages_together_are_the_whole_table(served: Served) -> None:
    """However small they are, each row is on exactly one page, in the same order."""
    site, history = served
    with make_client(site, "operator") as client:
        task = history.ask("SELECT task FROM versions JOIN tasks USING (task) WHERE private LIMIT 1").rows[0][0]
        for path in [*LISTS, *(f"tasks/{task}/{name}" for name in OF_TASK)]:
            whole = client.get(f"/api/v1/{path}", params={"limit": 500}).json()
            rows = _read_pages(client, f"/api/v1/{path}", limit=max(1, len(whole["rows"]) // 3))
            assert rows[:500] == whole["rows"], path
            where = f" WHERE task = '{task}'" if "/" in path else ""
            assert history.ask(f"SELECT count(*) FROM {path.rpartition('/')[2]}{where}").rows == [(len(rows),)]


def test_a_rollout_is_listed_step_by_step(served: Served) -> None:
    """What was tried, promoted and rolled back, with its reason and its scores, in the order of the journal."""
    site, history = served
    with make_client(site) as client:
        task = history.ask("SELECT task FROM rollouts LIMIT 1").rows[0][0]
        rows = client.get(f"/api/v1/tasks/{task}/rollout", params={"limit": 500}).json()["rows"]
        assert [row["step"] for row in rows[:5]] == ["staged", "started", "grown", "promoted", "staged"]
        [first, *_] = [row for row in rows if row["step"] == "rolled back"]
        assert (first["version"], first["other_version"], first["reason"]) == (2, 1, "drop")
        assert "0.5" in str(first["evidence"])


def _read_pages(client: TestClient, path: str, *, limit: int) -> list[Any]:
    rows, after = [], None
    while True:
        page = client.get(path, params={"limit": limit, **({"after": after} if after else {})}).json()
        assert len(page["rows"]) <= limit
        rows += page["rows"]
        if (after := page["next"]) is None:
            return rows


def test_as_of_a_version_the_answers_are_what_they_were(served: Served) -> None:
    """By version, by time and by position alike; what is no moment is refused in the words of the console."""
    site, history = served
    with make_client(site) as client:
        task = history.ask("SELECT task FROM versions WHERE version = 2").rows[0][0]
        then = client.get(f"/api/v1/tasks/{task}/versions", params={"at": f"{task}@2"}).json()["rows"]
        assert [row["version"] for row in then] == [0, 1, 2]
        now = client.get("/api/v1/tasks").json()
        assert client.get("/api/v1/tasks", params={"at": now["position"]}).json()["rows"] == now["rows"]
        refused = client.get("/api/v1/tasks", params={"at": "yesterday"})
        assert (refused.status_code, refused.json()["code"]) == (422, "query_refused")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "neither TASK@VERSION nor a time" in refused.json()["detail"]


def test_an_answer_is_not_older_than_it_was_asked_for(served: Served) -> None:
    """What stands is answered at once; another file's position never comes, and is told."""
    site, history = served
    with make_client(site) as client:
        here = client.get("/api/v1/tasks", params={"not_older_than": str(history.position)})
        assert here.status_code == 200
        assert here.headers["fedlog-position"] == here.json()["position"]
        strange = client.get("/api/v1/tasks", params={"not_older_than": "0123456789abcdef:1"})
        assert (strange.status_code, strange.json()["code"]) == (412, "position_not_reached")
        assert client.get("/api/v1/tasks", params={"not_older_than": "soon"}).status_code == 422


def test_a_viewer_sees_no_secrets_of_a_private_task(served: Served) -> None:
    """Clip scales, digests of bodies, salts and what was zeroed: in no list, no event and no explanation."""
    site, history = served
    task, version = history.ask(
        "SELECT task, max(updates.version) FROM updates JOIN tasks USING (task)"
        " WHERE private AND updates.version > 0 GROUP BY task"
    ).rows[0]
    seen = {}
    for role in ("viewer", "operator"):
        with make_client(site, role) as client:
            updates = client.get(f"/api/v1/tasks/{task}/updates", params={"outcome": "admitted"}).json()["rows"]
            events = client.get("/api/v1/events", params={"task": task, "event": "UpdateAdmitted"}).json()["rows"]
            explained = client.get(f"/api/v1/tasks/{task}/versions/{version}/explain").json()["members"]
            rows = [*updates, *(event["values"] for event in events), *explained]
            names = ("clip_scale", "sha256", "zeroed", "body_sha256", "salt")
            seen[role] = sum(row.get(name) is not None for row in rows for name in names)
            assert updates
            assert events
            assert explained
    assert seen["viewer"] == 0 < seen["operator"]


def test_what_is_not_there_is_told_by_its_name(served: Served) -> None:
    """An unknown task, version, path or cursor: a problem with the code of the console's error, and no empty list."""
    site, history = served
    with make_client(site) as client:
        task = history.ask("SELECT task FROM versions").rows[0][0]
        for path, status, code in (
            ("tasks/nobody", 404, "task_unknown"),
            ("tasks/nobody/rounds", 404, "task_unknown"),
            ("tasks/nobody/privacy", 404, "task_unknown"),
            (f"tasks/{task}/versions/999/explain", 404, "version_unknown"),
            ("nowhere", 404, "not_found"),
            ("tasks?after=x", 422, "request_invalid"),
            ("tasks?limit=0", 422, "request_invalid"),
            ("tasks/UPPER", 422, "request_invalid"),
        ):
            answer = client.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.json()["status"] == status


def test_the_privacy_report_agrees_with_the_ledger(served: Served) -> None:
    """What is spent is the ledger's newest line, and what is left the rest of the policy's budget."""
    site, history = served
    with make_client(site) as client:
        for task, private in history.ask("SELECT task, private FROM tasks").rows:
            told = client.get(f"/api/v1/tasks/{task}/privacy").json()
            rho = history.ask(f"SELECT max(rho_total) FROM ledger WHERE task = '{task}'").rows[0][0]
            assert (told["private"], told["spent"]["rho_total"]) == (private, rho)
            if private:
                assert told["rho_left"] == pytest.approx(told["policy"]["rho_max"] - (rho or 0.0))


def test_every_list_is_described_by_its_table(served: Served) -> None:
    """OpenAPI 3.1 from the code: each row's columns, with their meaning, are those that the answers have."""
    site, _ = served
    with make_client(site) as client:
        schema = client.get("/api/v1/openapi.json").json()
        assert schema["openapi"].startswith("3.1")
        rows = client.get("/api/v1/events", params={"limit": 1}).json()["rows"]
        described = schema["components"]["schemas"]["EventsRow"]["properties"]
        assert set(rows[0]) == set(described)
        assert described["sequence"]["description"]
    listings = [value for value in vars(reading).values() if isinstance(value, reading.Listing)]
    assert len(listings) > 10
