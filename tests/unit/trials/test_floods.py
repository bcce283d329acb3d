"""The page counts floods as broken where they cost a journal too much, and shows the audit's figures beside them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from actors.wiring import ROLES
from schemas.topics import CATALOGUE, MODELS
from tests.trials.floods.__main__ import measure
from tests.trials.floods.attacker import RULES, Attacker
from tests.trials.guarantees.floods import floods
from tests.trials.simulation.meddling import SOMETIMES, WRITABLE
from tests.worlds.federation import Federation

ROW = {
    "case": "copies", "records": 10, "sent_bytes": 500, "journal_bytes": 0.2, "journal_bytes_alone": 340,
    "answer_bytes": 3,
}  # fmt: skip
AUDITED = {"case": "copies", "journal_bytes": 172}


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ({}, 0),
        ({"journal_bytes": 1.1}, 1),
        ({"journal_bytes_alone": 701}, 1),
        ({"journal_bytes_alone": 701, "readers": 2}, 0),
    ],
)
def test_a_record_that_costs_too_much_breaks_the_promise(changes: dict[str, Any], violations: int) -> None:
    """The newest row of a kind is judged, and only those count as tries that fedlog's own trial has measured."""
    found = floods([AUDITED, ROW | {"journal_bytes": 9.0}, ROW | changes])
    assert (found.violations, found.tries, found.strikes([""])) == (violations, 10, 10)
    assert "| copies | 500 | 172 |" in found.body


def test_a_flood_is_measured() -> None:
    """A full run costs one journal record, whatever it holds; a run of one record costs as much."""
    many, one = (measure(("junk in updates",), count=20, together=together) for together in (20, 1))
    assert many.sent == 40
    assert 0 < many.journals * 20 < one.journals * 2
    assert many.answers == 0


def test_every_topic_has_a_hostile_writer() -> None:
    """Whatever an actor reads is flooded, and in simulated worlds strangers write to all but what devices only read."""
    flooded = {flood.topic for flood in Attacker(Federation(RULES), random.Random(0)).floods().values()}
    assert {topic for role in ROLES.values() for topic in role.inputs} <= flooded
    assert {topic.name for topic in CATALOGUE} - {*WRITABLE, *SOMETIMES} == {MODELS.name}
