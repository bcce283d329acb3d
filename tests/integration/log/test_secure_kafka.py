"""A Kafka that wants to know who comes: TLS with certificates on both sides, and a password by SASL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ops.doors.authority import CertificateAuthority
from ops.terminal.cli import app
from schemas.topics import CATALOGUE
from streams.bodies import store
from streams.kafka.log import KafkaLog
from streams.log import LogRefused, TopicPartition
from tests.worlds.secure_broker import Secure, secure_broker
from tests.worlds.stage import Stage, reaching, staged

POLICY = """
model = "client_agent.learning.models:softmax_regression"
[selection]
devices_expected = 1
concurrency = 1
retry_after_s = 0.2
[aggregation]
updates_per_round = 1
[stop]
versions_max = 1
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """The broker, and a client's certificate."""
    with secure_broker(tmp_path_factory.mktemp("secure")) as running:
        yield running


def test_a_task_is_trained_through_tls_and_sasl(secure: Secure, tmp_path: Path) -> None:
    """Console, workers (Faust's client and ours) and a device get through, whichever way they say the password."""
    (tmp_path / "policy.toml").write_text(POLICY)
    device = tmp_path / "device"
    device.mkdir()
    np.savez(device / "data.npz", x=np.eye(64, dtype=np.float32)[:10], y=np.arange(10))
    created = CliRunner().invoke(app, [*reaching(secure.settings("PLAIN")), "topics", "create"])
    assert created.exit_code == 0, created.stderr
    with staged(secure.settings("SCRAM-SHA-512"), tmp_path) as stage:
        _done(stage, "topics", "check")
        _done(stage, "task", "create", str(tmp_path / "policy.toml"), "--name", "digits")
        stage.start("selector", "aggregator")
        stage.until_version("digits", 0)
        _done(stage, "device", "--task", "digits", "--state", str(device), "--updates", "1")
        stage.until_version("digits", 1)


def _done(stage: Stage, *words: str) -> None:
    ran = stage.fedlog(*words)
    assert ran.exit_code == 0, ran.stderr


def test_whoever_is_not_known_stays_outside(secure: Secure, tmp_path: Path) -> None:
    """A wrong password, a broker signed by a stranger: neither gets through, and both are told where to look."""
    known = secure.settings("SCRAM-SHA-512")
    stranger = CertificateAuthority.create(tmp_path / "stranger")
    strangers = {"sasl_password": "guessed"}, {"ssl_cafile": str(stranger.certificate)}
    for kafka in (replace(known, **changes) for changes in strangers):
        refused = CliRunner().invoke(app, [*reaching(kafka), "topics", "list"])
        assert refused.exit_code == 3
        assert "the certificates and the password" in refused.stderr


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_bodies_get_through_in_bulk(secure: Secure, mechanism: str) -> None:
    """The second client, for bodies, takes the same settings; and a guessed password is a refusal, not a wait."""
    known, at = secure.settings(mechanism), TopicPartition("bodies", 0)
    log = KafkaLog(known)
    log.create_topics(CATALOGUE)
    ref = store(log, at, data=b"a body", upload_id="u", codec="raw")
    reader = log.bulk_reader({at: ref.offsets[0]})
    found = next(records for _ in range(20) if (records := reader.poll(1.0)))
    assert found[0].value == b"a body"
    reader.close()
    log.close()
    guessing = KafkaLog(replace(known, sasl_password="guessed")).bulk_reader({at: 0})
    with pytest.raises(LogRefused):
        any(guessing.poll(1.0) for _ in range(20))
    guessing.close()
