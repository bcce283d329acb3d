"""One app from its policy to the scores of its versions."""

from __future__ import annotations

import contextlib
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from client_agent.learning.allow_list import AllowList
from client_agent.links.kafka import open_link
from client_agent.running.fleet import Fleet, FleetOptions
from client_agent.running.profiles import SimulationOptions
from ops.operator import tasks
from ops.services.evaluator import Evaluator, Missed
from schemas.policy import parse
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.trials.ecosystem.apps import App
from tests.worlds.stage import Stage, staged

TASK, DEVICES, VERSIONS = "app", 6, 4
PATIENCE_S = 900.0
POLICY = """
learner = "client_agent.learning.flower:ClientApp"
[learner_arguments]
app = "{name}"
run_config = {run_config}
partitions = {devices}
[selection]
devices_expected = {devices}
concurrency = {devices}
lease_s = 300
retry_after_s = 0.5
[aggregation]
updates_per_round = 4
normalisation = "weight"
samples_max = 4096
[clipping]
norm = 16.0
steps = 1048576
[compression]
codec = "float32"
error_feedback = false
[evaluation]
report = {report}
[stop]
versions_max = {versions}
"""


def run(app: App, kafka: KafkaSettings, *, folder: Path) -> dict[str, Any]:
    """Train the app in `folder` to the last version; the evaluator's scores, and what the devices did."""
    rules = parse(
        POLICY.format(
            name=app.name,
            run_config=[app.run_config] if app.run_config else [],
            devices=DEVICES,
            report=[app.report] if app.report else [],
            versions=VERSIONS,
        )
    )
    allowed = AllowList(names=frozenset({f"flower-app:{app.name}"}))
    own = folder.parent / f"{app.name}-stage"
    own.mkdir()
    with contextlib.chdir(folder.parent), staged(kafka, own) as stage:
        stage.start("selector", "aggregator")
        created = tasks.create(stage.log, TASK, key=stage.key, policy=rules)
        with Fleet(_describe_fleet(stage, allowed)) as fleet:
            stage.until_version(TASK, VERSIONS, timeout_s=PATIENCE_S)
            stats = fleet.count()
        scores = _score(stage, allowed)
    return {
        "parameters": created.parameters,
        "trained": stats.trained,
        "admitted": stats.admitted,
        "given_up": stats.given_up,
        "scores": scores,
    }


def _describe_fleet(stage: Stage, allowed: AllowList) -> FleetOptions:
    return FleetOptions(
        task=TASK,
        open_link=partial(open_link, partial(KafkaLog, stage.kafka), operator=stage.key.public_key),
        folder=stage.folder / "fleet",
        devices=DEVICES,
        processes=2,
        allowed=allowed,
        simulation=SimulationOptions(training_ms=1.0, speed_sigma=0.0, drop_probability=0.0, presence=1.0),
    )


def _score(stage: Stage, allowed: AllowList) -> list[dict[str, float]]:
    """The scores of all versions, in their order."""
    with closing(Evaluator(stage.log, key=stage.role_key("evaluator"), allowed=allowed)) as evaluator:
        results = list(evaluator.step())
    if missed := [result.reason for result in results if isinstance(result, Missed)]:
        raise RuntimeError(f"{len(missed)} versions were not scored: {missed[0]}")
    return [dict(result.metrics) for result in results if not isinstance(result, Missed)]
