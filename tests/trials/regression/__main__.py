"""`make regression`: a fleet makes version 20 bad, and a rollout takes it back by itself, through kills of every actor.

Then everybody who has to see why is asked: the page in Debian's Chromium, `fedlog query`, a reader of `published` that
has kafka-python and msgpack alone, and a real MLflow by its REST API.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.root import ROOT
from tests.trials.registry.mlflow_server import CLIENT, MlflowProcess, running
from tests.trials.regression import plain
from tests.trials.regression.looking import look
from tests.trials.regression.story import EVALUATOR, MLFLOW, TASK, Story
from tests.trials.results import add_row
from tests.worlds.stage import ACTORS, Stage, say, staged

PLANTED = 20
STRIKES = (*ACTORS, "rollout", EVALUATOR, MLFLOW, "fleet", "serve")
PICTURES = ROOT / "build" / "regression"


def main() -> None:
    """Exit code 1 where the reason is missing anywhere."""
    seed = int(os.environ.get("REGRESSION_SEED", "0")) or random.randrange(1, 10_000)
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-regression-")))
        (folder / "server").mkdir()
        server = stack.enter_context(running(folder / "server"))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        kafka = KafkaSettings(**handle.connection, topic_prefix=f"back-{uuid.uuid4().hex[:8]}")
        (folder / "stage").mkdir()
        stage = stack.enter_context(staged(kafka, folder / "stage"))
        story = Story(stage, planted=PLANTED, seed=seed, library=[CLIENT])
        row = _try(story, server)
    add_row("regression", {"seed": seed, **row, "seconds": round(time.monotonic() - began_s, 1)})
    say(json.dumps(row, indent=2))
    sys.exit(0 if not row["faults"] else 1)


def _try(story: Story, server: MlflowProcess) -> dict[str, Any]:
    stage = story.stage
    made = stage.fedlog("token", "create", "--role", "viewer", "--subject", "eve")
    assert made.exit_code == 0, made.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    beside = {
        MLFLOW: ("mlflow", "--tracking-uri", server.url, "--follow"),
        "serve": ("serve", "--port", str(port)),
    }
    with story.begin(**beside):
        strikes = [*STRIKES, *STRIKES]
        story.draw.shuffle(strikes)
        story.train(kills=strikes)
        # Whoever decides it, and whoever says it, dies while it is decided and said.
        for name in ("rollout", "aggregator", EVALUATOR, MLFLOW):
            story.kill(name)
        standing = story.until_back()
        tags = _until_tagged(story, server)
        told = {
            "sql": _ask_sql(story, standing),
            "published": _read_plainly(stage, standing),
            "mlflow": [*_judge_mlflow(server, tags, standing)],
            "page": [*_look(f"http://127.0.0.1:{port}", made.stdout.strip(), standing)],
        }
    stage.until_lawful(home_of(TASK))
    return {
        "version": PLANTED,
        "reason": standing["last_rollback"]["reason"],
        "text": standing["last_rollback"]["text"],
        "promoted": standing["promoted"],
        "kills": story.kills,
        "said": sorted(told),
        "faults": [f"{where}: {fault}" for where, faults in told.items() for fault in faults],
    }


# --- who has to see it ------------------------------------------------------------------------------------------------


def _ask_sql(story: Story, standing: dict[str, Any]) -> list[str]:
    rows = story.query("SELECT version, reason, other_version, evidence FROM rollouts WHERE step = 'rolled back'")
    found = [(row["version"], row["reason"], row["other_version"]) for row in rows]
    faults = [] if found == [(PLANTED, "drop", standing["promoted"])] else [f"rolled back: {found}"]
    asked = f"SELECT cohort, status, metrics ->> 'accuracy' AS accuracy FROM scores WHERE version = {PLANTED}"
    scores = {row["cohort"]: float(row["accuracy"] or "nan") for row in story.query(asked) if row["status"] == "final"}
    is_seen = scores.keys() == {"", "east", "west"} and scores["east"] > 0.9 and scores["west"] < 0.5
    return faults if is_seen else [*faults, f"scores of version {PLANTED}: {scores}"]


def _read_plainly(stage: Stage, standing: dict[str, Any]) -> list[str]:
    client = {name: value for name, value in stage.kafka.client().items() if name != "client_id"}
    words = [sys.executable, "-I", plain.__file__, json.dumps(client), stage.kafka.topic_prefix, TASK]
    done = subprocess.run(words, cwd=stage.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"the reader ended with {done.returncode}: {done.stderr[-600:]}"]
    told = json.loads(done.stdout)
    announced = [each for each in told["published"] if each["type"] == "io.fedlog.rollout.rolledback.v1"]
    decided = [each for each in told["journal"] if each["type"] == "RolledBack/1"]
    expected = [(PLANTED, "drop", standing["promoted"])]
    faults = []
    for where, events in (("published", announced), ("journal", decided)):
        if (found := [(each["version"], each["reason"], each["to"]) for each in events]) != expected:
            faults.append(f"{where}: {found}")
    evidence = announced[0]["evidence"] if announced else []
    values = {(each["version"], each["cohort"]): each["value"] for each in evidence}
    is_named = values.get((PLANTED, "west"), 1.0) < 0.5 < values.get((standing["promoted"], "west"), 0.0)
    return faults if is_named else [*faults, f"evidence {values}"]


def _list_tags(server: MlflowProcess) -> dict[int, dict[str, str]]:
    found = server.ask("model-versions/search", filter=f"name='{TASK}'", max_results="1000")["model_versions"]
    by_number = [
        {tag["key"]: tag["value"] for tag in one.get("tags", ())} | {"number": one["version"]} for one in found
    ]
    return {int(tags["fedlog.version"]): tags for tags in by_number}


def _until_tagged(story: Story, server: MlflowProcess) -> dict[int, dict[str, str]]:
    def is_tagged() -> bool:
        try:
            return "fedlog.rolled_back" in _list_tags(server).get(PLANTED, {})
        except HTTPError:
            return False

    try:
        story.stage.until(is_tagged, "the tag in MLflow", timeout_s=180.0)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{story.commands.read_log(MLFLOW)[-3_000:]}\n{server.read_log()}") from error
    return _list_tags(server)


def _judge_mlflow(server: MlflowProcess, tags: dict[int, dict[str, str]], standing: dict[str, Any]) -> Iterator[str]:
    if sorted(tags) != [*range(PLANTED + 1)]:
        yield f"versions {sorted(tags)}"
    back = {version: one["fedlog.rolled_back"] for version, one in tags.items() if "fedlog.rolled_back" in one}
    if back.keys() != {PLANTED} or not back[PLANTED].startswith("drop"):
        yield f"rolled back: {back}"
    model = server.ask("registered-models/get", name=TASK)["registered_model"]
    at = {one["alias"]: one["version"] for one in model.get("aliases", ())}
    if at != {"champion": tags[standing["promoted"]]["number"]}:
        yield f"aliases {at}, and {standing['promoted']} is promoted"


def _look(url: str, token: str, standing: dict[str, Any]) -> Iterator[str]:
    paths = {"task": f"/tasks/{TASK}", "version": f"/tasks/{TASK}/versions/{PLANTED}"}
    said = look(url, token, paths=paths, folder=PICTURES)
    evidence = standing["last_rollback"]["evidence"]
    wanted = [f"version {PLANTED}, drop: accuracy", f"of version {PLANTED} in west", f"version {standing['promoted']}"]
    wanted += [f"{each['value']:.4g} of version {each['version']} in west" for each in evidence[:2]]
    yield from (f"the task does not say {text!r}" for text in wanted if text not in said["task"])
    yield from (
        f"the version does not say {text!r}" for text in ("west", "east", "final") if text not in said["version"]
    )


if __name__ == "__main__":
    main()
