"""A Kafka that asks who may do what: each role gets its work done with the rights that the docs name, and no other.

`make rights` runs it; it starts a broker of its own behind doors, and takes a few minutes. Adds to docs/results.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from confluent_kafka import Consumer
from typer.testing import CliRunner

from actors import keys
from actors.keys import OperatorKey
from ops.doors import keeping
from ops.doors.comparing import Wanted
from ops.doors.rights import RIGHTS
from ops.operator.deployments import issue_key
from ops.processes import broker
from ops.settings import resolve
from ops.terminal.cli import app
from schemas.topics import CATALOGUE, PUBLISHED, partition_of
from streams.kafka import access
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.root import ROOT
from tests.trials.doors.pairs import Try, try_all
from tests.trials.registry.mlflow_server import make_environment
from tests.trials.registry.mlflow_server import running as registering
from tests.trials.results import add_row
from tests.worlds.gateway.process import running
from tests.worlds.stage import Worker, reaching

POLICY = """
identity = "enrolled"
model = "client_agent.learning.models:softmax_regression"
shards = 2
[selection]
devices_expected = 4
concurrency = 1
retry_after_s = 0.2
[aggregation]
updates_per_round = 1
[stop]
versions_max = 2
[privacy]
noise_multiplier = 1.0
rho_max = 4.0
[evaluation]
quorum = 2
[[rollout.stages]]
share = 1.0
"""
# What a fleet trains, which nobody enrols.
CROWD = """
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[selection]
devices_expected = 4
concurrency = 4
retry_after_s = 0.2
[aggregation]
updates_per_round = 2
[stop]
versions_max = 1
"""
TASK = "digits"
DIGITS = "client_agent.learning.examples:digits"
ACTORS = ("selector", "aggregator", "privacy", "registrar", "rollout", "shard")
# Beside those of the table: the devices of a population, and one who has a password and stands in no table.
OTHERS = ("devices.hospitals", "stranger")
PATIENCE_S = 120


@dataclass(frozen=True, slots=True)
class Guarded:
    """How to get in: as the super user, or as one of the principals that the table knows."""

    folder: Path

    def settings(self, principal: str = "fedlog") -> KafkaSettings:
        """What a client of this principal needs."""
        told = {"folder": self.folder, "sasl_username": principal, "topic_prefix": "guarded"}
        return resolve(told, {}).kafka(principal)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The broker, its topics, and the rights of each role, as `fedlog broker start --secure` makes them."""
    folder = tmp_path_factory.mktemp("guarded") / "fedlog"
    try:
        run_command(["--folder", str(folder), "--topic-prefix", "guarded"], "broker", "start", "--secure")
        yield Guarded(folder)
    finally:
        broker.stop(folder / "broker")


@pytest.mark.timeout(900)
def test_the_product_lives_with_least_rights(guarded: Guarded, tmp_path: Path) -> None:
    """From its creation over enrolment, a private round with shards and a gateway to scores, page, history and replay.

    Each under its own principal.
    """
    (tmp_path / "policy.toml").write_text(POLICY)
    operator = [*reaching(guarded.settings("operator")), "--folder", str(tmp_path)]
    run_command(operator, "key", "create")
    key = keys.load(tmp_path / "operator.key")
    run_command(operator, "task", "create", str(tmp_path / "policy.toml"), "--name", TASK)
    workers = [start_worker(guarded, role, key, folder=tmp_path / role) for role in ACTORS]
    log = KafkaLog(guarded.settings("operator"))
    try:
        run_command(operator, "enrol", "open", TASK, "--quota", "9")
        wait_for_versions(log, workers, 1)
        _train(reaching(guarded.settings("devices")), operator, key=key, folder=tmp_path / "ada")
        wait_for_versions(log, workers, 2)
        trusting = ["--operator-public-key", key.public_key.hex()]
        gateway = [*reaching(guarded.settings("gateway")), *trusting, "--folder", str(tmp_path / "gateway")]
        (tmp_path / "gateway").mkdir()
        with running(gateway, tmp_path / "gateway") as served:
            _train([], operator, key=key, folder=tmp_path / "bob", words=["--gateway", served.url])
            wait_for_versions(log, workers, 3)
        for serial in (1, 2):
            evaluator = _role_options(guarded, "evaluator", key, folder=tmp_path / f"evaluator-{serial}", serial=serial)
            run_command(evaluator, "evaluate", "--task", TASK, "--data", DIGITS)
        _release(guarded, operator, trusting=trusting, folder=tmp_path)
        _oversee(operator)
        _ask_history([*reaching(guarded.settings("analysts")), *trusting, "--folder", str(tmp_path / "analysts")])
        _ask_server([*reaching(guarded.settings("serve")), *trusting, "--folder", str(tmp_path / "serve")], tmp_path)
        assert _read_as_subscriber(guarded.settings("subscribers")) == 3
        _run_fleets(guarded, operator, key=key, folder=tmp_path)
        run_command(operator, "replay", "--full")
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.ended()
        log.close()


