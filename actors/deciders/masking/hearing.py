"""What an aggregator hears of helpers: their keys, models that they co-sign, the sums of their masks.

`aggregator` decides by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET

from actors.deciders.aggregator_state import Round, Task
from schemas.events import (
    CosignatureHeard,
    EpochOpened,
    HelperEvent,
    JournalEvent,
    MaskKeyOffered,
    MaskKeyOpened,
    MasksRefused,
    MasksSummed,
    ModelCosigned,
)
from schemas.masking.statements import digest_proposal, join_statements


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperHeard:
    """What a helper of a masked task has signed; `statement` is the whole of it, for devices.

    `is_fit`: whether the body that it names can be a sum of masks by its address alone.
    """

    event: HelperEvent
    statement: bytes
    is_fit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MasksUnusable:
    """What helpers have stored for a round is not there, or takes its sum to where no sum of clipped vectors is."""

    task: str
    round: int


def offer_key(task: Task, heard: HelperHeard) -> list[JournalEvent]:
    """A helper has opened its key of the next epoch; with the last of them the epoch begins."""
    opened, epochs, offered = heard.event, task.epochs, task.offered
    if not isinstance(opened, MaskKeyOpened) or epochs is UNSET or offered is UNSET or task.status == "halted":
        return []
    # It says so as soon as it has read that another is due, and once: to wait for anything here would lose it.
    if opened.epoch != epochs.next or opened.helper in offered:
        return []
    events: list[JournalEvent] = [
        MaskKeyOffered(task=opened.task, helper=opened.helper, epoch=opened.epoch, statement=heard.statement)
    ]
    offered = {**offered, opened.helper: heard.statement}
    if len(offered) == len(task.created.policy.masked_by.helpers):
        joined = join_statements(tuple(statement for _, statement in sorted(offered.items())))
        events.append(EpochOpened(task=opened.task, epoch=opened.epoch, statement=joined))
    return events


def hear_cosignature(task: Task, heard: HelperHeard) -> list[JournalEvent]:
    """A helper has co-signed a version, which devices hear of with its own word; what is no version here is dropped."""
    said = heard.event
    if not isinstance(said, ModelCosigned) or (known := task.published.get(said.version)) is None:
        return []
    before = -1 if task.cosigned is UNSET else task.cosigned.get(said.helper, -1)
    # In the order of versions and once each, so that a word that is said again is nothing new.
    if said.version <= before or said.model_sha256 != known.model.sha256:
        return []
    return [CosignatureHeard(task=said.task, helper=said.helper, version=said.version, statement=heard.statement)]


def find_answered(task: Task, event: MasksSummed | MasksRefused) -> Round | None:
    """The pending round that a helper answers for, if it is this very proposal and has no answer of this helper yet."""
    for pending in task.pending:
        if pending.id == event.round and pending.masks is not UNSET and event.helper not in pending.masks:
            is_same = pending.proposed is not None and digest_proposal(pending.proposed) == event.proposal
            return pending if is_same else None
    return None
