"""Data that move, on a real broker: found once by the aggregator, whoever is killed, and a canary is taken back."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from schemas.canonical import encode
from schemas.certificates import name_evaluator, read_certificate
from schemas.events import CanaryStarted, DriftFound, RolledBack, VersionEvaluated
from schemas.policy import Selection, Stop
from schemas.tensors import encode_update
from schemas.topics import EVALUATIONS, PUBLISHED, ROLLOUTS
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.judges.logbook import Logbook, read
from tests.judges.published import announcement_faults
from tests.judges.releasing.drift import drift_faults
from tests.judges.releasing.rollouts import rollout_faults
from tests.places import home_of
from tests.worlds.drift.asking import DEVICES, answer, drift_policy
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.scripted_fleet import Fleet
from tests.worlds.stage import Stage, staged

TASK, ASKED = "held", "held.ages"
GATES = [{"metric": "accuracy", "at_least": 0.5}, {"metric": "ks", "drift_of": ASKED, "drift_max": 0.5}]
RULES = msgspec.structs.replace(
    rollout_policy(stages=[{"share": 0.5, "hold_s": 600.0}], gates=GATES), stop=Stop(versions_max=3)
)
QUESTION = msgspec.structs.replace(
    drift_policy(),
    selection=Selection(devices_expected=DEVICES + 4, concurrency=DEVICES + 4, retry_after_s=0.2),
    stop=Stop(versions_max=1000),
)


def read_book(stage: Stage) -> Logbook:
    """What stands in the partition of both tasks."""
    return read(stage.log, home_of(TASK), operator=stage.key.public_key, deployment=stage.deployment)


def list_steps(stage: Stage, kind: type[Any]) -> list[Any]:
    """What the rollout has decided of this kind."""
    return read_book(stage).journals[ROLLOUTS.name].events(kind)


def score(stage: Stage) -> None:
    """What an evaluator with the operator's certificate says of the first version."""
    key = stage.role_key("evaluator")
    by = name_evaluator(read_certificate(key.certificate).public_key)
    said = VersionEvaluated(task=TASK, version=1, metrics={"accuracy": 0.9}, samples=100, cohort="", evaluator=by)
    value = key.signer.certify(encode(said))
    stage.log.append([Draft(topic=EVALUATIONS.name, partition=home_of(TASK), value=value)])


@pytest.mark.timeout(240)
def test_what_moves_takes_a_canary_back(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: a planted shift is found and announced once, though the aggregator dies; the rollout names it."""
    same, moved = (encode_update(answer(place), QUESTION) for place in (0, 3))
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(ASKED, QUESTION, parameters=4)
        stage.create_task(TASK, RULES, parameters=6)
        aggregator, *_ = stage.start("aggregator", "selector", "rollout")
        with Fleet(stage.kafka, TASK, RULES, 6, 4):
            stage.until_version(TASK, 1)
        score(stage)
        with Fleet(stage.kafka, ASKED, QUESTION, 4, DEVICES + 4, bodies=(same,)) as fleet:
            stage.until_version(ASKED, 2)
            stage.until(lambda: bool(list_steps(stage, CanaryStarted)), "a canary", timeout_s=60.0)
            assert read_book(stage).rounds.events(DriftFound) == []
            fleet.bodies = (moved,)
            with contextlib.suppress(psutil.NoSuchProcess):
                if (child := aggregator.child()) is not None:
                    child.kill()
            stage.until(lambda: bool(list_steps(stage, RolledBack)), "the rollback of the canary", timeout_s=90.0)
        book = read_book(stage)
        [back] = book.journals[ROLLOUTS.name].events(RolledBack)
        found = book.rounds.events(DriftFound)
        assert (back.version, back.reason, back.drift in found) == (1, "drift", True)
        assert [*drift_faults(stage.log, book)] == []
        assert [*announcement_faults(book, settled=False)] == []
        assert [*rollout_faults(stage.log, book, settled=False)] == []
        records = scan(stage.log, TopicPartition(PUBLISHED.name, home_of(TASK)))
        said = [json.loads(record.value or b"") for record in records]
        crossed = [event["data"]["measure"] for event in said if event["type"] == "io.fedlog.drift.found.v1"]
        assert sorted(crossed) == ["ks", "psi"]
