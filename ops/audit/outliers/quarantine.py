"""What a replay checks of quarantine: who stands apart follows from the bodies, and who is let in no more from that.

Called by `ops.audit.replay`. Each function yields what is wrong, in words for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from msgspec import UNSET

from actors.deciders.aggregator_state import Task
from actors.deciders.quarantining.judging import list_quarantined
from schemas.events import (
    DeviceQuarantined,
    JournalEvent,
    MembersCompared,
    ModelPublished,
    QuarantineLifted,
    UpdateAdmitted,
    name_unit,
)


def check_quarantine(
    task: Task, event: MembersCompared | DeviceQuarantined, *, decision: Sequence[JournalEvent]
) -> Iterator[str]:
    """That a comparison is of the round that becomes a version, and leads to what the policy says."""
    if task.watch is UNSET:
        yield "the policy has no table [quarantine]"
        return
    if isinstance(event, MembersCompared):
        awaited = task.find_awaited()
        if awaited is None or awaited.id != event.round or event.members != len(awaited.members):
            yield f"round {event.round}: not the round, or not the members, that become a version"
        # The whole decision is compared: one device too many would be as wrong as one too few.
        told = [each for each in decision if isinstance(each, DeviceQuarantined) and each.task == event.task]
        if told != [*list_quarantined(task, event)]:
            yield f"round {event.round}: other devices are quarantined than have stood apart so often"
    elif not any(isinstance(each, MembersCompared) and each.round == event.round for each in decision):
        yield f"device {event.device} is quarantined, and no members were compared"


def check_published(task: Task, published: ModelPublished, *, decision: Sequence[JournalEvent]) -> Iterator[str]:
    """That the members of a round were compared, where the policy asks for it."""
    if task.watch is UNSET or published.round is None:
        return
    # Version 0 comes of no round.
    if not any(isinstance(each, MembersCompared) and each.round == published.round for each in decision):
        yield f"round {published.round}: its members were not compared"


def check_admitted(task: Task, admitted: UpdateAdmitted) -> Iterator[str]:
    """That nobody who is quarantined is let in."""
    if task.watch is not UNSET and name_unit(admitted) in task.watch.quarantined:
        yield f"update {admitted.update}: its device is quarantined"


def check_lifted(task: Task | None, lifted: QuarantineLifted, *, signed: Collection[object]) -> Iterator[str]:
    """That the operator has lifted it, and that there was something to lift."""
    if lifted not in signed:
        yield "is not what the operator signed"
    if task is None or task.watch is UNSET or not task.watch.is_lifted_by(lifted):
        yield f"device {lifted.device} was not quarantined with round {lifted.round}"
