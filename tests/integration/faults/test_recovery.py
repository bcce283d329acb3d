"""The measurement of restarts (`make recovery`) at its smallest, so that it still works when somebody wants it."""

from __future__ import annotations

from pathlib import Path

from streams.kafka.settings import KafkaSettings
from tests.trials.recovery.measure import measure


def test_a_killed_worker_has_its_journal_back_and_decides(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 1: a worker killed with SIGKILL folds all that its journal holds, and decides again; rows tell how soon."""
    rows = measure(kafka_settings, tmp_path, decisions=500, runs=1, kinds=["child"])
    assert [(row["kind"], row["runs"]) for row in rows] == [("child", 1), ("open", 1)]
    for row in rows:
        assert row["replayed_decisions"] >= 500  # too few for a snapshot
        assert 0 < row["median_s"] <= row["worst_s"]
