"""Facts: no kind of event is without a table, and no field without a column."""

from __future__ import annotations

from typing import Any, get_args

from ops.history.tables.facts import FACTS, PLACE, SECRETS, Columns
from schemas.events import JournalEvent, Noticed, TaskEvent, UpdateAdmitted
from tests.worlds.builders import update_admitted

HERE = ("rounds", 1, 2, 3, "updates", 4, 0, 5, 6)


def _make_row(columns: Columns) -> dict[str, Any]:
    """The only row of these columns."""
    return {name: value for name, [value] in columns.items()}


def test_every_event_of_a_journal_has_a_table() -> None:
    """A new event is in the history without a line of code for it."""
    kinds = {*get_args(JournalEvent), *get_args(TaskEvent)} - {Noticed}
    assert kinds <= set(FACTS)
    assert len({table.name for table in FACTS.values()}) == len(FACTS)


def test_every_field_has_a_column() -> None:
    """By its own name, or as the start of the names of what is in it; none hides the place."""
    for kind, table in FACTS.items():
        for field in kind.__struct_fields__:
            assert any(name == field or name.startswith(f"{field}_") for name in table.definition), (kind, field)
        assert not {column.name for column in table.columns} & set(PLACE)


def test_a_row_holds_the_event() -> None:
    """Numbers stay numbers, bytes are hexadecimal, lists are JSON, and what is in a body reference has columns."""
    event = update_admitted("d1", staleness=2)
    table = FACTS[UpdateAdmitted]
    row = _make_row(table.make_columns([HERE], [event]))
    assert [*row] == [*table.definition]
    assert tuple(row[name] for name in PLACE) == HERE
    assert (row["staleness"], row["device"]) == (2, event.device)
    assert row["body_sha256"] == event.body.sha256.hex()
    assert row["metrics"] == "[]"


def test_a_row_for_readers_has_no_secrets() -> None:
    """All that says something about one device's data is missing, and nothing else is."""
    table = FACTS[UpdateAdmitted]
    event = update_admitted("d1")
    whole, part = (_make_row(table.make_columns([HERE], [event], is_secret=is_secret)) for is_secret in (False, True))
    missing = {name for name in table.definition if whole[name] != part[name]}
    assert missing == SECRETS & set(table.definition) - {"zeroed"}  # this one was not zeroed
    assert all(part[name] is None for name in missing)
