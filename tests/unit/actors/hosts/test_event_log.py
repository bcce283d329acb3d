"""A worker's log: the turning points of its role, and nothing that comes by the thousand."""

from __future__ import annotations

from structlog.testing import capture_logs

from actors.hosts.event_log import TurningPoints
from actors.wiring import AGGREGATOR_ROLE, PRIVACY_ROLE
from schemas.events import BudgetExhausted, InputsDropped, JournalEvent, TaskHalted
from schemas.journal import Decision
from tests.worlds.builders import update_admitted

HALTED = TaskHalted(task="t", reason="budget", version=3)
EXHAUSTED = BudgetExhausted(task="t", rho_total=2.0, rho_max=1.0)
DROPPED = InputsDropped(topic="updates", count=3, first_offset=1, last_offset=3)


def lines(observer: TurningPoints, *events: JournalEvent, topic: str = "updates") -> list[dict[str, object]]:
    """What is logged of one decision."""
    with capture_logs() as written:
        observer.note_decided(Decision(topic=topic, offset=8, time_ms=1, events=events), 4)
    return [dict(line) for line in written]


def test_a_turning_point_names_its_place() -> None:
    """Task, reason, batch and input are what an operator searches the topics for."""
    [line] = lines(TurningPoints(AGGREGATOR_ROLE), HALTED)
    place = {"seq": 4, "input": "updates", "offset": 8}
    assert line == {"event": "task_halted", "log_level": "info", "task": "t", "reason": "budget", "version": 3, **place}


def test_each_role_has_turning_points_of_its_own() -> None:
    """An admission is none, a withheld budget is one of the ledger's, and junk is one everywhere."""
    events = (update_admitted("a"), EXHAUSTED, DROPPED)
    assert [line["event"] for line in lines(TurningPoints(AGGREGATOR_ROLE), *events)] == ["inputs_dropped"]
    assert [line["event"] for line in lines(TurningPoints(PRIVACY_ROLE), *events)] == [
        "budget_exhausted",
        "inputs_dropped",
    ]


def test_a_replay_says_nothing() -> None:
    """It was said when it was decided."""
    with capture_logs() as written:
        TurningPoints(AGGREGATOR_ROLE).note_replayed(Decision(topic="", offset=0, time_ms=1, events=(HALTED,)))
    assert written == []
