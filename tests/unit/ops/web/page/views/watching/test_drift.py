"""The page of a measure task whose answers move, and that of a rollout which waits for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.topics import TASKS
from tests.serving import make_client, opened_site
from tests.worlds.builders import create_task, task_closed, written
from tests.worlds.drift.asking import COHORTS, drift_policy, in_cohorts
from tests.worlds.federation import Federation
from tests.worlds.releasing.asking import ASKED, Asked


@pytest.fixture(scope="module")
def world() -> Asked:
    """A version was promoted, what devices answer has moved, and a candidate waits."""
    found = Asked()
    found.promote()
    found.answer(0)
    found.now_ms += 1_000
    found.answer(3)
    found.score(found.publish(), 0.9)
    return found


def test_what_has_moved_stands_on_the_page(world: Asked, tmp_path: Path) -> None:
    """Guarantee: how far, from what, since when, with links; a rollout says what it waits for; all of it as of then."""
    with opened_site(tmp_path, world.log) as (site, _):
        client = make_client(site)
        asked, released = (client.get(f"/tasks/{task}").text for task in (ASKED, world.task))
        before = client.get(f"/tasks/{ASKED}", params={"at": f"{ASKED}@1"}).text
    assert "from PSI 0.2 or KS 0.1 on it has moved" in asked
    assert "2 beyond their bounds" in asked
    assert "<td>10.0 ×</td>" in asked
    assert f'href="/tasks/{ASKED}/versions/1"' in asked
    assert "has moved" in asked
    assert "nobody answers any more" not in asked
    assert f"drift of {ASKED} by KS 1, since version 2" in released
    assert "within its bounds" in before


def test_a_rollout_waits_for_nothing_that_was_before_it(tmp_path: Path) -> None:
    """Guarantee: the page says what the rollout does: of what stood when its task was created it has never heard."""
    found = Asked()
    found.promote()
    found.answer(0)
    found.now_ms += 1_000
    found.answer(3)
    found.now_ms += 1_000
    before, found.task = found.task, f"{found.task}.later"
    create_task(found.log, found.rules, task=found.task, model=np.zeros(4))
    found.settle()
    found.promote()
    with opened_site(tmp_path, found.log) as (site, _):
        client = make_client(site)
        first, later = (client.get(f"/tasks/{task}").text for task in (before, found.task))
    assert "waits for" in first
    assert "waits for" not in later
    assert "<dt>promoted</dt><dd>version 1</dd>" in later


def test_what_is_back_within_its_bounds_has_ended(tmp_path: Path) -> None:
    """Guarantee: nothing stands any more, what was said stays in the list, and the rollout waits no more."""
    back = Asked()
    back.answer(0)
    back.answer(3)
    back.answer(0)
    with opened_site(tmp_path, back.log) as (site, _):
        client = make_client(site)
        asked, released = (client.get(f"/tasks/{task}").text for task in (ASKED, back.task))
    assert "Nothing has moved beyond its bound." in asked
    assert "is back" in asked
    assert "waits for" not in released


def test_a_task_that_is_over_says_that_nobody_answers(tmp_path: Path) -> None:
    """Guarantee: what stood with the last version stands, and is marked; cohorts and a skew are named."""
    world = Federation(drift_policy(cohorts=COHORTS, drift={"skew_ks_max": 0.2}), parameters=10)
    for home in ((0, 1), (3,)):
        world.round_of({f"d{n}": each for n, each in enumerate(in_cohorts({"lab": (0, 1), "home": home}))})
    world.append(TASKS.name, written(task_closed()))
    world.settle()
    with opened_site(tmp_path, world.log) as (site, _):
        text = make_client(site).get(f"/tasks/{world.task}").text
    assert "The task is over, and nobody answers any more" in text
    assert "Between a cohort and all others: KS 0.2." in text
    assert "<td>home</td><td>all other cohorts</td><td>KS</td>" in text
