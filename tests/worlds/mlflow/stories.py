"""What a registry is told in tests: a log with versions, scores and a rollout; and how a server has to look then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ops.history.following import Follower
from ops.operator import models
from ops.services.mlflow.entries import Courses, Entry
from ops.services.mlflow.registering import Names, Registrar
from schemas.events import DeploymentFounded, VersionEvaluated
from streams.memory import MemoryLog
from tests.worlds.builders import DEPLOYMENT, TASK
from tests.worlds.ops_journal import PLACE, append, created, memory_log
from tests.worlds.published.announcing import OPERATOR, announce_rollout, announce_version, publish

FLAT = np.arange(6, dtype=np.float32)


def tell_story() -> MemoryLog:
    """Versions 0 to 3, scored by cohort; 1 is promoted, 2 rolled back, 3 a candidate."""
    log = memory_log()
    append(log, "tasks", DeploymentFounded(deployment=DEPLOYMENT), partition=0)
    append(log, "tasks", created())
    for version in range(4):
        ref = models.store(log, FLAT * (version + 1), partition=PLACE)
        publish(log, announce_version(version, model=ref))
        for cohort, accuracy in (("berlin", 0.1 * version), ("", 0.2 * version)):
            append(
                log,
                "evaluations",
                VersionEvaluated(
                    task=TASK, version=version, metrics={"accuracy": accuracy}, samples=9 + version, cohort=cohort
                ),
            )
    publish(log, announce_rollout("canary", 1, seq=1), announce_rollout("promoted", 1, seq=2))
    publish(log, announce_rollout("canary", 2, seq=3), announce_rollout("rolledback", 2, seq=4, to=1))
    publish(log, announce_rollout("canary", 3, seq=5))
    return log


def read_courses(log: MemoryLog, deployment: bytes = DEPLOYMENT) -> Courses:
    """What the log says."""
    courses = Courses(operator=OPERATOR, deployment=deployment, partitions=log.partitions)
    with Follower(log, courses) as follower:
        follower.catch_up()
    return courses


def name_files(entry: Entry) -> tuple[Mapping[str, bytes], bool]:
    """A file that says which version it is of."""
    return {"weights.bin": entry.id.encode()}, True


def make_registrar(server: Any, courses: Courses, *, prefix: str = "") -> Registrar:
    """One that begins, and knows nothing of what is there."""
    return Registrar(server, courses, names=Names(prefix=prefix), read_files=name_files)


def work(server: Any, courses: Courses, *, prefix: str = "") -> list[str]:
    """What a new one has done when it is through."""
    return [done.what for done in make_registrar(server, courses, prefix=prefix).step(TASK)]


def summarize(server: Any, *, prefix: str = "") -> dict[str, Any]:
    """What a server shows of the task, in fedlog's own numbers."""
    name = f"{prefix}{TASK}"
    versions = server.list_versions(name, {})
    model = server.open_model(name, tags={}, about="")
    runs = server.list_runs(server.open_experiment(name), {})
    by_run = {run.id: run for run in runs}
    numbers = {one.number: int(one.tags["fedlog.version"]) for one in versions}
    return {
        "versions": [int(one.tags["fedlog.version"]) for one in versions],
        "runs": sorted(int(run.tags["fedlog.version"]) for run in runs),
        "pairs": [by_run[one.run].tags["fedlog.id"] == one.tags["fedlog.id"] for one in versions],
        "accuracies": [
            (round(by_run[one.run].metrics["accuracy"], 6), round(by_run[one.run].metrics["accuracy/berlin"], 6))
            for one in versions
        ],
        "aliases": {alias: numbers[number] for alias, number in model.aliases.items()},
        "rolled back": {
            int(one.tags["fedlog.version"]): (one.tags["fedlog.rolled_back"], one.tags["fedlog.rolled_back_to"])
            for one in versions
            if "fedlog.rolled_back" in one.tags
        },
    }


WHOLE = {
    "versions": [0, 1, 2, 3],
    "runs": [0, 1, 2, 3],
    "pairs": [True] * 4,
    "accuracies": [(0.0, 0.0), (0.2, 0.1), (0.4, 0.2), (0.6, 0.3)],
    "aliases": {"champion": 1, "candidate": 3},
    "rolled back": {2: ("drop", "1")},
}
