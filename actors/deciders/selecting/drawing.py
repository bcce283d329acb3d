"""Which devices a synchronous round takes: each draws a ticket, and the tickets are called from the lowest up.

The ticket is a hash of what stands in the log, so that a replay draws the same cohort. Which devices wait is not known,
because a check-in that gets no lease leaves only a count; so the share of tickets that is called grows from the one
that would fill the round if everybody expected were there, to all of them one retry later. A device that asks before
its turn is told when that is. Whoever answers first has no better chance, as it would have in order of arrival.
"""

from __future__ import annotations

import hashlib

from schemas.events import TaskCreated
from schemas.identifiers import DeviceId

_TICKETS = 1 << 64


def draw_ticket(created: TaskCreated, *, round_id: int, model_sha256: bytes, device: DeviceId) -> int:
    """The device's ticket in this round, from 0 to 2^64 - 1, alike likely."""
    # The model is in it, because who knew the tickets of later rounds could make a key to suit them.
    drawn = created.deployment + model_sha256 + f"/{created.task}/{round_id}/{device}".encode()
    return int.from_bytes(hashlib.sha256(drawn).digest()[:8])


def compute_wait_ms(created: TaskCreated, ticket: int, *, group: tuple[int, int] | None = None) -> int:
    """How long after the round opened this ticket is called; 0 for those that are called at once.

    `group`: the slots and the number of those who draw among themselves; by default of all.
    """
    wanted = created.policy.selection
    slots, expected = group or (wanted.concurrency, wanted.devices_expected)
    span_ms = round(wanted.retry_after_s * 1000)
    if slots >= expected:
        return 0
    # Called at e: ticket / 2^64 < (slots * span + (expected - slots) * e) / (expected * span), in whole numbers.
    early = ticket * expected * span_ms - _TICKETS * slots * span_ms
    return max(0, early // (_TICKETS * (expected - slots)) + 1)
