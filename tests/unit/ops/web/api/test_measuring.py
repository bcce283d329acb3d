"""What a scheduler is told of drift: the distances of `fedlog drift`, over the API."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from actors.deciders.arithmetic.drifting import Histogram, read_counts
from ops.operator.releasing.drifting import compare_counts
from schemas.policy import Drift
from tests.serving import make_client, opened_site
from tests.survey import RINGS, Survey, measuring_policy

TASK = f"{RINGS}.labels"
ASKED = {
    "plugin": "client_agent.learning.measuring.questions:histogram",
    "plugin_arguments": {"column": "labels"},
    "statistics": {"histogram": {"bound": 1024.0, "shape": (4,)}},
}


def test_drift_is_judged_as_the_command_does(tmp_path: Path) -> None:
    """Guarantee: each later answer beside the reference, by the same distances; what cannot be compared is no drift."""
    world = Survey()
    world.ask(TASK, measuring_policy(measure=ASKED, stop={"versions_max": 2}))
    (tmp_path / "before").mkdir()
    with opened_site(tmp_path / "before", world.log) as (site, _), make_client(site) as client:
        begun = client.get(f"/api/v1/tasks/{TASK}/drift").json()
    assert (begun["versions"], begun["is_drift"]) == ([], False)
    world.answer(TASK, tmp_path / "devices", until=2)
    (tmp_path / "site").mkdir()
    with opened_site(tmp_path / "site", world.log) as (site, history), make_client(site) as client:
        sql = "SELECT list(value ORDER BY index) FROM statistics GROUP BY version ORDER BY version"
        first, second = (
            Histogram(counts=read_counts(row[0], times=3), devices=Decimal(3)) for row in history.ask(sql).rows
        )
        told = client.get(f"/api/v1/tasks/{TASK}/drift").json()
        unknown = client.get(f"/api/v1/tasks/{TASK}/drift", params={"statistic": "ages"})
        absent = client.get("/api/v1/tasks/nobody/drift")
    found = compare_counts(first, second, version=2, asked=Drift())
    assert found is not None
    assert told["versions"] == [found.to_json()]
    assert told["is_drift"] == found.is_drift
    assert (unknown.status_code, absent.status_code) == (422, 404)
