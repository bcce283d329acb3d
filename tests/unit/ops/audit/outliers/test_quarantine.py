"""What a replay finds of quarantine: each thing that a journal could say and its bodies or its policy do not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from actors.deciders.aggregator_state import Task
from ops.audit.outliers.quarantine import check_admitted, check_lifted, check_published, check_quarantine
from ops.audit.replay import Audit
from schemas.events import DeviceQuarantined, JournalEvent, MembersCompared, ModelPublished
from schemas.topics import ROUNDS
from tests.worlds.builders import ANCHOR, TASK, update_admitted
from tests.worlds.federation import Federation
from tests.worlds.forging import forge_event
from tests.worlds.quarantine.tasks import (
    PARAMETERS,
    compared_release,
    device_quarantined,
    draw_deltas,
    members_compared,
    quarantine_lifted,
    watched_policy,
)
from tests.worlds.rounds import fill, given


def proposed() -> tuple[Task, MembersCompared, list[JournalEvent]]:
    """A task whose first round is proposed, and the decision that publishes it, with `a` out by one round."""
    situation = given(watched_policy(rounds=1))
    members = fill(situation, "abcdef")
    waiting = given(watched_policy(rounds=1))
    fill(waiting, "abcdef")
    situation.when(compared_release(0, members, "a"))
    return waiting.state.tasks[TASK], members_compared(0, members, "a"), situation.caused


def test_an_honest_decision_has_no_fault() -> None:
    """The comparison of the round that becomes a version, and who is out by it."""
    task, compared, decision = proposed()
    [published] = [event for event in decision if isinstance(event, ModelPublished)]
    assert [*check_quarantine(task, compared, decision=decision)] == []
    assert [*check_quarantine(task, device_quarantined("a", (0,)), decision=decision)] == []
    assert [*check_published(task, published, decision=decision)] == []


LIES: dict[str, Callable[[list[JournalEvent]], list[JournalEvent]]] = {
    "nobody is out": lambda decision: [e for e in decision if not isinstance(e, DeviceQuarantined)],
    "another is out": lambda decision: [
        msgspec.structs.replace(e, device="b") if isinstance(e, DeviceQuarantined) else e for e in decision
    ],
    "by other rounds": lambda decision: [
        msgspec.structs.replace(e, rounds=(0, 0)) if isinstance(e, DeviceQuarantined) else e for e in decision
    ],
}


@pytest.mark.parametrize("lie", LIES)
def test_who_is_out_follows_from_who_stood_apart(lie: str) -> None:
    """The policy says after how many rounds; nobody is let off, and nobody is put in the place of another."""
    task, compared, decision = proposed()
    [fault] = check_quarantine(task, compared, decision=LIES[lie](decision))
    assert "other devices are quarantined" in fault


def test_a_quarantine_out_of_nothing_is_found() -> None:
    """Without a comparison beside it, of another round, or in a task whose policy asks for none."""
    task, compared, decision = proposed()
    assert "no members were compared" in next(iter(check_quarantine(task, device_quarantined("a", (0,)), decision=[])))
    other = msgspec.structs.replace(compared, round=1)
    assert "not the round" in next(iter(check_quarantine(task, other, decision=decision)))
    plain = given().state.tasks[TASK]
    assert [*check_quarantine(plain, compared, decision=decision)] == ["the policy has no table [quarantine]"]


def test_a_round_that_was_not_compared_is_found() -> None:
    """An aggregator cannot pass over what its policy asks for."""
    task, _, decision = proposed()
    [published] = [event for event in decision if isinstance(event, ModelPublished)]
    assert [*check_published(task, published, decision=[published])] == ["round 0: its members were not compared"]


def test_who_is_let_in_or_out_against_the_rules_is_found() -> None:
    """An admission of a quarantined device; an order that nobody signed, or that lifts nothing."""
    task, _, _ = proposed()
    assert [*check_admitted(task, update_admitted("a"))] == []
    task.watch.quarantine(device_quarantined("a", (0,)))  # type: ignore[union-attr]
    assert "is quarantined" in next(iter(check_admitted(task, update_admitted("a"))))
    lifted = quarantine_lifted("a", 0)
    assert [*check_lifted(task, lifted, signed=[lifted])] == []
    assert [*check_lifted(task, lifted, signed=[])] == ["is not what the operator signed"]
    assert "was not quarantined with round 3" in [*check_lifted(task, quarantine_lifted("a", 3), signed=[lifted])][1]


FORGERIES: dict[str, Callable[[MembersCompared], MembersCompared]] = {
    "nobody stands apart": lambda event: msgspec.structs.replace(event, anomalies=()),
    "in another way": lambda event: msgspec.structs.replace(
        event, anomalies=tuple(msgspec.structs.replace(each, z=each.z + 1) for each in event.anomalies)
    ),
    "with a past that there is not": lambda event: msgspec.structs.replace(
        event, anomalies=tuple(msgspec.structs.replace(each, past=1) for each in event.anomalies)
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_bodies_say_who_stands_apart(forgery: str) -> None:
    """A full replay compares the members anew: a journal that says otherwise, to the last thousandth, is named."""
    world = Federation(watched_policy(rounds=0), parameters=PARAMETERS)
    world.round_of(draw_deltas(0))
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"
    forge_event(world, ROUNDS.name, MembersCompared, change=FORGERIES[forgery])
    found = Audit(world.log, world.partition, anchor=ANCHOR, full=True).run()
    assert any("by the bodies others stand apart" in str(fault) for fault in found.differences)
