"""The history of a real log says what an independent reader of the topics finds there, number by number."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ops.history.tables.projector import Viewer
from schemas.canonical import encode
from schemas.events import VersionEvaluated
from schemas.policy import Policy
from schemas.topics import EVALUATIONS
from streams.kafka.settings import KafkaSettings
from streams.log import Draft
from tests import plain_statistics
from tests.agreement import list_differences
from tests.judges import plain_reader
from tests.judges.plain_reader import PlainLog
from tests.learners import FLAT_LEARNER
from tests.places import home_of
from tests.tables import synced
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, say, staged

PRIVATE, PLAIN, SLOW = "private", "plain", "slow"
BRANCH, HEIR = "branch", "heir"
PARAMETERS = 40
RELIABLE = Habits(again=0.2, rest_s=0.1)
UNRELIABLE = Habits(again=0.1, gives_up=0.1, says_so=True, rest_s=0.1)
SILENT = Habits(gives_up=0.3, rest_s=0.1)


def rules(**sections: dict[str, object]) -> Policy:
    """Short leases, so that those of the silent run out, and updates that are soon too old."""
    plain: dict[str, Any] = {
        "model": "",
        "learner": FLAT_LEARNER,
        "learner_arguments": {"parameters": PARAMETERS},
        "selection": {"devices_expected": 16, "concurrency": 12, "retry_after_s": 0.2, "lease_s": 4.0},
        "staleness": {"max_versions": 1},
        "compression": {"codec": "int8"},
        "stop": {"versions_max": 5_000},
    }
    return policy(**{**plain, **sections})


def score(stage: Stage, task: str, version: int) -> None:
    """What an evaluator would say: of all examples, and of two cohorts."""
    signer = stage.role_key("evaluator").signer
    for number, cohort in enumerate(("", "east", "west")):
        told = VersionEvaluated(
            task=task, version=version, metrics={"accuracy": 0.5 + number / 8, "loss": 1.25}, samples=64, cohort=cohort
        )
        data = signer.certify(encode(told))
        stage.log.append([Draft(topic=EVALUATIONS.name, partition=home_of(task), value=data)])


def find_expired(stage: Stage) -> list[object]:
    """Leases that nobody has used."""
    return [*PlainLog.read(stage.kafka.client(), stage.kafka.topic_prefix).of("LeaseClosed", outcome="expired")]


def branch_off(stage: Stage) -> None:
    """Fork both kinds at version 3: all that the private parent has spent until its halt counts, the other goes on."""
    for parent, name in ((PLAIN, BRANCH), (PRIVATE, HEIR)):
        forked = stage.fedlog("task", "fork", parent, "--at", "3", "--name", name)
        assert forked.exit_code == 0, forked.stderr
    log = PlainLog.read(stage.kafka.client(), stage.kafka.topic_prefix)
    created, halted = log.one("TaskCreated", task=HEIR), log.one("TaskHalted", task=PRIVATE)
    assert created is not None
    assert halted is not None
    assert (halted["reason"], log.of("TaskHalted", task=PLAIN)) == ("closed", [])
    # How often each device has taken part by version 3, and by the halt, abandoned rounds included.
    released = log.one("ModelPublished", task=PRIVATE, version=3)
    assert released is not None
    admitted = log.of("UpdateAdmitted", task=PRIVATE)
    by_then = Counter(fact["device"] for fact in admitted if fact["round"] <= released["round"])
    (spent,) = created["spent_before"]
    most = max(Counter(fact["device"] for fact in admitted).values())
    assert spent == {"task": PRIVATE, "participations": most, "noise_multiplier": 100.0}
    assert most > max(by_then.values())
    assert created["model"]["sha256"] == released["model"]["sha256"]


def assert_shares_nothing() -> None:
    """The reader imports nothing of fedlog, and neither does what computes statistics from what it has read."""
    texts = [Path(module.__file__).read_text() for module in (plain_reader, plain_statistics)]
    imported = {line.split()[1].partition(".")[0] for text in texts for line in text.splitlines()
                if line.startswith(("import ", "from ")) and "plain_reader" not in line}  # fmt: skip
    assert imported <= {
        "__future__",
        "collections",
        "contextlib",
        "dataclasses",
        "math",
        "statistics",
        "struct",
        "typing",
        "msgpack",
        "kafka",
        "zstandard",
    }


@pytest.mark.timeout(240)
def test_an_independent_reader_of_the_topics_agrees(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Members, refusals, leases, rounds, the ledger, devices and scores; of a reader who shares no line with fedlog."""
    assert_shares_nothing()
    played = {
        PRIVATE: (rules(privacy={"noise_multiplier": 100.0, "rho_max": 1.0}), RELIABLE),
        PLAIN: (rules(), UNRELIABLE),
        SLOW: (rules(), SILENT),
    }
    with staged(kafka_settings, tmp_path) as stage:
        for task, (chosen, _) in played.items():
            stage.create_task(task, chosen, parameters=PARAMETERS)
        stage.start(*ACTORS)
        with ExitStack() as fleets:
            playing = [
                fleets.enter_context(Fleet(stage.kafka, task, chosen, PARAMETERS, 8, habits=habits))
                for task, (chosen, habits) in played.items()
            ]
            stage.until_version(PRIVATE, 8)
            stage.until_version(PLAIN, 8)
            for fleet in playing:
                fleet.rest()
        stage.until(lambda: find_expired(stage), "a lease has run out", timeout_s=60)
        branch_off(stage)
        for task in (PRIVATE, PLAIN):
            score(stage, task, 2)
        stage.stop()
        viewer = Viewer(operator=stage.key.public_key, deployment=stage.deployment, is_operator=True)
        with synced(tmp_path / "history.duckdb", stage.log, viewer) as history:
            differences, counts = list_differences(history.ask, kafka_settings, played)
            outcomes = Counter(dict(history.ask("SELECT outcome, count(*) FROM leases GROUP BY 1").rows))
            ancestry = history.ask("SELECT task, parent, parent_version, relation FROM ancestry ORDER BY task").rows
            refused = dict(
                history.ask("SELECT outcome, count(*) FROM updates WHERE outcome <> 'admitted' GROUP BY 1").rows
            )
        say(counts, outcomes, refused)
        assert differences == []
        assert ancestry == [(BRANCH, PLAIN, 3, "branches off"), (HEIR, PRIVATE, 3, "carries on")]
        assert all(counts.values())
        # Or the comparison would be one of empty lists.
        assert {"used", "expired", "abandoned"} <= outcomes.keys()
        assert refused
