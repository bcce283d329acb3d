"""Where a history stands: every batch has a number, and a number of another file counts for nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ops.history.tables import explaining
from ops.history.tables.answers import Answer, QueryRefused
from ops.history.tables.catalogue import load_tables
from ops.history.tables.duckdb_file import BATCHES_MAX
from ops.history.tables.facts import FACTS, Columns, Row
from ops.history.tables.positions import Position
from ops.history.tables.projector import Mark
from ops.history.tables.serving import HistoryServer, ask_writer, wait_for_writer
from schemas.events import RoundOpened
from streams.log import TopicPartition
from tests.tables import READER, opened, synced, tell

FILE = "history.duckdb"
AT = TopicPartition("rounds", 3)


@pytest.mark.parametrize("text", ["", "12", "abc:1", "0123456789abcdef:", "0123456789ABCDEF:1", "0123456789abcdef:-1"])
def test_what_is_no_position_is_none(text: str) -> None:
    """Text from elsewhere is refused, and what was written is read as it was."""
    assert Position.parse(text) is None
    written = Position("0123456789abcdef", 12)
    assert Position.parse(str(written)) == written


def _open_rounds(place: Row) -> Columns:
    """A round that opened there, and has the number of the record's offset."""
    return FACTS[RoundOpened].make_columns([place], [RoundOpened(task="digits", round=place[2])])


def test_each_batch_has_the_next_number_whoever_writes(tmp_path: Path) -> None:
    """Closed and opened again it goes on; another file has another generation, and covers nothing of this one."""
    with opened(tmp_path / FILE) as history:
        first = history.position
        history.write({}, {AT: Mark(1, 2)})
    with opened(tmp_path / FILE) as history, opened(tmp_path / "other") as other:
        assert history.position == Position(first.generation, first.sequence + 1)
        assert history.ask("SELECT 1").position == history.position
        other.write({}, {AT: Mark(1, 2)})
        assert not other.position.covers(history.position)


def test_a_batch_that_fails_has_no_number(tmp_path: Path) -> None:
    """Number, rows and marks are there together or not at all."""
    with opened(tmp_path / FILE) as history:
        place = ("rounds", 3, 0, 0, None, None, None, 1, 1)
        with pytest.raises(Exception, match="not a number"):
            history.write({"round_opened": [_open_rounds(place) | {"round": ["not a number"]}]}, {AT: Mark(1, 2)})
        assert history.ask("FROM batches").rows == []
        assert history.position.sequence == 0


def test_as_of_a_position_exactly_its_facts_are_there(tmp_path: Path) -> None:
    """What one batch stored is not there at the position before it; a position of another file is refused."""
    places = [("rounds", 3, offset, 0, None, None, None, 7, 7) for offset in range(2)]
    with opened(tmp_path / FILE) as history:
        for place in places:
            history.write({"round_opened": [_open_rounds(place)]}, {AT: Mark(place[2] + 1, 7)})
        first = Position(history.position.generation, 1)
        assert history.ask("SELECT round_id FROM rounds", as_of=str(first)).rows == [(0,)]
        assert len(history.ask("FROM rounds").rows) == 2
        assert history.ask("SELECT sequence FROM events ORDER BY 1").rows == [(1,), (2,)]
        for strange in (Position("0" * 16, 1), Position(first.generation, 3)):
            with pytest.raises(QueryRefused, match="no position"):
                history.ask("FROM rounds", as_of=str(strange))


def test_an_answer_names_the_newest_record_of_its_position(tmp_path: Path) -> None:
    """As of an earlier position it is the newest there, and not that of now."""
    with opened(tmp_path / FILE) as history:
        for number, time_ms in ((1, 20), (2, 10), (3, 30)):
            history.write({}, {TopicPartition("rounds", number): Mark(1, time_ms)})
        places = [Position(history.position.generation, number) for number in (1, 2, 3)]
        assert [history.ask("SELECT 1", as_of=str(place)).until_ms for place in places] == [20, 20, 30]
        assert history.ask("SELECT 1").until_ms == 30


def test_the_list_of_batches_is_bounded(tmp_path: Path) -> None:
    """However long a history is followed."""
    with opened(tmp_path / FILE) as history:
        history.position = Position(history.position.generation, BATCHES_MAX + 5)
        history.write({}, {AT: Mark(1, 2)})
        history.position = Position(history.position.generation, 2 * BATCHES_MAX + 5)
        history.write({}, {AT: Mark(2, 3)})
        assert history.ask("SELECT count(*) FROM batches").rows == [(1,)]


