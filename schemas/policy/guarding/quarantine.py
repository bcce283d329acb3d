"""The table [quarantine]: when a device that stands apart from the others is let in no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import UNSET

from schemas.policy.section import Section

if TYPE_CHECKING:
    from schemas.policy.sections import Policy

# With fewer nobody is usual: with one left out there have to be four. With more the comparison would hold up the round.
MEMBERS_MIN, MEMBERS_MAX = 5, 1000


class Quarantine(Section):
    """When a device stands apart, and how often before it is let in no more.

    `z_min`: an update stands apart from this robust z-score on. `rounds`: a device that does so in so many of the last
    `window` rounds that it was in is quarantined; 0: nobody is, and what stands apart is only told.
    """

    # One round says little, because honest devices differ; most of five says that it is the device.
    rounds: int = 3
    window: int = 5
    # The usual bound (Iglewicz and Hoaglin 1993).
    z_min: float = 3.5


def find_quarantine_problems(policy: Policy) -> Iterator[str]:
    """What cannot hold together with the table, one line for each."""
    asked = policy.quarantine
    if asked is UNSET:
        return
    if asked.rounds > asked.window:
        yield f"quarantine.rounds = {asked.rounds}: nobody stands apart in more than quarantine.window = {asked.window}"
    if policy.privacy is not None:
        yield (
            "quarantine: with privacy nobody may look at single updates, and who takes part must not depend on what is "
            "in one; leave the table out"
        )
    if policy.is_masked:
        yield "quarantine: in tier = 'masked' nobody sees single updates, so that none can be compared; leave it out"
    # Nor would it be an attack: the answers are what is asked for.
    if policy.measure is not None:
        yield "quarantine: answers to a question differ because devices do; leave the table out"
    if policy.shard_count > 1:
        yield "quarantine: shard workers see a part of a round, and it compares all; leave shards out"
    if policy.aggregation.members_min < MEMBERS_MIN:
        yield (
            f"quarantine: a round needs {MEMBERS_MIN} updates or more, or one of them says what is usual, and may have "
            f"{policy.aggregation.members_min}"
        )
    if policy.aggregation.updates_per_round > MEMBERS_MAX:
        yield f"quarantine: a round has at most {MEMBERS_MAX} updates, not {policy.aggregation.updates_per_round}"
