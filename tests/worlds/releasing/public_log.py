"""A log as its public sees it: versions, charges, scores, and what a rollout announces; written by hand, and signed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ops.operator import models
from schemas.canonical import to_plain
from schemas.events import ModelPublished, RoundCharged, TaskCreated, VersionEvaluated
from schemas.identifiers import BodyRef, Version
from schemas.published import Head, describe_version, sign_statement
from schemas.tensors import Floats
from schemas.topics import LEDGER, PUBLISHED
from streams.log import TopicPartition
from streams.memory import MemoryLog
from tests.unit.ops.history.test_projections import MECHANISM
from tests.worlds.builders import DEPLOYMENT, body_ref, model_published, role_key
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log

FLAT = np.array([1.5, -2.0, 3.25, 0.0, 1e-9, 7.0], np.float32)
TIME_MS = 1_700_000_000_123
# What each kind has to say beside its version.
TOLD: dict[str, dict[str, Any]] = {
    "canary": {"stage": 0, "share": 0.5, "cohorts": []},
    "promoted": {"previous": None},
    "rolledback": {"to": None, "reason": "drop"},
    "halted": {"reason": "ordered"},
}


def announced(
    action: str, version: Version | None, *, seq: int, number: int = 0, role: str = "rollout", **said: Any
) -> bytes:
    """What a rollout announces, signed by this role of this deployment; `said` is the rest of its data."""
    suffix = f"-{number}" if number else ""
    said = {**TOLD[action], **said}
    used = None if action in ("rolledback", "halted") else body_ref(f"model {version}", "models")
    model = said.pop("model", used)
    task, deployment = said.pop("task", TASK), said.pop("deployment", DEPLOYMENT)
    statement = {
        "specversion": "1.0",
        "id": f"{task}/{version}/{action}/{seq}{suffix}",
        "source": f"/fedlog/tasks/{task}",
        "type": f"io.fedlog.rollout.{action}.v1",
        "subject": task,
        "time": "2023-11-14T22:13:20.123Z",
        "datacontenttype": "application/json",
        "data": {
            "task": task,
            "version": version,
            "evidence": [],
            "model": None if model is None else to_plain(model),
            "journal": {"topic": "rollouts", "partition": PLACE, "seq": seq, "head": "ab" * 32},
            **said,
        },
    }
    signer = role_key(role, deployment=deployment).signer
    return sign_statement(statement, signer.key, certificate=signer.certificate)


class PublicLog:
    """One task, whose versions are written one by one."""

    def __init__(
        self, *, flat: Floats = FLAT, frozen: Floats | None = None, time_ms: int = TIME_MS, **changes: Any
    ) -> None:
        self.log: MemoryLog = memory_log()
        self.flat, self.time_ms = flat, time_ms
        first = models.store(self.log, flat, partition=PLACE)
        if frozen is not None:
            changes["frozen"] = models.store(self.log, frozen, partition=PLACE)
        self.created: TaskCreated = created(model=first, **changes)
        append(self.log, "tasks", self.created)
        self.bodies: dict[Version, BodyRef] = {0: first}
        self._ledger: Journal | None = None

    def publish(self, version: Version, *, charged: bool = True) -> ModelPublished:
        """Store a version and announce it; with privacy its round is charged before, if it is `charged`."""
        ref = self.bodies.get(version) or models.store(self.log, self.flat * (version + 1), partition=PLACE)
        self.bodies[version] = ref
        event = model_published(version, task=self.created.task, model=ref)
        if charged and self.created.policy.privacy is not None and event.round is not None:
            self.charge(event.round)
        head = Head(topic="rounds", partition=PLACE, seq=version, head="cd" * 32)
        signer = role_key("aggregator").signer
        statement = describe_version(event, self.time_ms + version, head=head)
        append(self.log, PUBLISHED.name, sign_statement(statement, signer.key, certificate=signer.certificate))
        return event

    def charge(self, round_id: int) -> None:
        """A charge in the ledger."""
        self._ledger = self._ledger or Journal(self.log, LEDGER.name)
        self._ledger.batch(
            RoundCharged(
                task=self.created.task,
                round=round_id,
                mechanism=MECHANISM,
                participations_max=round_id + 1,
                rho_total=(round_id + 1) / 2,
                epsilon=round_id + 4.0,
                delta=1e-5,
            )
        )

    def score(self, version: Version, value: float, *, cohort: str = "") -> None:
        """An evaluator's word."""
        fact = VersionEvaluated(
            task=self.created.task, version=version, metrics={"accuracy": value}, samples=9, cohort=cohort
        )
        append(self.log, "evaluations", fact)

    def announce(self, action: str, version: Version | None, *, seq: int, **said: Any) -> None:
        """A rollout's word; the model is the one that its version names, where nothing else is said."""
        used = said.get("to", version)
        said.setdefault("model", None if used is None else self.bodies.get(used))
        append(self.log, PUBLISHED.name, announced(action, version, seq=seq, task=self.created.task, **said))

    def drop(self, version: Version) -> None:
        """Take the body away, and all that were stored before it: nothing here compacts."""
        ref = self.bodies[version]
        self.log.delete_records(TopicPartition(ref.topic, ref.partition), ref.offsets[-1] + 1)