def _release(guarded: Guarded, operator: list[str], *, trusting: list[str], folder: Path) -> None:
    """A subscriber hears that the last version is promoted, an MLflow that it was taken back: each as itself."""
    subscriber = [*reaching(guarded.settings("subscribers")), *trusting, "--folder", str(folder / "subscriber")]
    kept = ["--models", str(folder / "models"), "--state", str(folder / "heard")]
    begin = ["--promoted", "--from", "beginning", "--count", "1", "--json"]
    version = 0
    # The version before it was scored as well, and may have been promoted on the way.
    while version < 2:
        told = json.loads(run_in_a_process([*subscriber, "subscribe", TASK, *begin, *kept]))
        assert told["type"] == "io.fedlog.rollout.promoted.v1"
        version = told["data"]["version"]
    assert (folder / "models" / f"{TASK}-2.bin").stat().st_size == 4 * 650
    run_command(operator, "rollout", "rollback", TASK)
    mlflow = [*reaching(guarded.settings("mlflow")), *trusting, "--folder", str(folder / "mlflow")]
    (folder / "mlflow").mkdir()
    with registering(folder / "mlflow") as server:
        run_in_a_process([*mlflow, "mlflow", "--tracking-uri", server.url, "--task", TASK], make_environment())
        [last] = [
            {tag["key"]: tag["value"] for tag in found["tags"]}
            for found in server.ask("model-versions/search", max_results="100")["model_versions"]
            if {"key": "fedlog.version", "value": "2"} in found["tags"]
        ]
    assert last["fedlog.rolled_back"] == "ordered"


def _oversee(operator: list[str]) -> None:
    """The doctor sees the operator's cluster, but for who may do what; every worker is alive."""
    found = json.loads(CliRunner().invoke(app, [*operator, "doctor", "--json"]).stdout)["findings"]
    notes = {finding["subject"] for finding in found if finding["severity"] == "note"}
    assert notes == {"rights"}, found
    assert not [finding for finding in found if finding["check"] in ("actors", "topics")], found


@pytest.fixture(scope="module")
def doors(guarded: Guarded) -> Iterator[tuple[dict[str, KafkaSettings], list[Try]]]:
    """Everybody's way in, on topics of their own, and what was tried, which becomes a row of docs/results."""
    owner = replace(guarded.settings(), topic_prefix="pairs")
    log = KafkaLog(owner)
    try:
        log.create_topics(CATALOGUE, partitions=1)
    finally:
        log.close()
    keeping.apply(owner, Wanted(prefix="pairs", populations=["hospitals"]))
    passwords = {name: secrets.token_urlsafe(12) for name in OTHERS}
    access.set_passwords(owner, passwords)
    found = {name: replace(guarded.settings(name), topic_prefix="pairs") for name in RIGHTS}
    found |= {
        name: replace(owner, sasl_username=name, sasl_password=own, client_id=name) for name, own in passwords.items()
    }
    tries: list[Try] = []
    yield found, tries
    # A row is about all of them: a share that somebody picked proves little.
    if len({one.principal for one in tries}) < len(found):
        return
    wrong = [f"{one.principal} {one.action} {one.name}" for one in tries if one.is_wrong]
    row = {
        "principals": len({one.principal for one in tries}),
        "tries": len(tries),
        "allowed": sum(one.is_allowed for one in tries),
        "refused": sum(not one.is_allowed for one in tries),
        "wrong": wrong,
        "by_action": dict(Counter(one.action for one in tries)),
    }
    add_row("rights", row)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("principal", [*RIGHTS, *OTHERS])
def test_each_is_let_in_where_the_table_says(doors: tuple[dict[str, KafkaSettings], list[Try]], principal: str) -> None:
    """Every principal at every topic, group, transactional id and at the cluster: allowed or refused, by the table."""
    settings, tries = doors
    tried = list(try_all(principal, settings[principal]))
    tries += tried
    assert [one for one in tried if one.is_wrong] == []
    assert len(tried) > 70


def _train(
    reached: list[str], operator: list[str], *, key: OperatorKey, folder: Path, words: list[str] | None = None
) -> None:
    """Enrol one device and let it train once."""
    folder.mkdir()
    np.savez(folder / "data.npz", x=np.eye(64, dtype=np.float32)[:10], y=np.arange(10))
    token = run_command(operator, "enrol", "token", TASK, "--subject", folder.name).split()[0]
    own = [*reached, "--operator-public-key", key.public_key.hex(), "--folder", str(folder / "own")]
    more = ["--updates", "1", "--enrol", token]
    run_command(own, "device", *(words or ()), "--task", TASK, "--state", str(folder), *more)


