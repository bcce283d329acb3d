"""Two releases beside each other: workers of the previous one and of this one in one group, as in an upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.policy import Policy
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.trials.releases import previous, unpack
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, Worker, say, staged

TASK = "task"
# In the other half of the partitions, so that of two workers each has a task.
OTHER = next(f"other-{n}" for n in range(100) if (home_of(f"other-{n}") < 4) != (home_of(TASK) < 4))
TASKS = (TASK, OTHER)
PARTITIONS_USED = {home_of(task) for task in TASKS}


def rules() -> Policy:
    """A private task, so that all three actors have work."""
    return policy(
        selection={"devices_expected": 10, "concurrency": 8, "retry_after_s": 0.2, "lease_s": 6.0},
        compression={"codec": "int8"},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 5_000},
    )


@pytest.mark.timeout(240)
def test_two_releases_take_over_from_each_other(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 11: a release reads what its neighbour wrote, in both directions, and every law holds across the takeovers.

    Two workers an actor, one of the newest archived release that is not this version (or, where there is only this
    version's own archive, of that), one of this source; the older ones die, come back, and the newer ones die.
    """
    release = previous()
    older = unpack(release, tmp_path / "older")
    with staged(kafka_settings, tmp_path) as stage:
        for task in TASKS:
            stage.create_task(task, rules(), parameters=40)
        new, old = stage.start(*ACTORS), stage.start(*ACTORS, source=older)
        with _fleet(stage, TASK) as devices, _fleet(stage, OTHER) as others:
            _until_each_opened(stage, new, old)
            _until_more(stage)
            _die(old, older)
            _until_taken_over(stage, new)
            _until_more(stage)
            again = stage.start(*ACTORS, source=older)
            _until_each_opened(stage, again)
            _die(new, None)
            _until_taken_over(stage, again)
            _until_more(stage)
            devices.rest(90)
            others.rest(90)
        stage.until_lawful(*PARTITIONS_USED)
        say(f"beside {release.name}: {stage.report(*PARTITIONS_USED)}")


def _fleet(stage: Stage, task: str) -> Fleet:
    return Fleet(stage.kafka, task, rules(), 40, 10, seed=1, habits=Habits(again=0.1, rest_s=1.0))


def _until_each_opened(stage: Stage, *releases: list[Worker]) -> None:
    """Wait until every worker has partitions of its own."""
    everyone = [worker for workers in releases for worker in workers]
    stage.until(lambda: all(worker.openings for worker in everyone), "partitions for everyone", timeout_s=60)


def _until_taken_over(stage: Stage, workers: list[Worker]) -> None:
    """Wait until these have opened all that is in use; leases and charges given before may carry versions on alone."""
    stage.until(
        lambda: all({told["partition"] for told in worker.openings} >= PARTITIONS_USED for worker in workers),
        "takeover of every partition in use",
        timeout_s=60,
    )


def _until_more(stage: Stage) -> None:
    """Wait for another two versions of every task, counted from now."""
    before = {task: stage.version(task) for task in TASKS}
    for task, version in before.items():
        stage.until_version(task, version + 2)


def _die(workers: list[Worker], source: Path | None) -> None:
    """Kill these, which have run from `source` (None: from anywhere else than an archive)."""
    for worker in workers:
        child = worker.child()
        assert child is not None
        if source is not None:
            assert str(source) in child.cmdline()
        worker.kill()
