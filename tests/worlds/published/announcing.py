"""Records of `published` as an aggregator and a rollout write them, by hand."""

from __future__ import annotations

from typing import Any

from actors.keys import RoleKey
from schemas.events import CanaryStarted, DriftEnded, Evidence, Promoted, RolledBack, RolloutHalted
from schemas.published import Head, describe_drift, describe_step, describe_version, sign_statement
from streams.log import Draft, EventLog
from tests.worlds.builders import DEPLOYMENT, FOR_EVER_MS, KEY, TASK, body_ref, model_published, role_key
from tests.worlds.drift.asking import drift_found
from tests.worlds.ops_journal import PLACE

TIME_MS = 1_700_000_000_000
EVIDENCE = (Evidence(version=1, cohort="", evaluator="ab" * 8, metric="accuracy", value=0.5, samples=90),)
STEPS: dict[str, type[Any]] = {
    "canary": CanaryStarted,
    "promoted": Promoted,
    "rolledback": RolledBack,
    "halted": RolloutHalted,
}
OWN: dict[str, dict[str, Any]] = {
    "canary": {"stage": 0, "share": 0.05, "cohorts": ()},
    "promoted": {"previous": 0},
    "rolledback": {"to": 0, "reason": "drop"},
    "halted": {"reason": "ordered"},
}


def describe_rollout(kind: str, version: int | None, *, seq: int = 0, **changes: Any) -> dict[str, Any]:
    """What a rollout says, not signed: `kind` is canary, promoted, rolledback or halted."""
    partition = changes.pop("partition", PLACE)
    told = {"task": TASK, "version": version, **OWN[kind], **changes}
    if kind != "halted":
        used = told.get("to") if kind == "rolledback" else version
        named = None if used is None else body_ref(f"model {used}", "models", partition=partition)
        told = {"model": named, **told}
    head = Head(topic="rollouts", partition=partition, seq=seq, head="cd" * 32)
    return describe_step(STEPS[kind](evidence=EVIDENCE, **told), TIME_MS, head=head)


def sign_as(
    role: str | RoleKey, statement: dict[str, Any], *, until_ms: int = FOR_EVER_MS, deployment: bytes = DEPLOYMENT
) -> bytes:
    """The record, signed with this key, or with the one that the operator has certified for this role."""
    key = role_key(role, until_ms=until_ms, deployment=deployment) if isinstance(role, str) else role
    signer = key.signer
    return sign_statement(statement, signer.key, certificate=signer.certificate)


def announce_rollout(kind: str, version: int | None, *, seq: int = 0, **data: Any) -> bytes:
    """A rollout's record."""
    return sign_as("rollout", describe_rollout(kind, version, seq=seq, **data))


def describe_published(version: int, *, seq: int | None = None, **changes: Any) -> dict[str, Any]:
    """What an aggregator says of a version, not signed."""
    partition = changes.pop("partition", PLACE)
    head = Head(topic="rounds", partition=partition, seq=version if seq is None else seq, head="ab" * 32)
    plain = {"model": body_ref(f"model {version}", "models", partition=partition), **changes}
    return describe_version(model_published(version, **plain), TIME_MS, head=head)


def announce_version(version: int, *, seq: int | None = None, **changes: Any) -> bytes:
    """An aggregator's record."""
    return sign_as("aggregator", describe_published(version, seq=seq, **changes))


def publish(log: EventLog, *records: bytes, partition: int = PLACE) -> None:
    """Append them to `published`."""
    log.append([Draft(topic="published", partition=partition, value=record, key=TASK.encode()) for record in records])


def announce_drift(kind: str, version: int = 3, *, seq: int = 0) -> bytes:
    """An aggregator's word of answers that have moved: `kind` is driftfound or driftended."""
    found = drift_found(version)
    plain = {name: getattr(found, name) for name in found.__struct_fields__}
    event = found if kind == "driftfound" else DriftEnded(**plain)
    head = Head(topic="rounds", partition=PLACE, seq=seq, head="ab" * 32)
    return sign_as("aggregator", describe_drift(event, TIME_MS, head=head))


OPERATOR = KEY.public_key
