"""Lets a quarantined device take part again: one signed order in `tasks`, which names the quarantine that it lifts."""

from __future__ import annotations

from collections.abc import Iterable

from actors.keys import Author
from ops.operator import tasks
from ops.operator.errors import DeviceNotQuarantined
from schemas.events import DeviceQuarantined, QuarantineLifted
from schemas.identifiers import TaskId
from schemas.topics import TASKS, partition_of
from streams.log import Draft, EventLog

# More say no more.
NAMED = 5


def lift(log: EventLog, task: TaskId, *, device: str, key: Author) -> DeviceQuarantined:
    """Lift the quarantine of a device or subject, named by its first digits; what is lifted.

    Raises TaskUnknown, DeviceNotQuarantined.
    """
    view = tasks.find_view(log, task, operator=key.public_key)
    held = find_quarantined(view.quarantined.values(), task, device=device)
    created = view.created
    assert created is not None
    lifted = QuarantineLifted(
        task=task,
        deployment=created.deployment,
        device=held.device,
        round=held.round,
        asked_by=key.asked_by,
        subject=held.subject,
    )
    # The aggregator takes note of it only while this very quarantine holds, so that nothing has to be waited for.
    place = partition_of(task, log.partitions)
    log.append([Draft(topic=TASKS.name, partition=place, value=key.write(lifted), key=task.encode())])
    return held


def find_quarantined(known: Iterable[DeviceQuarantined], task: TaskId, *, device: str) -> DeviceQuarantined:
    """The one quarantine of a task whose device or subject begins like this. Raises DeviceNotQuarantined."""
    known = [*known]
    found = [one for one in known if one.device.startswith(device) or (one.subject or "").startswith(device)]
    if device and len(found) == 1:
        return found[0]
    if found:
        raise DeviceNotQuarantined(
            f"{len(found)} quarantined devices of {task!r} begin with {device!r}: say more of it."
        )
    # Whoever mistypes an id sees what could have been meant.
    names = ", ".join(f"{one.device[:12]}…" for one in known[:NAMED]) or "nobody"
    raise DeviceNotQuarantined(f"No device that begins with {device!r} is quarantined in {task!r}; there is {names}.")
