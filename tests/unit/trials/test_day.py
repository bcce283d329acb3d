"""The simulated day: what its figures rest on."""

from __future__ import annotations

from collections import Counter
from functools import cache

from actors.deciders.aggregator_state import Rounds
from actors.deciders.selecting.state import Selections
from tests.bench.measures.day import Day, rules
from tests.bench.measures.trusting import TASK
from tests.bench.pages.day_page import figures

DEVICES, UPDATES_PER_ROUND = 1_000, 10


@cache
def _day(seed: int, *, again: bool = False) -> Day:
    day = Day(rules(DEVICES, UPDATES_PER_ROUND), seed=seed)
    day.run()
    return day


def test_a_day_is_its_seed() -> None:
    """The command on the page repeats the page: the same seed gives the same day, another one another."""
    first = figures(_day(1).hours)
    assert figures(_day(1, again=True).hours) == first
    assert figures(_day(2).hours) != first


def test_nothing_of_a_day_is_lost() -> None:
    """Every check-in is granted, declined or a repeat; every lease used, refused, expired or open; rounds add up."""
    day = _day(1)
    counts = sum((hour.counts for hour in day.hours), Counter[str]())
    selections, rounds = day.states["selector"], day.states["aggregator"]
    assert isinstance(selections, Selections)
    assert isinstance(rounds, Rounds)
    selected, task = selections.tasks[TASK], rounds.tasks[TASK]
    declined = sum(count for name, count in counts.items() if name.startswith("declined"))
    assert 0 <= counts["check-ins"] - counts["granted"] - declined < counts["check-ins"] / 10
    # A late update is refused after its lease expired or before, so it may be counted in both.
    refused = sum(count for name, count in counts.items() if name.startswith("refused"))
    closed = counts["granted"] - len(selected.leases)
    assert counts["admitted"] + counts["expired"] <= closed <= counts["admitted"] + counts["expired"] + refused
    assert task.buffer is not None
    members = len(task.buffer.members) + sum(len(pending.members) for pending in task.pending)
    assert counts["admitted"] == (counts["versions"] - 1) * UPDATES_PER_ROUND + members
    assert max(task.participations.values()) <= (day.rules.participations_cap or 0)
    assert sum(device.participations for _, device in selected.devices.items()) == counts["admitted"]
