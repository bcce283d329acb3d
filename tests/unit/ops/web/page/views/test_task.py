"""The page of a task helps whoever has just made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.serving import make_client, opened_site
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


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
