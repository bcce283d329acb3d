"""One app from its policy to the scores of its versions, and one from a question to what its devices answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_iris

from client_agent.learning.allow_list import AllowList
from client_agent.links.kafka import open_link
from client_agent.running.fleet import Fleet, FleetOptions
from client_agent.running.profiles import SimulationOptions
from ops.operator import results, tasks
from ops.services.evaluator import Evaluator, Missed
from schemas.policy import Policy, parse
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.trials.ecosystem.apps import App, Example
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

QUESTION = """
kind = "measure"
data = "client_agent.learning.flower:part"
[measure]
plugin = "client_agent.learning.flower:query"
plugin_arguments = {{ app = "{name}" }}
release = "sum"
[measure.statistics]
SepalLengthCm = {{ bound = 256, shape = [9] }}
SepalLengthCm_count = {{ bound = 256 }}
[selection]
devices_expected = {devices}
concurrency = {devices}
lease_s = 300
retry_after_s = 0.5
[aggregation]
updates_per_round = {devices}
[clipping]
norm = 8.0
steps = 1048576
[compression]
codec = "float32"
error_feedback = false
[staleness]
rule = "constant"
max_versions = 0
[stop]
versions_max = 1
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
    with _lived(app, kafka, folder=folder, rules=rules) as (stage, told):
        return {**told, "scores": _score(stage, _allow(app))}


def ask(app: Example, kafka: KafkaSettings, *, folder: Path) -> dict[str, Any]:
    """Put a question to the app in `folder`, of whose devices each answers once; the sum of what they say."""
    rules = parse(QUESTION.format(name=app.name, devices=DEVICES))
    with _lived(app, kafka, folder=folder, rules=rules) as (stage, told):
        view = tasks.find_view(stage.log, TASK, operator=stage.key.public_key)
        found = results.read(stage.log, view, version=1)
        sums = {name: array.round(3).tolist() for name, array in found.statistics.items()}
        return {**told, "devices": found.members, "sums": sums}


def is_answered(told: dict[str, Any]) -> bool:
    """Whether the devices together counted every flower, in the bins of the app."""
    lengths = load_iris().data[:, 0]
    expected = np.histogram(lengths, bins=np.linspace(2.0, 10.0, 10))[0].tolist()
    return bool(told["sums"] == {"SepalLengthCm": expected, "SepalLengthCm_count": float(len(lengths))})


@contextlib.contextmanager
def _lived(
    app: Example, kafka: KafkaSettings, *, folder: Path, rules: Policy
) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """The stage when the app's task has its last version, and what the devices did."""
    own = folder.parent / f"{app.name}-stage"
    own.mkdir()
    with contextlib.chdir(folder.parent), staged(kafka, own) as stage:
        stage.start("selector", "aggregator")
        created = tasks.create(stage.log, TASK, key=stage.key, policy=rules)
        with Fleet(_describe_fleet(stage, _allow(app))) as fleet:
            stage.until_version(TASK, rules.stop.versions_max, timeout_s=PATIENCE_S)
            # A process that is busy answers the next time: on a loaded machine the first says nothing.
            for _ in range(120):
                if (stats := fleet.count()).admitted:
                    break
                time.sleep(0.5)
        did = {name: getattr(stats, name) for name in ("trained", "admitted", "given_up")}
        yield stage, {"parameters": created.parameters, **did}


def _allow(app: Example) -> AllowList:
    return AllowList(names=frozenset({f"flower-app:{app.name}"}))


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
