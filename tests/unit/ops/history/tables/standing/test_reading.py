"""Rows of facts are the events that they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.history.tables.answers import HistoryUnfit
from ops.history.tables.facts import FACTS
from ops.history.tables.standing.reading import read_event
from schemas.events import JournalEvent, Noticed, RoundOpened
from schemas.journal import Batch, open_record
from schemas.topics import JOURNALS
from streams.log import TopicPartition, scan
from tests.tables import synced, tell


def test_every_event_of_the_story_comes_back_from_its_row(tmp_path: Path) -> None:
    """Bytes, what is missing, structs and lists of them: to the last field."""
    story = tell()
    expected: dict[str, list[JournalEvent]] = {}
    for topic in JOURNALS:
        for record in scan(story.log, TopicPartition(topic.name, story.partition)):
            content = open_record(record.value or b"")
            for decision in content.decisions if isinstance(content, Batch) else ():
                for event in decision.events:
                    if not isinstance(event, Noticed):
                        expected.setdefault(type(event).__name__, []).append(event)
    seen = set()
    with synced(tmp_path / "history.duckdb", story.log) as history:
        for kind, table in FACTS.items():
            rows = history.ask(f"SELECT to_json(found) FROM facts.{table.name} AS found").rows
            found = [read_event(kind, json.loads(row)) for (row,) in rows]
            # A zombie's events are in no table.
            for event in found if table.event in expected else ():
                assert event in expected[table.event]
                seen.add(table.event)
    assert len(seen) > 15


def test_a_table_of_another_release_is_told() -> None:
    """A process of an older release may hold the file: what its rows lack is named, and the log is folded instead."""
    with pytest.raises(HistoryUnfit, match="another release: it has no round of RoundOpened"):
        read_event(RoundOpened, {"task": "digits"})
