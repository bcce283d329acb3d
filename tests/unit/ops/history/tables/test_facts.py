"""Facts: no kind of event is without a table, and no field without a column."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from ops.history.tables.facts import FACTS, PLACE, SECRETS, Columns
from ops.history.tables.projector import Mark
from schemas.canonical import MalformedError, decode
from schemas.events import JournalEvent, Noticed, TaskEvent, UpdateAdmitted
from schemas.updates import parse_update
from streams.log import TopicPartition
from tests.root import ROOT
from tests.tables import opened
from tests.worlds.builders import body_ref, signed, update_admitted, update_submitted

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "trials" / "golden" / "facts.json").read_text())
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


ODD = (2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, "\0", "\x1b[2J'; --", "\U0001f600", "")


def replace_one(value: Any, other: object) -> Iterator[Any]:
    """The same, with one of its whole numbers, or one of its texts, replaced; each of them in turn."""
    if type(value) is type(other):
        yield other
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        for odd in replace_one(part, other):
            yield {**value, name: odd} if isinstance(value, dict) else [*value[:name], odd, *value[name + 1 :]]


def test_whatever_can_be_said_fits(tmp_path: Path) -> None:
    """A device chooses numbers and names of its update; one that no table holds would end the history for good."""
    written, wanted = dict[str, list[Columns]](), dict[str, int]()
    for kind, table in FACTS.items():
        golden = GOLDEN.get(str(kind.__struct_config__.tag))
        said = list[Any]()
        for odd in ODD:
            for event in replace_one(msgspec.msgpack.decode(bytes.fromhex(golden)) if golden else None, odd):
                with contextlib.suppress(MalformedError):
                    said.append(decode(msgspec.msgpack.encode(event), kind))
        if said:
            written[table.name], wanted[table.name] = [table.make_columns([HERE] * len(said), said)], len(said)
    with opened(tmp_path / "history.duckdb") as history:
        history.write(written, {TopicPartition("rounds", 1): Mark(1, 1)})
        asked = {name: history.ask(f"SELECT count(*) FROM facts.{name}").rows[0][0] for name in wanted}
    assert asked == wanted
    assert wanted[FACTS[UpdateAdmitted].name] > 20


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_an_update_with_a_number_that_no_table_holds_is_none(number: int) -> None:
    """What is not in a journal is read from `updates` itself, where anybody may have written it."""
    submitted = msgspec.structs.replace(update_submitted(b"sealed", body_ref()), samples=number)
    with pytest.raises(MalformedError):
        parse_update(signed(submitted, "a"))
    larger = msgspec.structs.replace(submitted.body, size=number)
    with pytest.raises(MalformedError):
        parse_update(signed(msgspec.structs.replace(submitted, samples=7, body=larger), "a"))
