"""The page of a task helps whoever has just made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.serving import make_client, opened_site
from tests.worlds.builders import policy
from tests.worlds.federation import Federation
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
