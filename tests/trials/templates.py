"""Every template of `fedlog new`, end to end: broker, workers, fleet and evaluator, until its target or its end.

python -m tests.trials.templates [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from client_agent.learning.allow_list import AllowList
from client_agent.links.kafka import open_link
from client_agent.running.fleet import Fleet, FleetOptions
from client_agent.running.profiles import SimulationOptions
from ops.history.task_view import TaskView
from ops.operator import tasks
from ops.operator.projects.making import list_templates, make_project
from ops.processes import broker
from ops.services.evaluator import Evaluator
from schemas.policy import Policy, parse
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.trials.results import add_row, commit
from tests.worlds.flower_apps.copies import give_environment
from tests.worlds.stage import Stage, staged

DEVICES = 20
PATIENCE_S = 120.0


def main() -> int:
    """Try all, add a row for each to docs/results/templates.jsonl, and tell whether all reached their score."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.templates")
    parser.add_argument("--only", default="")
    chosen = [name for name in list_templates() if parser.parse_args().only in name]
    commit()  # the one that runs, whatever is checked out at the end
    with tempfile.TemporaryDirectory(prefix="fedlog-templates-") as scratch:
        folder = Path(scratch)
        with broker.run_embedded(folder / "broker"):
            reached = broker.start(folder / "broker").connection
            tried = {name: _try(name, KafkaSettings(**reached, topic_prefix=name), folder=folder) for name in chosen}
    failed = [name for name, is_right in tried.items() if not is_right]
    print(f"{len(tried) - len(failed)} of {len(tried)}: {failed or 'all reached their score'}")  # noqa: T201
    return 1 if failed or not tried else 0


def _try(template: str, kafka: KafkaSettings, *, folder: Path) -> bool:
    begun_s = time.monotonic()
    project = folder / f"try-{template}"
    make_project(project.name, template, folder=project)
    if template == "flower":
        give_environment(project, "flower-apps")
    (stage_folder := folder / f"{template}-stage").mkdir()
    try:
        with contextlib.chdir(project), staged(kafka, stage_folder) as stage:
            told = _run(stage, parse(Path("policy.toml").read_text()))
    except Exception as error:  # noqa: BLE001
        told = {"right": False, "error": f"{type(error).__name__}: {error}"[:2000]}
    add_row("templates", {"template": template, **told, "seconds": round(time.monotonic() - begun_s, 1)})
    print(f"{template}: {told}", flush=True)  # noqa: T201
    return bool(told["right"])


def _run(stage: Stage, policy: Policy) -> dict[str, Any]:
    """Train to the end; the score, and what the policy asks for."""
    task, allowed = "project", AllowList(names=frozenset(policy.list_plugins().values()))
    stage.start("selector", "aggregator")
    created = tasks.create(stage.log, task, key=stage.key, policy=policy)
    options = FleetOptions(
        task=task,
        open_link=partial(open_link, partial(KafkaLog, stage.kafka), operator=stage.key.public_key),
        folder=stage.folder / "fleet",
        devices=DEVICES,
        allowed=allowed,
        simulation=SimulationOptions(training_ms=1.0, speed_sigma=0.0, drop_probability=0.0, presence=1.0),
    )
    evaluator = Evaluator(stage.log, key=stage.role_key("evaluator"), allowed=allowed)
    with contextlib.closing(evaluator), Fleet(options) as fleet:
        view = _follow(stage, task, evaluator=evaluator)
        stats = fleet.count()
    best = max((scores.metrics[policy.stop.target_metric] for scores in view.evaluations.values()), default=None)
    return {
        "right": best is not None and best >= policy.stop.target_value,
        "halted": view.halted.reason if view.halted else None,
        "version": view.version,
        "parameters": created.parameters,
        policy.stop.target_metric: best,
        "target": policy.stop.target_value,
        # The log's: a fleet on a busy machine may not have answered yet.
        "admitted": view.admitted,
        "failed": stats.failed,
    }


def _follow(stage: Stage, task: str, *, evaluator: Evaluator) -> TaskView:
    """Score versions until the task is over, and once more what was published last."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        list(evaluator.step())
        view = tasks.find_view(stage.log, task, operator=stage.key.public_key)
        if view.halted:
            break
        evaluator.wait(0.5)
    evaluator.wait(0.5)
    list(evaluator.step())
    return tasks.find_view(stage.log, task, operator=stage.key.public_key)


if __name__ == "__main__":
    sys.exit(main())
