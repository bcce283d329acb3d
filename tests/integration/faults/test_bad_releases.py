"""What speaks against a release, on a real log: no number, no cohort, no agreement, an order, a lost model."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest

from actors.keys import RoleKey
from schemas.canonical import encode
from schemas.certificates import name_evaluator, read_certificate
from schemas.events import (
    CanaryGrown,
    Noticed,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutResumed,
    VersionEvaluated,
)
from schemas.policy import Stop
from schemas.topics import EVALUATIONS, ROLLOUTS
from streams.kafka.settings import KafkaSettings
from streams.log import Draft
from tests.judges.logbook import Journal, read
from tests.judges.releasing.rollouts import rollout_faults
from tests.places import home_of
from tests.worlds.builders import FOR_EVER_MS
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.scripted_fleet import Fleet
from tests.worlds.stage import Stage, staged

TASK, NEWEST, KEPT = "released", 6, 3
RULES = msgspec.structs.replace(
    rollout_policy(
        stages=[{"share": 0.05, "cohorts": ["lab"], "hold_s": 0.2}, {"share": 1.0, "hold_s": 3_600.0}],
        gates=[{"metric": "accuracy", "at_least": 0.5}],
        patience_s=1.0,
        kept=KEPT,
        evaluation={"quorum": 2, "disagreement_max": 0.05},
    ),
    stop=Stop(versions_max=NEWEST),
)


def say(stage: Stage, key: RoleKey, *, version: int, accuracy: float, cohort: str = "") -> None:
    """What one evaluator says of a version, whatever the number is."""
    said = VersionEvaluated(
        task=TASK,
        version=version,
        metrics={"accuracy": 0.75},
        samples=100,
        cohort=cohort,
        evaluator=name_evaluator(read_certificate(key.certificate).public_key),
    )
    # Put in afterwards: our own encoder writes no NaN.
    value = encode(said).replace(struct.pack(">d", 0.75), struct.pack(">d", accuracy))
    value = key.signer.certify(value)
    stage.log.append([Draft(topic=EVALUATIONS.name, partition=home_of(TASK), value=value)])


def read_journal(stage: Stage) -> Journal:
    """What the rollout has decided."""
    book = read(stage.log, home_of(TASK), operator=stage.key.public_key, deployment=stage.deployment)
    assert [*rollout_faults(stage.log, book, settled=False)] == []
    return book.journals[ROLLOUTS.name]


def wait_for(stage: Stage, kind: type, *, version: int) -> object:
    """The event of this kind that is about the version."""

    def find() -> list[object]:
        return [event for event in read_journal(stage).events(kind) if event.version == version]

    stage.until(find, f"{kind.__name__} of version {version}", timeout_s=60.0)
    return find()[0]


@pytest.mark.timeout(240)
def test_nothing_bad_comes_to_people(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: each is passed over, rolled back, halted or refused with its reason, and nothing is promoted."""
    with staged(kafka_settings, tmp_path) as stage:
        ann, bob = (stage.key.issue("evaluator", stage.deployment, until_ms=FOR_EVER_MS, serial=n) for n in (1, 2))
        stage.create_task(TASK, RULES, parameters=6)
        stage.start("selector", "aggregator", "rollout")
        with Fleet(stage.kafka, TASK, RULES, 6, 6):
            stage.until_version(TASK, NEWEST)
        order_what_is_gone(stage)
        roll_back_without_a_cohort(stage, ann, bob)
        halt_where_two_disagree(stage, ann, bob)
        roll_back_amid_a_canary(stage, ann, bob)
        assert read_journal(stage).events(Promoted) == []


def order_what_is_gone(stage: Stage) -> None:
    """The operator is told why nothing follows."""
    ran = stage.fedlog("rollout", "promote", TASK, "1")
    assert ran.exit_code == 1
    assert "may be deleted" in ran.stderr


def roll_back_without_a_cohort(stage: Stage, ann: RoleKey, bob: RoleKey) -> None:
    """NaN is no score; of a cohort one of two has spoken and died: the version is unscored in the end."""
    version = NEWEST - 2
    say(stage, ann, version=version, accuracy=float("nan"))
    for cohort, key in (("lab", ann), ("", ann), ("", bob)):
        say(stage, key, version=version, accuracy=0.9, cohort=cohort)
    assert wait_for(stage, RolledBack, version=version).reason == "unscored"  # type: ignore[attr-defined]
    heard = [event.fact for event in read_journal(stage).events(Noticed) if isinstance(event.fact, VersionEvaluated)]
    assert [said.metrics["accuracy"] for said in heard] == [0.9] * 3


def halt_where_two_disagree(stage: Stage, ann: RoleKey, bob: RoleKey) -> None:
    """One of them lies, and nobody knows which: nothing goes on before the operator has looked."""
    for key, accuracy in ((ann, 0.9), (bob, 0.2)):
        say(stage, key, version=NEWEST - 1, accuracy=accuracy)
    halted = wait_for(stage, RolloutHalted, version=NEWEST - 1)
    assert halted.reason == "disagreement"  # type: ignore[attr-defined]
    assert sorted(proof.value for proof in halted.evidence) == [0.2, 0.9]  # type: ignore[attr-defined]
    assert stage.fedlog("rollout", "resume", TASK).exit_code == 0
    assert read_journal(stage).events(RolloutResumed)


def roll_back_amid_a_canary(stage: Stage, ann: RoleKey, bob: RoleKey) -> None:
    """An order ends it in any stage."""
    for cohort in ("lab", ""):
        for key in (ann, bob):
            say(stage, key, version=NEWEST, accuracy=0.9, cohort=cohort)
    wait_for(stage, CanaryGrown, version=NEWEST)
    assert stage.fedlog("rollout", "rollback", TASK).exit_code == 0
    assert wait_for(stage, RolledBack, version=NEWEST).reason == "ordered"  # type: ignore[attr-defined]
