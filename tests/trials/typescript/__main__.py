"""Devices in TypeScript against a real gateway and a real Kafka: `make typescript-trial`, two minutes.

Ten of them train softmax regression on handwritten digits in Node, and ten send noise in updates that are sealed, too
long for a record, and whose uploads are cut. The gateway is killed in the midst. At the end the law check has to find
nothing, and a full replay the same models. What the operator then promotes a device in TypeScript asks for, and gets.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sklearn.datasets import load_digits

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.gateway.process import running
from tests.worlds.stage import ACTORS, Stage, say, staged

PACKAGE = ROOT / "clients" / "typescript"
TASK, DEVICES, VERSIONS = "digits", 10, 8
FOLLOWED_WITHIN_S = 30.0
# Every fifth digit is held out, for whoever scores.
HELD_OUT = 5
WIDE = "wide"
# The program of each task's devices.
PROGRAMS = {TASK: "examples/node/digits.js", WIDE: "test/wide.js"}
POLICY = f"""
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[selection]
devices_expected = {DEVICES}
concurrency = {DEVICES}
lease_s = 30.0
[aggregation]
updates_per_round = 5
[clipping]
norm = 8.0
[training]
learning_rate = 0.5
[evaluation]
report = ["loss", "accuracy"]
[stop]
versions_max = {VERSIONS}
"""
SEALED = 'tier = "sealed"\n[sealed]\nepoch_versions = 3\nkept_s = 3600.0\n[model_arguments]\ninputs = 4096\n[selection]'
POLICIES = {TASK: f"{POLICY}[rollout]\n", WIDE: POLICY.replace("[selection]", SEALED)}


def main() -> None:
    """Build the package, train, judge."""
    for words in (["ci", "--no-audit", "--no-fund", "--silent"], ["run", "build:test", "--silent"]):
        subprocess.run(["npm", *words], cwd=PACKAGE, check=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-typescript-")))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        for task in PROGRAMS:
            kafka = KafkaSettings(**handle.connection, topic_prefix=f"ts-{uuid.uuid4().hex[:8]}")
            (folder / task).mkdir()
            with staged(kafka, folder / task) as stage:
                _train(stage, task, folder=folder / task)


def _train(stage: Stage, task: str, *, folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICIES[task])
    made = stage.fedlog("task", "create", str(folder / "policy.toml"), "--name", task)
    assert made.exit_code == 0, made.stderr
    stage.start(*ACTORS, *(["rollout"] if task == TASK else []))
    stage.until_version(task, 0)
    operator = stage.key.public_key.hex()
    with running([*stage.options, "--operator-public-key", operator], folder) as gateway:
        with _devices(task, gateway.url, operator, folder=folder) as logs:
            stage.until_version(task, VERSIONS // 2)
            gateway.kill()
            time.sleep(1.0)
            gateway.start()
            stage.until_version(task, VERSIONS)
        if task == TASK:
            _release(stage, gateway.url, operator, folder=folder)
        assert gateway.end() == 0, gateway.read_log()
    steps = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    counts = Counter(step["outcome"] if step["step"] == "settled" else step["step"] for step in steps)
    # Of the last round some have heard only that the task is over.
    assert counts["admitted"] >= VERSIONS * 5 - DEVICES, counts
    stage.until_lawful(home_of(task), sums=folder / "epoch-keys")
    replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
    assert replayed["replay"] == "identical", replayed
    say(task, json.dumps(counts), "replay", replayed["replay"], stage.report(home_of(task)))


def _release(stage: Stage, url: str, operator: str, *, folder: Path) -> None:
    """Promote two versions, the later first: a device has each of them, with the bytes that Python has."""
    words = ["node", "--no-warnings", "build/test/released.js"]
    words.append(json.dumps({"gateway": url, "operator": operator, "task": TASK}))
    found = []
    for promoted in (None, VERSIONS - 1, VERSIONS - 2):
        expected = {"version": promoted, "sha256": None}
        if promoted is not None:
            made = stage.fedlog("rollout", "promote", TASK, str(promoted))
            assert made.exit_code == 0, made.stderr
            out = folder / f"promoted-{promoted}"
            assert stage.fedlog("model", "download", TASK, "--promoted", "--out", str(out)).exit_code == 0
            expected["sha256"] = hashlib.sha256((out / "weights.bin").read_bytes()).hexdigest()
        give_up_s = time.monotonic() + FOLLOWED_WITHIN_S
        # A gateway follows the log, and may be a moment behind it.
        while (got := json.loads(subprocess.check_output(words, cwd=PACKAGE))) != expected:
            assert time.monotonic() < give_up_s, (got, expected)
        found.append(got["version"])
    say(TASK, "in production, as a device has it:", json.dumps(found))


def write_digits(path: Path) -> None:
    """The examples that devices share: each takes every so many of them."""
    images, labels = load_digits(return_X_y=True)
    kept = [place for place in range(len(labels)) if place % HELD_OUT]
    path.write_text(json.dumps({"images": images[kept].astype(int).tolist(), "labels": labels[kept].tolist()}))


@contextmanager
def _devices(task: str, url: str, operator: str, *, folder: Path) -> Iterator[list[Path]]:
    """So many processes of Node, and their end whatever happens; the files of what they say."""
    write_digits(folder / "digits.json")
    children, logs = [], [folder / f"{task}-{number}.log" for number in range(DEVICES)]
    for number, log in enumerate(logs):
        asked = {"gateway": url, "operator": operator, "task": task, "device": number, "devices": DEVICES}
        words = ["node", "--no-warnings", f"build/{PROGRAMS[task]}"]
        words.append(json.dumps({**asked, "examples": str(folder / "digits.json")}))
        with log.open("wb") as out:
            children.append(subprocess.Popen(words, cwd=PACKAGE, stdout=out, stderr=sys.stderr, start_new_session=True))
    try:
        yield logs
        for child in children:
            child.wait(timeout=90)
    finally:
        for child in children:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
