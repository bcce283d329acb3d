"""A rollout on a real broker: a regression in one version is rolled back by itself, while the rollout is killed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import msgspec
import psutil
import pytest

from schemas.canonical import encode
from schemas.certificates import name_evaluator, read_certificate
from schemas.events import ModelPublished, Promoted, RolledBack, VersionEvaluated
from schemas.policy import Stop
from schemas.topics import EVALUATIONS, PUBLISHED, ROLLOUTS
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.judges.logbook import Logbook, read
from tests.judges.releasing.rollouts import rollout_faults
from tests.places import home_of
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.scripted_fleet import Fleet
from tests.worlds.stage import Stage, Worker, staged

TASK = "released"
# The version in which the model gets worse, as a bad round or a bad fleet would make it.
PLANTED = 20
RULES = msgspec.structs.replace(
    rollout_policy(stages=[{"share": 0.5, "hold_s": 0.2}], gates=[{"metric": "accuracy", "drop_max": 0.01}], kept=4),
    stop=Stop(versions_max=PLANTED),
)


def kill(worker: Worker) -> None:
    """The child dies at once, wherever it is; its supervisor starts another."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if (child := worker.child()) is not None:
            child.kill()


def read_book(stage: Stage) -> Logbook:
    """What stands in the task's partition."""
    return read(stage.log, home_of(TASK), operator=stage.key.public_key, deployment=stage.deployment)


def score(stage: Stage, version: int) -> None:
    """What an evaluator with the operator's certificate says of a version."""
    key = stage.role_key("evaluator")
    said = VersionEvaluated(
        task=TASK,
        version=version,
        metrics={"accuracy": 0.1 if version == PLANTED else 0.9},
        samples=100,
        cohort="",
        evaluator=name_evaluator(read_certificate(key.certificate).public_key),
    )
    # And of a measurement that was never made: believed, it would drag each version below the one before.
    forged = msgspec.structs.replace(said, metrics={"accuracy": 0.5 - version / 100}, source=f"{TASK}.measured")
    values = [key.signer.certify(encode(each)) for each in (said, forged)]
    stage.log.append([Draft(topic=EVALUATIONS.name, partition=home_of(TASK), value=value) for value in values])


@pytest.mark.timeout(240)
def test_a_regression_is_rolled_back_under_kills(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: killed anywhere, it promotes by the scores in the log; what is worse comes back, lies do nothing."""
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, RULES, parameters=6)
        rollout, *_ = stage.start("rollout", "selector", "aggregator")
        scored: set[int] = set()

        def score_new(before: int) -> bool:
            """Score what is published below a version; whether anything is promoted."""
            for version in sorted({*range(1, min(before, stage.version(TASK) + 1))} - scored):
                score(stage, version)
                scored.add(version)
            return bool(read_book(stage).journals[ROLLOUTS.name].events(Promoted))

        def is_back(before: int) -> bool:
            """Whether another has claimed the journal; scores come meanwhile."""
            return score_new(PLANTED) and read_book(stage).journals[ROLLOUTS.name].claims > before

        with Fleet(stage.kafka, TASK, RULES, 6, 6):
            # There has to be something that the planted version is worse than.
            stage.until(lambda: score_new(PLANTED), "a first promotion", timeout_s=90.0)
            for _ in range(3):
                kill(rollout)
                claims = read_book(stage).journals[ROLLOUTS.name].claims
                stage.until(
                    lambda before=claims: (
                        score_new(PLANTED) and read_book(stage).journals[ROLLOUTS.name].claims > before
                    ),
                    "it comes back",
                    timeout_s=60.0,
                )
            stage.until_version(TASK, PLANTED)
        score_new(PLANTED + 1)
        kill(rollout)
        stage.until(
            lambda: any(e.reason == "drop" for e in read_book(stage).journals[ROLLOUTS.name].events(RolledBack)),
            "the rollback of the planted version",
            timeout_s=90.0,
        )
        book = read_book(stage)
        assert [*rollout_faults(stage.log, book, settled=False)] == []
        assert book.journals[ROLLOUTS.name].claims > 3
        assert PLANTED not in [event.version for event in book.journals[ROLLOUTS.name].events(Promoted)]
        assert book.rounds.events(ModelPublished)
        records = scan(stage.log, TopicPartition(PUBLISHED.name, home_of(TASK)))
        said = [json.loads(record.value or b"") for record in records]
        backs = [event["data"] for event in said if event["type"].endswith("rolledback.v1")]
        assert [(data["version"], data["reason"]) for data in backs if data["reason"] == "drop"] == [(PLANTED, "drop")]
