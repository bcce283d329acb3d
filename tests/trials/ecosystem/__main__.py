"""Flower's own example apps, unchanged, end to end, examples of learners in other frameworks, and newcomers' projects.

    python -m tests.trials.ecosystem [--only NAME] [--examples FOLDER]

`--examples` is the folder `examples` of a checkout of Flower; without it the commit is fetched. Only their data are
others: a folder that has the name of their data set.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.trials.ecosystem import frameworks, notebooks, project_runs
from tests.trials.ecosystem.apps import APPS, ASKED, FLOWER_COMMIT, App, Example, fetch_examples, place
from tests.trials.ecosystem.runs import ask, is_answered, run
from tests.trials.results import add_row, commit
from tests.worlds.flower_apps.copies import install


def main() -> int:
    """Try all, add a row for each to docs/results/ecosystem.jsonl, and tell whether all did what they should."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.ecosystem")
    parser.add_argument("--only", default="")
    parser.add_argument("--examples", type=Path)
    given = parser.parse_args()
    commit()  # the one that runs, whatever is checked out at the end
    tried = {**dict(project_runs.try_all(given.only)), **dict(frameworks.try_all(given.only))}
    tried |= dict(notebooks.try_all(given.only))
    if chosen := [app for app in (*APPS, ASKED) if given.only in app.name]:
        tried |= _try_apps(chosen, given)
    failed = [name for name, is_right in tried.items() if not is_right]
    print(f"{len(tried) - len(failed)} of {len(tried)}: {failed or 'all right'}")  # noqa: T201
    return 1 if failed or not tried else 0


def _try_apps(chosen: list[Example], given: argparse.Namespace) -> dict[str, bool]:
    """Each app on one embedded broker, with workers, devices and an evaluator."""
    environment = install("flower-ecosystem")
    examples = given.examples or fetch_examples()
    with tempfile.TemporaryDirectory(prefix="fedlog-ecosystem-") as scratch:
        folder = Path(scratch)
        # Nothing leaves the machine, and nothing is left behind on it.
        os.environ.update(HF_HOME=str(folder / "cache"), HF_HUB_OFFLINE="1", WANDB_MODE="offline")
        with broker.run_embedded(folder / "broker"):
            reached = broker.start(folder / "broker").connection
            return {
                app.name: _try(
                    app,
                    KafkaSettings(**reached, topic_prefix=app.name),
                    folder=place(app, folder, examples=examples, environment=environment),
                )
                for app in chosen
            }


def _try(app: Example, kafka: KafkaSettings, *, folder: Path) -> bool:
    begun_s = time.monotonic()
    print(f"{app.name} …", flush=True)  # noqa: T201
    try:
        if isinstance(app, App):
            is_right = app.is_right((told := run(app, kafka, folder=folder))["scores"])
        else:
            is_right = is_answered(told := ask(app, kafka, folder=folder))
    except Exception as error:  # noqa: BLE001
        told, is_right = {"error": f"{type(error).__name__}: {error}"[:2000]}, False
    row = {"app": app.name, "flower_commit": FLOWER_COMMIT, "right": is_right, **told}
    add_row("ecosystem", {**row, "seconds": round(time.monotonic() - begun_s, 1)})
    print(f"  {'right' if is_right else 'WRONG'} {told}", flush=True)  # noqa: T201
    return is_right


if __name__ == "__main__":
    sys.exit(main())