def _run_fleets(guarded: Guarded, operator: list[str], *, key: OperatorKey, folder: Path) -> None:
    """Let simulated devices train with the rights of devices: a task by name, and the one that nobody has told of."""
    own = [*reaching(guarded.settings("devices")), "--operator-public-key", key.public_key.hex()]
    for name, words in (("crowd", ["--task", "crowd"]), ("second", [])):
        (folder / f"{name}.toml").write_text(CROWD)
        run_command(operator, "task", "create", str(folder / f"{name}.toml"), "--name", name)
        fleet = ["fleet", "--devices", "4", "--processes", "1", "--json", *words]
        told = run_in_a_process([*own, "--folder", str(folder / "fleet"), *fleet])
        assert json.loads(told.splitlines()[-1])["closed"] == 4
    # The first task is over for its versions alone, of which no device reads.
    assert (folder / "fleet" / "fleet" / "over").read_text().split() == ["crowd", "second"]


def run_in_a_process(words: list[str], environment: dict[str, str] | None = None) -> str:
    program = [sys.executable, "-P", "-m", "ops.terminal.cli", *words]
    done = subprocess.run(
        program,
        env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ask_history(options: list[str]) -> None:
    """Read the log into tables, and ask them."""
    run_command(options, "history", "sync")
    told = run_command(options, "query", "SELECT count(*) AS n FROM versions", "--json")
    assert json.loads(told.splitlines()[0])["n"] == 3


def _ask_server(options: list[str], folder: Path) -> None:
    """Start the server, log in, and ask what tasks there are."""
    words = [sys.executable, "-P", "-m", "ops.terminal.cli", *options, "serve", "--port", "0", "--link"]
    with (folder / "serve.log").open("wb") as errors:
        server = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
    try:
        assert server.stdout is not None
        url = urlsplit(server.stdout.readline().strip())
        assert url.netloc, (folder / "serve.log").read_text()
        token = parse_qs(url.query)["token"][0]
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            asked = Request(f"http://{url.netloc}/api/v1/tasks", headers={"Authorization": f"Bearer {token}"})
            told = ""
            # It answers before it has read the log, and says so.
            with suppress(HTTPError), urlopen(asked, timeout=30) as answer:
                told = answer.read().decode()
            if f'"{TASK}"' in told:
                break
            assert time.monotonic() < give_up_s, told + (folder / "serve.log").read_text()
            time.sleep(0.5)
    finally:
        server.terminate()
        server.wait(60)


def _read_as_subscriber(settings: KafkaSettings) -> int:
    """How many versions were announced, as a service hears of them that knows Kafka and nothing of fedlog."""
    group = {"group.id": settings.add_prefix("subscribers.mine"), "auto.offset.reset": "earliest"}
    consumer, found = Consumer({**settings.librdkafka(), **group}), 0
    consumer.subscribe([settings.add_prefix(PUBLISHED.name)])
    give_up_s = time.monotonic() + PATIENCE_S
    while found < 3 and time.monotonic() < give_up_s:
        message = consumer.poll(1.0)
        if message is not None:
            assert message.error() is None, message.error()
            found += 1
    consumer.close()
    return found


def _role_options(guarded: Guarded, role: str, key: OperatorKey, *, folder: Path, serial: int = 0) -> list[str]:
    folder.mkdir(mode=0o700, exist_ok=True)
    log = KafkaLog(guarded.settings("operator"))
    try:
        keys.save_role(issue_key(log, key, role=role, serial=serial), folder / "role.key")
    finally:
        log.close()
    return [
        *reaching(guarded.settings(role)),
        *("--folder", str(folder), "--role-key-file", str(folder / "role.key")),
    ]


def wait_for_versions(log: KafkaLog, workers: list[Worker], count: int) -> None:
    give_up_s, at = time.monotonic() + PATIENCE_S, TopicPartition(PUBLISHED.name, partition_of(TASK, log.partitions))
    while len(list(scan(log, at))) < count:
        told = "\n".join(line[:300] for worker in workers for line in worker.read_log().splitlines()[-12:])
        assert time.monotonic() < give_up_s, told
        time.sleep(0.2)


def start_worker(guarded: Guarded, role: str, key: OperatorKey, *, folder: Path) -> Worker:
    return Worker(role, _role_options(guarded, role, key, folder=folder), folder=folder, number=0, source=ROOT)


def run_command(options: list[str], *words: str) -> str:
    ran = CliRunner().invoke(app, [*options, *words])
    assert ran.exit_code == 0, f"{words}: {ran.stderr}"
    return ran.stdout