def test_a_question_waits_until_what_it_asks_for_is_there(tmp_path: Path) -> None:
    """Through the socket of the writer, whose answer says where it stood; and no longer than was asked."""
    with synced(tmp_path / FILE, tell().log) as history, HistoryServer(tmp_path / FILE, history):
        before = history.position
        assert wait_for_writer(tmp_path / FILE, before.sequence + 1, timeout_s=0.05) == before
        writing = threading.Timer(0.2, history.write, args=({}, {AT: Mark(1, 2)}))
        writing.start()
        found = wait_for_writer(tmp_path / FILE, before.sequence + 1, timeout_s=60.0)
        writing.join()
        assert found == before.next()
        answer = ask_writer(tmp_path / FILE, "SELECT $n + 1", parameters={"n": 41})
        assert (answer.rows, answer.position) == ([(42,)], found)


# Ways round the views that hide.
DETOURS = [
    "FROM Facts.update_admitted",
    "FROM facts . update_admitted",
    "TABLE facts.update_admitted",
    'FROM "FACTS".update_admitted',
    """SELECT 'facts.update_admitted', * FROM "facts".update_admitted""",
    "FROM facts.update_admitted, facts.nothing",
    "FROM main.updates",
    "FROM history.main.updates",
    "SELECT (SELECT max(clip_scale) FROM main.updates)",
    "WITH updates AS (FROM main.updates) FROM updates",
    "FROM marks, (WITH marks AS (SELECT 1) FROM marks)",
    "FROM query('FROM fa' || 'cts.update_admitted')",
    "FROM query_table('up' || 'dates')",
    "SELECT * FROM (SUMMARIZE updates)",
    "DESCRIBE updates",
    "EXPLAIN FROM main.updates",
    "FROM duckdb_views()",
    "FROM duckdb_columns",
    "FROM information_schema.tables",
    "FROM rounds UNION ALL BY NAME FROM main.updates",
    "FROM rounds POSITIONAL JOIN main.updates",
    "UNPIVOT main.updates ON staleness",
]


def test_who_is_no_operator_sees_what_a_reader_would(tmp_path: Path) -> None:
    """Hidden views of the operator's file are, row for row, the tables of a reader's own file."""
    log = tell().log
    with synced(tmp_path / FILE, log) as history, synced(tmp_path / "reader", log, READER) as theirs:
        for table in load_tables():
            asked = f"SELECT COLUMNS(lambda name: name <> 'sequence') FROM {table}"
            hidden = sorted(map(repr, history.ask(asked, hides=True).rows))
            assert hidden == sorted(map(repr, theirs.ask(asked).rows)), table
        for table in FACTS.values():
            asked = f"SELECT COLUMNS(lambda name: name <> 'at_sequence') FROM facts.{table.name}"
            hidden = sorted(map(repr, history.ask(asked, hides=True).rows))
            assert hidden == sorted(map(repr, theirs.ask(asked).rows)), table.name
        for sql in DETOURS:
            with pytest.raises(QueryRefused, match="no operator"):
                history.ask(sql.format(file=FILE), hides=True)
            # As of another time they would show the present.
            with pytest.raises(QueryRefused, match="no operator"):
                history.ask(sql.format(file=FILE), as_of=str(history.position))
        for sql in ("WITH u AS (FROM Updates) FROM u", "FROM range(3)", "SELECT 1"):
            assert history.ask(sql, hides=True).rows
        # What looks like a table in a text stays a text.
        told = history.ask("SELECT 'ä facts.sum_stored', count(*) FROM facts.sum_stored", hides=True).rows[0]
        assert told[0] == "ä facts.sum_stored"


def test_no_secret_is_in_any_answer_for_a_reader(tmp_path: Path) -> None:
    """Whatever is asked of a reader's file, or of an operator's on behalf of a reader: tables, facts, explain, diff."""
    log = tell().log
    with synced(tmp_path / FILE, log) as history, synced(tmp_path / "reader", log, READER) as theirs:
        private = "task IN (SELECT task FROM tasks WHERE private)"
        named = (("update_admitted", "body_sha256"), ("update_admitted", "salt"), ("sum_stored", "sum_sha256"))
        secrets = {
            value
            for fact, name in named
            for (value,) in history.ask(f"SELECT DISTINCT {name} FROM facts.{fact} WHERE {private}").rows
        }
        versions = history.ask(f"SELECT task, version FROM versions WHERE {private} AND version > 0 LIMIT 3").rows
        for ask in (theirs.ask, partial(history.ask, hides=True)):
            told = [repr(row) for row in _ask_everything(ask, versions)]
            assert len(told) > 500
            assert [row for row in told for secret in secrets if secret in row] == []
        # Or nothing would have been looked for.
        shown = "".join(repr(row) for row in _ask_everything(history.ask, versions))
        assert all(secret in shown for secret in secrets)
        assert len(secrets) > 20


def _ask_everything(ask: Callable[[str], Answer], versions: list[tuple[str, int]]) -> Iterator[object]:
    for name in (*load_tables(), *(f"facts.{table.name}" for table in FACTS.values())):
        yield from ask(f"FROM {name}").rows
    for task, version in versions:
        for part in (
            *explaining.explain(ask, task, version=version),
            *explaining.compare(ask, task, version=version, other=0),
        ):
            yield from part.answer.rows
