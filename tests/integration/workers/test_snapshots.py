"""Snapshots on a real broker: a killed worker goes on from one, and is none the worse for it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actors.deciders.decider import digest
from actors.hosts.assembly import assemble
from actors.runtime.actor import DIGEST_EVERY
from schemas.topics import SELECTIONS, SNAPSHOTS
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.trials.recovery.long_journal import PARTITION, fill
from tests.worlds.stage import Stage, Worker, say, staged

DECISIONS = 45_000
JOURNAL = TopicPartition(SELECTIONS.name, PARTITION)


def openings(worker: Worker) -> list[dict[str, Any]]:
    """What the worker told about each opening of the long partition."""
    lines = [line for line in worker.log_file.read_text(errors="replace").splitlines() if line.startswith("{")]
    told = [line for line in map(json.loads, lines) if line["event"] == "opened"]
    return [line for line in told if line["partition"] == PARTITION]


def standing(stage: Stage, *, whole: bool) -> tuple[object, ...]:
    """What another process finds, with a snapshot or without."""
    actor = assemble("selector", PARTITION, log=stage.log, key=stage.role_key("selector"))
    actor.open(whole=whole)
    assert (actor.opened.snapshot is None) == whole
    actor.close()
    return digest(actor.state), actor._inputs.time_ms, actor._inputs.position.offsets, actor._journal.seq


@pytest.mark.timeout(300)
def test_a_killed_worker_goes_on_from_a_snapshot(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """With tens of thousands of decisions in the journal a restart folds those since the newest digest, and says so."""
    with staged(kafka_settings, tmp_path) as stage:
        fill(stage, DECISIONS)
        offsets = [record.offset for record in scan(stage.log, JOURNAL)]
        # A record and a marker a transaction, so that a writer alone need not read its journal to know that it is.
        assert {after - before for before, after in pairwise(offsets)} <= {1, 2}
        [worker] = stage.start("selector")
        for number in (1, 2):
            stage.until(lambda n=number: len(openings(worker)) >= n, f"opening {number}", timeout_s=90)
            child = worker.child()
            assert child is not None
            child.kill()
        stage.stop()
        for told in openings(worker):
            say(f"{told['decisions']:,} of {DECISIONS:,} decisions in {told['seconds']} s, from seq {told['snapshot']}")
            assert told["snapshot"] is not None
            assert told["decisions"] < DIGEST_EVERY
        assert stage.said("snapshot_not_used", "snapshot_not_stored") == 0
        assert standing(stage, whole=False) == standing(stage, whole=True)
        # Chunks and a manifest for each digest, and nothing for an opening.
        at = TopicPartition(SNAPSHOTS.name, PARTITION)
        assert 0 < stage.log.bounds(at).end <= 4 * (DECISIONS // DIGEST_EVERY)
