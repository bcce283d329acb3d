"""Who speaks to the rollout while it is struck: an evaluator that scores each version, and an operator."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

from actors.keys import RoleKey
from schemas.canonical import encode
from schemas.certificates import name_evaluator, read_certificate
from schemas.creations import sign_task_event
from schemas.events import RolloutAction, RolloutOrdered, VersionEvaluated
from schemas.topics import EVALUATIONS, PUBLISHED, TASKS
from streams.kafka.log import KafkaLog
from streams.log import Draft, EventLog, LogError, TopicPartition, scan
from tests.trials.chaos.points import PARTITION, TASK
from tests.worlds.stage import Stage, beside

# One stage of a moment, so that each version is a candidate, a canary, and promoted; a few get worse.
RELEASED: dict[str, Any] = {
    "rollout": {
        "stages": [{"share": 0.5, "hold_s": 0.2}],
        "gates": [{"metric": "accuracy", "drop_max": 0.1}],
        "patience_s": 5.0,
    },
    "staleness": {"max_versions": 4},
    "retention": {"models_kept": 8},
}
EVERY_S = 0.1
ORDER_EVERY = 8
WORSE_EVERY = 5
# A halt is short: what is halted has nothing to be struck in.
ACTIONS: tuple[RolloutAction, ...] = ("promote", "halt", "resume", "rollback", "approve")


@contextmanager
def speakers(stage: Stage) -> Iterator[None]:
    """They speak until the end; what they say while no broker answers is lost, and said of the next version."""
    with beside(partial(_speak, stage)):
        yield


def _speak(stage: Stage, is_over: threading.Event) -> None:
    numbers, next_offset, newest = itertools.count(1), 0, 0
    evaluator = stage.role_key("evaluator")
    with closing(KafkaLog(stage.kafka)) as log:
        for turn in itertools.count():
            with suppress(LogError):
                next_offset, versions = _read_versions(log, next_offset)
                newest = max([newest, *versions])
                values = [(EVALUATIONS.name, _score(evaluator, version)) for version in versions]
                if turn % ORDER_EVERY == 0:
                    action = ACTIONS[turn // ORDER_EVERY % len(ACTIONS)]
                    values.append((TASKS.name, _order(stage, action, version=newest, number=next(numbers))))
                # Said twice now and then, as by an evaluator that begins again.
                values += values if turn % 7 == 0 else []
                log.append([Draft(topic=topic, partition=PARTITION, value=value) for topic, value in values])
            if is_over.wait(EVERY_S):
                return


def _read_versions(log: EventLog, start: int) -> tuple[int, list[int]]:
    """From which offset to go on, and the versions that were announced up to there."""
    found = []
    for record in scan(log, TopicPartition(PUBLISHED.name, PARTITION), start=start):
        start = record.offset + 1
        said = json.loads(record.value or b"{}")
        if said.get("type", "").startswith("io.fedlog.model.published"):
            found.append(int(said["data"]["version"]))
    return start, found


def _score(key: RoleKey, version: int) -> bytes:
    said = VersionEvaluated(
        task=TASK,
        version=version,
        metrics={"accuracy": 0.5 if version % WORSE_EVERY == 0 else 0.9},
        samples=100,
        cohort="",
        evaluator=name_evaluator(read_certificate(key.certificate).public_key),
    )
    return key.signer.certify(encode(said))


def _order(stage: Stage, action: RolloutAction, *, version: int, number: int) -> bytes:
    named = version if action == "promote" else None
    order = RolloutOrdered(task=TASK, deployment=stage.deployment, number=number, action=action, version=named)
    return sign_task_event(order, stage.key.signing)
