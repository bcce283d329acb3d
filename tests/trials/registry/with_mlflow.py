"""`make mlflow`: every version in a real MLflow on loopback, once, through kills of it and of what registers them.

First the stories of the unit tests on the real server: a crash at calls of `fedlog mlflow`, and two at once. Then a
private task is trained, scored by cohort and rolled out while two `fedlog mlflow` and the server are killed. What the
server has in the end is read by its REST API, without any client of MLflow's, and compared with what fedlog exports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError

from ops.processes import broker
from ops.services.mlflow.server import RealServer, ServerAway
from ops.settings import calm_mlflow
from streams.kafka.settings import KafkaSettings
from tests.root import ROOT
from tests.trials.registry.judging import judge
from tests.trials.registry.looking import look
from tests.trials.registry.mlflow_server import MlflowProcess, import_client, make_environment, running
from tests.trials.results import add_row
from tests.worlds.mlflow.stories import WHOLE, read_courses, summarize, tell_story, work
from tests.worlds.mlflow.twin import Watched, away_at, pass_by
from tests.worlds.stage import Stage, say, staged

TASK, VERSIONS = "digits", 12
COHORTS = "tests.trials.registry.cohorts:name_half"
POLICY = f"""
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[selection]
devices_expected = 60
concurrency = 30
lease_s = 20.0
retry_after_s = 0.5
[aggregation]
updates_per_round = 10
[training]
epochs = 3
batch_size = 8
learning_rate = 0.5
[clipping]
norm = 1.0
[compression]
codec = "int8"
[optimizer]
rule = "sgd"
learning_rate = 2.0
[privacy]
noise_multiplier = 1.0
rho_max = 9.0
delta = 1e-5
[evaluation]
cohort = "{COHORTS}"
[[rollout.stages]]
share = 0.5
hold_s = 1
[[rollout.gates]]
metric = "accuracy"
drop_max = 0.02
[stop]
versions_max = {VERSIONS}
"""
ENDS_WITHIN_S = 900.0
STORY_CALLS = range(1, 44, 3)
PICTURES = ROOT / "build" / "mlflow"
CLIENTS = 2
CLIENT_KILLS, SERVER_KILLS = 8, 3
# Importing its client takes MLflow some seconds; whoever was killed before has done nothing yet.
AT_WORK_WITHIN_S = 25.0


def main() -> None:
    """Exit code 1 where a version is missing, there twice, or not what fedlog says it is."""
    import_client()
    calm_mlflow()
    seed = int(os.environ.get("MLFLOW_SEED", "0")) or random.randrange(1, 10_000)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-mlflow-")))
        (folder / "server").mkdir()
        server = stack.enter_context(running(folder / "server"))
        told = _try_stories(server)
        say("stories", json.dumps(told))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        kafka = KafkaSettings(**handle.connection, topic_prefix=f"ml-{uuid.uuid4().hex[:8]}")
        (folder / "stage").mkdir()
        stage = stack.enter_context(staged(kafka, folder / "stage"))
        trained = _train(stage, server, seed=seed)
        trained["page"] = look(server.url, TASK, folder=PICTURES)
    add_row("registry", {"try": "mlflow", "seed": seed, "stories": told, **trained})
    sys.exit(0 if not trained["faults"] else 1)


# --- the stories of the unit tests ------------------------------------------------------------------------------------


def _try_stories(server: MlflowProcess) -> dict[str, int]:
    """Each on models of its own; how many there were."""
    real, courses, crashes = RealServer(server.url), read_courses(tell_story()), 0
    for number in STORY_CALLS:
        for side in ("before", "behind"):
            prefix = f"{side}-{number}-"
            strikes = {"before": pass_by, "behind": pass_by, side: away_at(number)}
            with suppress(ServerAway):
                work(Watched(real, **strikes), courses, prefix=prefix)
            work(real, courses, prefix=prefix)
            _require_whole(real, prefix)
            crashes += 1
    pairs = 4
    for number in range(pairs):
        prefix = f"beside-{number}-"
        both = [
            Thread(target=work, args=(RealServer(server.url), courses), kwargs={"prefix": prefix}) for _ in range(2)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        _require_whole(real, prefix)
    return {"crashes": crashes, "pairs": pairs}


def _require_whole(server: RealServer, prefix: str) -> None:
    found = summarize(server, prefix=prefix)
    assert found == WHOLE, f"{prefix}: {found}"


# --- a real training, under kills -------------------------------------------------------------------------------------


class Clients:
    """Several `fedlog mlflow --follow` at once, which are killed and started again."""

    def __init__(self, stage: Stage, url: str, *, draw: random.Random) -> None:
        self._stage, self._url, self._draw, self.kills = stage, url, draw, 0
        # How long its log was when it began.
        self._begun = [0] * CLIENTS
        self._children = [self._start(number) for number in range(CLIENTS)]

    def kill(self, number: int) -> None:
        """SIGKILL once it is at work, and another one in its place."""
        before, give_up_s = self._begun[number], time.monotonic() + AT_WORK_WITHIN_S
        while len(self.read_log(number)) <= before and time.monotonic() < give_up_s:
            time.sleep(0.1)
        time.sleep(self._draw.uniform(0.0, 2.0))
        self._children[number].kill()
        self._children[number].wait()
        self.kills += 1
        self._begun[number] = len(self.read_log(number))
        self._children[number] = self._start(number)

    def end(self) -> list[int]:
        """Ctrl-C; their exit codes."""
        for child in self._children:
            child.send_signal(signal.SIGINT)
        return [child.wait(timeout=120) for child in self._children]

    def read_log(self, number: int) -> str:
        """What one has said in all of its lives."""
        return (self._stage.folder / f"mlflow-{number}.log").read_text()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        return start(self._stage, f"mlflow-{number}", "mlflow", "--tracking-uri", self._url, "--follow")


def start(stage: Stage, name: str, *words: str) -> subprocess.Popen[bytes]:
    """A command of the console in a process of its own; what it says goes into a file."""
    with (stage.folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.terminal.cli", *stage.options, *words],
            cwd=stage.folder,
            env=make_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@contextmanager
def _beside(stage: Stage) -> Iterator[None]:
    """Devices and an evaluator."""
    allowed = ("--allow", COHORTS)
    children = [
        start(stage, "fleet", "fleet", "--task", TASK, "--devices", "60", *allowed),
        start(stage, "evaluator", "evaluate", "--follow", "--task", TASK, *allowed),
    ]
    try:
        yield
    finally:
        for child in children:
            child.send_signal(signal.SIGINT)
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=60)
            if child.poll() is None:
                child.kill()


def _train(stage: Stage, server: MlflowProcess, *, seed: int) -> dict[str, Any]:
    (stage.folder / "policy.toml").write_text(POLICY)
    made = stage.fedlog("task", "create", str(stage.folder / "policy.toml"), "--name", TASK)
    assert made.exit_code == 0, made.stderr
    stage.start("selector", "aggregator", "privacy", "rollout")
    draw = random.Random(seed)
    clients = Clients(stage, server.url, draw=draw)
    began_s = time.monotonic()
    with _beside(stage):
        strikes = [*range(CLIENTS)] * (CLIENT_KILLS // CLIENTS) + [-1] * SERVER_KILLS
        draw.shuffle(strikes)
        for strike in strikes:
            time.sleep(draw.uniform(1.0, 6.0))
            if strike < 0:
                server.kill()
                time.sleep(draw.uniform(0.5, 4.0))
                server.start()
            else:
                clients.kill(strike)
        stage.until_version(TASK, VERSIONS, timeout_s=ENDS_WITHIN_S)
        _until_scored(stage)
    _until_settled(stage)
    # Whatever the gates have decided: at the end a version is promoted, and taken back.
    for words in (("promote", TASK, "3"), ("promote", TASK, "4"), ("rollback", TASK)):
        done = stage.fedlog("rollout", *words)
        assert done.exit_code == 0, done.stderr
    standing = json.loads(stage.fedlog("rollout", "show", TASK, "--json").stdout)
    _until_there(stage, server, clients, standing=standing)
    codes = clients.end()
    faults = judge(stage, server, TASK, standing=standing)
    waits = sum(clients.read_log(number).count("MLflow does not answer") for number in range(CLIENTS))
    row = {
        "versions": VERSIONS + 1,
        "client_kills": clients.kills,
        "server_kills": server.kills,
        "waits_said": waits,
        "exit_codes": codes,
        "promoted": standing["promoted"],
        "seconds": round(time.monotonic() - began_s, 1),
        "faults": faults,
    }
    say(json.dumps(row))
    return row


def _until_scored(stage: Stage) -> None:
    def is_scored() -> bool:
        rows = [
            json.loads(line) for line in stage.fedlog("model", "list", "--task", TASK, "--json").stdout.splitlines()
        ]
        return len(rows) == VERSIONS + 1 and all(row["metrics"] for row in rows)

    stage.until(is_scored, "a score of each version", timeout_s=ENDS_WITHIN_S)


def _until_settled(stage: Stage) -> None:
    def is_settled() -> bool:
        standing = json.loads(stage.fedlog("rollout", "show", TASK, "--json").stdout)
        return standing["promoted"] is not None and standing["candidate"] is None

    stage.until(is_settled, "the end of the rollout", timeout_s=120.0)


def _until_there(stage: Stage, server: MlflowProcess, clients: Clients, *, standing: dict[str, Any]) -> None:
    """Wait until the alias stands where the rollout does: it is moved last."""

    def is_there() -> bool:
        try:
            model = server.ask("registered-models/get", name=TASK)["registered_model"]
        except HTTPError:
            return False
        at = {one["alias"]: one["version"] for one in model.get("aliases", ())}
        if "champion" not in at:
            return False
        version = server.ask("model-versions/get", name=TASK, version=at["champion"])["model_version"]
        return {"key": "fedlog.version", "value": str(standing["promoted"])} in version["tags"]

    try:
        stage.until(is_there, "the champion", timeout_s=120.0)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{clients.read_log(0)[-3_000:]}\n{server.read_log()}") from error


if __name__ == "__main__":
    main()
