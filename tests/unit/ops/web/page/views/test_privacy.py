"""The page of privacy shows what people have spent over all tasks that they are in, and not each task alone."""

from __future__ import annotations

from pathlib import Path

from tests.serving import make_client, opened_site
from tests.worlds.identity.budgets import City, budget_set, rules_of


def test_a_population_has_one_budget_for_its_tasks(tmp_path: Path) -> None:
    """What the busiest device has spent, of what was promised, with the tasks that it was spent in."""
    world = City({"city.first": rules_of(1.0), "city.second": rules_of(2.0)}, budget_set(1.0))
    for task in ("city.first", "city.second"):
        world.take_part(task, "a", "b")
    with opened_site(tmp_path, world.log) as (site, _):
        client = make_client(site)
        whole, one = client.get("/privacy").text, client.get("/privacy?task=city.second").text
        other = client.get("/privacy?task=village").text
    for page in (whole, one):
        # 1/2 in the first and 1/8 in the second.
        assert "population city" in page
        assert "ρ 0.625 of 1" in page
        assert "38 % left" in page
    assert "population city" not in other


def test_without_a_budget_there_is_nothing_to_show(tmp_path: Path) -> None:
    """A population that was promised nothing has no gauge."""
    world = City({"city.first": rules_of(1.0)})
    world.take_part("city.first", "a", "b")
    with opened_site(tmp_path, world.log) as (site, _):
        page = make_client(site).get("/privacy").text
    assert "population city" not in page
    assert "city.first" in page
