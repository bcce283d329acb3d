"""`fedlog doctor` on a real broker: nothing where all is well, and each of several faults once it is planted."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from ops.doors.authority import CertificateAuthority, LeafRequest
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import make_identity, sync
from ops.settings import HISTORY_FILE
from ops.terminal.cli import app
from schemas.topics import CATALOGUE
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft


def test_planted_faults_are_found(
    kafka_settings: KafkaSettings, kafka_log: KafkaLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong setting, a hanging transaction, an ended certificate, a history that is behind, and workers that lack."""
    for name, value in asdict(kafka_settings).items():
        if value and name != "client_id":
            monkeypatch.setenv(f"FEDLOG_{name.upper()}", value)
    kafka_log.create_topics(CATALOGUE, partitions=2)
    tmp_path.chmod(0o700)
    assert ask(tmp_path) == (0, {})
    plant(kafka_settings, kafka_log, tmp_path)
    code, found = ask(tmp_path)
    assert code == 1
    assert found.pop("actors") == ["worker selector", "worker aggregator"]
    # The record in the open transaction is no journal's, and nobody can see it: chains have nothing to say.
    assert found == {
        "topics": [f"{kafka_settings.topic_prefix}.rounds"],
        "transactions": ["ledger[0]"],
        "projections": [str(tmp_path / HISTORY_FILE)],
        "certificates": [found["certificates"][0]],
    }
    assert "gateway.pem" in found["certificates"][0]


def ask(folder: Path) -> tuple[int, dict[str, list[str]]]:
    """The exit code, and what the findings are about by their families."""
    words = ["--folder", str(folder), "doctor", "--json", "--hanging-s", "0", "--waiting-s", "0"]
    result = CliRunner().invoke(app, words)
    told: dict[str, Any] = json.loads(result.stdout)
    found: dict[str, list[str]] = {}
    for finding in told["findings"]:
        assert finding["remedy"]
        found.setdefault(finding["check"], []).append(finding["subject"])
    return result.exit_code, found


def plant(settings: KafkaSettings, log: KafkaLog, folder: Path) -> None:
    """All the faults."""
    with closing(KafkaAdminClient(**settings.client())) as admin:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, settings.add_prefix("rounds"), {"cleanup.policy": "compact"}
        )
        admin.alter_configs([resource])
    viewer = Viewer(operator=None, deployment=None)
    with closing(HistoryFile(folder / HISTORY_FILE, identity=make_identity(viewer))) as history:
        sync(log, history, viewer=viewer)
    log.append([Draft(topic="tasks", partition=1, value=b"an order")])
    log.append([Draft(topic="updates", partition=0, value=b"an update")] * 6)
    writer = log.writer("privacy.0")
    writer.begin()
    writer.put([Draft(topic="ledger", partition=0, value=b"never committed")])
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    authority = CertificateAuthority.create(folder / "ca", now=long_ago)
    authority.issue(LeafRequest(name="gateway", hosts=("localhost",)), now=long_ago)
