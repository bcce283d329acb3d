"""What the rollout announces in `published`: a canary, a promotion, a rollback, a halt; each a signed CloudEvent.

They stand between the announcements of versions and have the same form (`schemas.published`), signed by another role:
an aggregator promotes nothing, and a rollout publishes no version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.identifiers import BodyRef, Cohort, TaskId, Version
from schemas.published import Checkpoint, is_vouched_for, parse_checkpoint, parse_statement, read_body

ROLLOUT = "rollout"
Action = Literal["canary", "promoted", "rolledback", "halted"]
_ACTIONS: tuple[Action, ...] = ("canary", "promoted", "rolledback", "halted")
TYPES: Mapping[str, Action] = {f"io.fedlog.rollout.{action}.v1": action for action in _ACTIONS}


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What of the data a reader acts on; what a later release adds beside it is passed over."""

    task: TaskId
    version: Version | None = None
    previous: Version | None = None
    to: Version | None = None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    cohorts: tuple[Cohort, ...] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One announcement. `to` is the version that a rollback leads to, `model` the body of what is now to be used.

    `share` of the devices in `cohorts` (none named: in all) get a canary. `seq`: the batch of the rollout's journal.
    `record`: the signed record itself.
    """

    id: str
    task: TaskId
    action: Action
    version: Version | None
    to: Version | None
    share: float
    cohorts: frozenset[str]
    reason: str
    model: BodyRef | None
    seq: int
    time_ms: int
    record: str


def read_announcement(data: bytes, trust: Trust | None, *, at_ms: int = 0) -> Announced | None:
    """What a certified rollout announced in a record that the log appended at `at_ms`; None for all else there.

    `trust` None, for a person who only looks, believes whoever signed it.
    """
    # A topic is full of versions, and the signature of each takes longer than all else here.
    action = TYPES.get(str(parse_statement(data).get("type"))) if b"io.fedlog.rollout." in data else None
    if action is None:
        return None
    try:
        given = parse_checkpoint(data)
        if trust is not None and not is_vouched_for(given, trust, at_ms=at_ms):
            return None
        return _read(given, data, action=action)
    except (MalformedError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
        # Whoever may write there can end nobody who reads it.
        return None


def _read(given: Checkpoint, data: bytes, *, action: Action) -> Announced:
    told: dict[str, Any] = parse_statement(data)["data"]
    # What is not there is not said: a halt names no model, and a first promotion that is rolled back leads to none.
    said, body = msgspec.convert(told, _Said), told.get("model")
    return Announced(
        id=given.id,
        task=said.task,
        action=action,
        version=said.version,
        to=said.to,
        share=1.0 if said.share is None else said.share,
        cohorts=frozenset(said.cohorts or ()),
        reason=said.reason or "",
        model=None if body is None else read_body(body),
        seq=given.seq,
        time_ms=given.time_ms,
        record=data.decode(),
    )
