"""The socket: a history answers while it is written, with the same rows, and a writer that is gone is no surprise."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from ops.history.tables.answers import QueryRefused, Question
from ops.history.tables.facts import FACTS
from ops.history.tables.projector import Mark
from ops.history.tables.serving import (
    HistoryServer,
    SocketUnusable,
    WriterGone,
    ask_writer,
    ask_writer_all,
    find_socket,
    is_served,
)
from schemas.events import RoundOpened
from streams.log import TopicPartition
from tests.tables import opened, synced, tell

KINDS = (
    "SELECT 1 AS a, 2.5 AS b, 'c' AS c, NULL AS d, true AS e, TIMESTAMP '2026-11-26 20:15:00' AS f, [1, 2] AS g,"
    " (2::HUGEINT ** 100)::HUGEINT AS h, DATE '2026-11-26' AS i, NULL::TIMESTAMP AS j"
)


@pytest.mark.parametrize(
    ("folder", "file"), [("short", "history.duckdb"), ("long" * 40, "history.duckdb"), ("short", "long" * 50)]
)
def test_answers_are_those_of_the_file(tmp_path: Path, folder: str, file: str) -> None:
    """Names, types, rows and the newest record, also where the folder's or the file's name is too long for a socket."""
    path = tmp_path / folder / file
    path.parent.mkdir()
    with synced(path, tell().log) as history, HistoryServer(path, history):
        assert is_served(path)
        for sql in (KINDS, "FROM rounds", "SELECT count(*) FROM events"):
            assert ask_writer(path, sql) == history.ask(sql)
        assert ask_writer(path, "FROM versions", as_of="digits@1") == history.ask("FROM versions", as_of="digits@1")
        with pytest.raises(QueryRefused, match="nothing"):
            ask_writer(path, "FROM nothing")
        several: list[Question] = [(sql, {}) for sql in (KINDS, "FROM rounds")]
        several.append(("SELECT count(*) FROM rounds WHERE task = $task", {"task": "digits"}))
        assert ask_writer_all(path, several, as_of="digits@1") == history.ask_all(several, as_of="digits@1")
        assert history.ask_all(several) == [history.ask(sql, parameters=given) for sql, given in several]
        with pytest.raises(QueryRefused, match="nothing"):
            ask_writer_all(path, [*several, ("FROM nothing", {})])
    assert not is_served(path)
    assert not find_socket(path).exists()


def test_it_answers_while_rows_arrive(tmp_path: Path) -> None:
    """Each answer is of one moment, and the last sees all."""
    path, at = tmp_path / "history.duckdb", TopicPartition("rounds", 0)
    with opened(path) as history, HistoryServer(path, history):
        seen: list[int] = []
        asking = threading.Thread(
            target=lambda: seen.extend(
                ask_writer(path, "SELECT count(*) FROM facts.round_opened").rows[0][0] for _ in range(20)
            )
        )
        asking.start()
        for number in range(40):
            place = ("rounds", 0, number, 0, None, None, None, 1, 1)
            columns = FACTS[RoundOpened].make_columns([place] * 2, [RoundOpened(task="digits", round=number)] * 2)
            history.write({"round_opened": [columns]}, {at: Mark(number + 1, 1)})
        asking.join()
        assert seen == sorted(seen)
        assert all(count % 2 == 0 for count in seen)
        assert ask_writer(path, "SELECT count(*) FROM facts.round_opened").rows == [(80,)]


def test_where_no_socket_can_be_made_that_is_said(tmp_path: Path) -> None:
    """What stands in its place is somebody's folder, and stays."""
    path = tmp_path / "history.duckdb"
    (find_socket(path) / "theirs").mkdir(parents=True)
    with opened(path) as history, pytest.raises(SocketUnusable, match="--file"), HistoryServer(path, history):
        pass
    assert (find_socket(path) / "theirs").exists()


def test_a_socket_without_a_writer_is_none(tmp_path: Path) -> None:
    """A killed writer leaves it; the next one takes its place."""
    path = tmp_path / "history.duckdb"
    find_socket(path).touch()
    assert not is_served(path)
    with pytest.raises(WriterGone, match="ask again"):
        ask_writer(path, "SELECT 1")
    with opened(path) as history, HistoryServer(path, history):
        assert ask_writer(path, "SELECT 1").rows == [(1,)]
        assert stat.S_ISSOCK(find_socket(path).stat().st_mode)


def test_only_the_owner_asks(tmp_path: Path) -> None:
    """The socket is as private as the file, whatever the folder and the umask of whoever writes it allow."""
    path = tmp_path / "history.duckdb"
    before = os.umask(0)
    try:
        with opened(path) as history, HistoryServer(path, history):
            assert stat.S_IMODE(find_socket(path).stat().st_mode) == 0o600
    finally:
        os.umask(before)
