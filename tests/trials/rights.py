"""A Kafka that asks who may do what: each role gets its work done with the rights that the docs name, and no other.

`make rights` runs it; it starts a broker of its own, and takes a minute.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from actors import keys
from actors.keys import OperatorKey
from ops.broker_state import USER
from ops.doors.rights import RIGHTS
from ops.operator.deployments import issue_key
from ops.processes import broker
from ops.terminal.cli import app
from schemas.topics import CATALOGUE, PUBLISHED, partition_of
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, LogRefused, TopicPartition, scan
from tests.root import ROOT
from tests.worlds.stage import Worker, reaching

POLICY = """
model = "client_agent.learning.models:softmax_regression"
shards = 2
[selection]
devices_expected = 4
concurrency = 1
retry_after_s = 0.2
[aggregation]
updates_per_round = 1
[stop]
versions_max = 1
[privacy]
noise_multiplier = 1.0
rho_max = 4.0
"""
DIGITS = "client_agent.learning.examples:digits"
ACTORS = ("selector", "aggregator", "privacy", "shard")


# Later lines win. Passwords of roles are SCRAM's, so that a rule of access names whom a password belongs to.
GUARD = f"""\
listener.name.clients.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{USER}
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """How to get in: as the super user, or as one of the roles that `fedlog topics grant` knows."""

    owner: KafkaSettings
    passwords: Path

    def settings(self, role: str) -> KafkaSettings:
        """What a client of this role needs."""
        said = dict(line.split("=") for line in self.passwords.read_text().split())
        return replace(
            self.owner, sasl_mechanism="SCRAM-SHA-512", sasl_username=role, sasl_password=said[role], client_id=role
        )


@contextlib.contextmanager
def guarded_broker(folder: Path) -> Iterator[Guarded]:
    """The broker, for the length of a `with` block; nobody has any right yet."""
    passwords = folder / "passwords"
    passwords.write_text("".join(f"{role}=open-{role}\n" for role in RIGHTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "_SETTINGS", broker._SETTINGS + GUARD)
        with broker.run_embedded(folder / "kafka") as running:
            yield Guarded(KafkaSettings(**running.connection, topic_prefix="guarded"), passwords)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The broker, its topics, and the rights of each role."""
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as running:
        for words in (("topics", "create"), ("topics", "grant", "--passwords", str(running.passwords))):
            _done(reaching(running.owner), *words)
        yield running


@pytest.mark.timeout(300)
def test_a_task_lives_with_least_rights(guarded: Guarded, tmp_path: Path) -> None:
    """From its creation over a private round with shards to scores and a full replay, each under its own principal."""
    (tmp_path / "policy.toml").write_text(POLICY)
    operator = [*reaching(guarded.settings("operator")), "--folder", str(tmp_path)]
    _done(operator, "key", "create")
    key = keys.load(tmp_path / "operator.key")
    _done(operator, "task", "create", str(tmp_path / "policy.toml"), "--name", "digits")
    workers = [_start(guarded, role, key, folder=tmp_path / role) for role in ACTORS]
    log = KafkaLog(guarded.settings("operator"))
    try:
        _wait_for_versions(log, workers, 1)
        device = tmp_path / "device"
        device.mkdir()
        np.savez(device / "data.npz", x=np.eye(64, dtype=np.float32)[:10], y=np.arange(10))
        trusted = ["--operator-public-key", key.public_key.hex(), "--folder", str(tmp_path / "own")]
        _done(
            [*reaching(guarded.settings("devices")), *trusted],
            *("device", "--task", "digits", "--state", str(device), "--updates", "1"),
        )
        _wait_for_versions(log, workers, 2)
        evaluator = _role_options(guarded, "evaluator", key, folder=tmp_path / "evaluator")
        _done(evaluator, "evaluate", "--task", "digits", "--data", DIGITS)
        _done(operator, "replay", "--full")
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.ended()
        log.close()


@pytest.mark.parametrize("role", ["selector", "aggregator", "privacy", "shard", "evaluator", "devices"])
def test_no_role_writes_what_is_anothers(guarded: Guarded, role: str) -> None:
    """A selector that is taken over cannot write `rounds`, nor a device anything but what devices send."""
    log = KafkaLog(guarded.settings(role))
    try:
        foreign = [topic.name for topic in CATALOGUE if topic not in RIGHTS[role].writes]
        assert foreign
        for topic in foreign:
            with pytest.raises(LogRefused):
                log.append([Draft(topic=topic, partition=0, value=b"junk")])
        with pytest.raises(LogRefused):
            log.writer("operator.0")
    finally:
        log.close()


def _role_options(guarded: Guarded, role: str, key: OperatorKey, *, folder: Path) -> list[str]:
    folder.mkdir(mode=0o700, exist_ok=True)
    log = KafkaLog(guarded.settings("operator"))
    try:
        keys.save_role(issue_key(log, key, role=role), folder / "role.key")
    finally:
        log.close()
    return [
        *reaching(guarded.settings(role)),
        *("--folder", str(folder), "--role-key-file", str(folder / "role.key")),
    ]


def _wait_for_versions(log: KafkaLog, workers: list[Worker], count: int) -> None:
    give_up_s, at = time.monotonic() + 60, TopicPartition(PUBLISHED.name, partition_of("digits", log.partitions))
    while len(list(scan(log, at))) < count:
        told = "\n".join(line[:300] for worker in workers for line in worker.read_log().splitlines()[-12:])
        assert time.monotonic() < give_up_s, told
        time.sleep(0.2)


def _start(guarded: Guarded, role: str, key: OperatorKey, *, folder: Path) -> Worker:
    return Worker(role, _role_options(guarded, role, key, folder=folder), folder=folder, number=0, source=ROOT)


def _done(options: list[str], *words: str) -> None:
    ran = CliRunner().invoke(app, [*options, *words])
    assert ran.exit_code == 0, f"{words}: {ran.stderr}"
