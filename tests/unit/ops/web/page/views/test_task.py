"""The page of a task helps whoever has just made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ops.operator.deployments import establish
from schemas.events import MembersCompared
from schemas.topics import ROUNDS
from tests.serving import make_client, opened_site
from tests.worlds.builders import DEPLOYMENT, KEY, device_id, policy
from tests.worlds.federation import Federation
from tests.worlds.quarantine.tasks import PARAMETERS, draw_deltas, watched_policy
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.releasing.federation import Released


def test_a_task_without_devices_says_where_they_come_from(tmp_path: Path) -> None:
    """Until the first device has taken part, and no longer."""
    world = Federation(policy(), parameters=4)
    hint = "fedlog fleet --task digits"
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    with opened_site(tmp_path / "before", world.log) as (site, _):
        assert hint in make_client(site).get("/tasks/digits").text
    world.device("a").check_in()
    world.settle()
    world.device("a").submit(np.ones(4, np.float32), world.rules)
    world.settle()
    with opened_site(tmp_path / "after", world.log) as (site, _):
        assert hint not in make_client(site).get("/tasks/digits").text


def test_a_rollback_stands_on_the_page_with_its_scores(tmp_path: Path) -> None:
    """What is promoted, which version is tried and by how many, and why the last one was taken back."""
    world = Released()
    first = world.promote(0.9)
    world.score(world.publish(), 0.5)
    third = world.publish()
    world.score(third, 0.9)
    with opened_site(tmp_path, world.log) as (site, _):
        text = make_client(site).get("/tasks/digits").text
    assert f"version {first}" in text
    assert f"version {third}, 5 % of the devices" in text
    assert "drop: accuracy 0.5 of version 2; accuracy 0.9 of version 1" in text


def test_who_is_set_apart_is_named_to_operators_who_can_lift_it(tmp_path: Path) -> None:
    """Everybody sees how many; operators whom, in which rounds and how far out, and lift it after asking back once."""
    world = Federation(watched_policy(), parameters=PARAMETERS)
    for seed in range(2):
        world.round_of(draw_deltas(seed))
    establish(world.log, KEY, deployment=DEPLOYMENT)
    out, z = device_id("a"), world.events(ROUNDS.name, MembersCompared)[-1].anomalies[0].z
    ask = f"/tasks/digits/lift?device={out}"
    with opened_site(tmp_path, world.log) as (site, _):
        viewer, operator = make_client(site, "viewer"), make_client(site, "operator")
        shown = viewer.get("/tasks/digits").text
        assert "2 updates of 1 device stood apart" in shown
        assert "1 let in no more" in shown
        assert ask not in shown
        assert ask not in viewer.get(f"/devices/{out}").text
        assert viewer.get(ask).status_code == 403
        assert viewer.get("/api/v1/tasks/digits/quarantines").status_code == 403
        text = operator.get("/tasks/digits").text
        assert ask in text
        assert f"{z / 1000:.3g}" in text
        assert ask in operator.get(f"/devices/{out}").text
        assert out in operator.get(ask).text
        rows = operator.get("/api/v1/tasks/digits/quarantines").json()["rows"]
        assert [(row["device"], row["rounds"], row["lifted_at"]) for row in rows] == [(out, [0, 1], None)]
        assert len(operator.get("/api/v1/tasks/digits/anomalies").json()["rows"]) == 2
        assert operator.post(ask, data={}).status_code == 303
        text = operator.get("/tasks/digits").text
        assert (ask in text, "lifted" in text, "0 let in no more" in text) == (False, True, True)
        refused = operator.post("/api/v1/tasks/digits/lift", json={"device": out})
        assert (refused.status_code, refused.json()["code"]) == (409, "device_not_quarantined")


def test_what_devices_claim_to_run_is_counted_and_bounded(tmp_path: Path) -> None:
    """The newest word of each device by version, claimed versions that are none in one row, on page and API."""
    world = Released()
    first = world.promote(0.9)
    for name, running in {"d": first, "e": first, "f": 0, "g": 10**12, "h": 10**12 + 1}.items():
        world.device(name).check_in(running=running)
    world.device("i").check_in()
    world.settle()
    with opened_site(tmp_path, world.log) as (site, history):
        rows = history.ask("SELECT version, devices FROM production ORDER BY devices DESC, version NULLS FIRST").rows
        assert rows == [(None, 2), (first, 2), (0, 1)]
        told = history.ask("SELECT running FROM devices WHERE running_at IS NOT NULL ORDER BY running").rows
        assert told == [(0,), (first,), (first,), (10**12,), (10**12 + 1,)]
        client = make_client(site)
        shown = client.get("/tasks/digits").text
        assert f"version {first}: 2 devices, never published: 2 devices, version 0: 1 device" in shown
        assert "as the devices say themselves" in shown
        assert f"version {first}: 2 devices" in client.get("/devices?task=digits").text
        answer = client.get("/api/v1/tasks/digits/production").json()
    assert [(row["version"], row["devices"]) for row in answer["rows"]] == [(None, 2), (0, 1), (first, 2)]


def test_a_score_that_is_not_final_says_what_it_waits_for(tmp_path: Path) -> None:
    """Guarantee: where a quorum decides, nobody takes one evaluator's word, or a contested one, for a score."""
    world = Released(rollout_policy(kept=5, evaluation={"quorum": 2, "disagreement_max": 0.1}))
    for serials in ((0, 1), (0,)):
        version = world.publish()
        for serial in serials:
            world.score(version, 0.9 - 0.8 * serial, serial=serial)
    contested = "contested: 2 evaluators, 0.8 apart in accuracy, at most 0.1"
    with opened_site(tmp_path, world.log) as (site, _):
        client = make_client(site)
        task, first, second = (client.get(f"/tasks/digits{path}").text for path in ("", "/versions/1", "/versions/2"))
        answer = client.get("/api/v1/tasks/digits/scores", params={"version": 1}).json()["rows"]
    assert [(row["cohort"], row["status"], row["metrics"]) for row in answer] == [
        ("", "contested", None),
        ("lab", "contested", None),
    ]
    assert "version 2: 1 of 2 evaluators" in task
    assert f"<td>{contested}</td>" in task
    assert "Scores of version 2" in task
    assert contested in first
    assert "<td>2 of 2</td>" in first
    assert "1 of 2 evaluators" in second
    assert "0.5</td>" not in task + first + second
