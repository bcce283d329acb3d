"""A history that is kept up to the log: it answers meanwhile, ends with the log's end, and there is one of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.history.tables.live import HistoryServed, LiveHistory
from ops.history.tables.serving import ask_writer, is_served
from schemas.topics import CATALOGUE, ROUNDS, TASKS
from streams.journals import JournalBroken
from streams.log import Bounds, LogUnavailable, TopicPartition
from streams.memory import MemoryLog
from tests.root import ROOT
from tests.tables import OPERATOR, list_rows, opened, synced
from tests.worlds.builders import batch, update_admitted
from tests.worlds.ops_journal import Journal, append, created, memory_log

FILE = "history.duckdb"
COUNT = "SELECT count(*) FROM facts.update_admitted"
# A question of another process, which has the file open for a while.
QUESTION = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
time.sleep(1.0)
"""


def begun() -> tuple[MemoryLog, Journal]:
    """A log with a task, and the journal of its rounds with one admission."""
    log = memory_log()
    append(log, TASKS.name, created())
    journal = Journal(log, ROUNDS.name)
    journal.batch(update_admitted("d1"))
    return log, journal


def await_true(holds: Callable[[], bool]) -> None:
    """Returns once it holds; fails when that is hopeless."""
    give_up_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_what_is_appended_is_in_the_tables_while_it_goes_on(tmp_path: Path) -> None:
    """Asked in its process and over the socket; at its end it has taken in what the log holds by then."""
    path, (log, journal) = tmp_path / FILE, begun()
    with LiveHistory(path, log, viewer=OPERATOR) as live:
        await_true(lambda: live.ask(COUNT).rows == [(1,)])
        journal.batch(update_admitted("d2"))
        await_true(lambda: ask_writer(path, COUNT).rows == [(2,)])
        journal.batch(update_admitted("d3"))
    assert not is_served(path)
    with opened(path) as history, synced(tmp_path / "whole", log) as whole:
        assert history.ask(COUNT).rows == [(3,)]
        assert list_rows(history) == list_rows(whole)


def test_the_first_answer_knows_what_the_log_held(tmp_path: Path) -> None:
    """Whoever asks as soon as there is a socket is not told that nothing has happened."""
    path, (log, _) = tmp_path / FILE, begun()
    with LiveHistory(path, log, viewer=OPERATOR):
        assert ask_writer(path, COUNT).rows == [(1,)]


def test_there_is_one_writer_of_a_history(tmp_path: Path) -> None:
    """A second one is told who answers, and the first goes on."""
    path, (log, _) = tmp_path / FILE, begun()
    with LiveHistory(path, log, viewer=OPERATOR) as live:
        with pytest.raises(HistoryServed, match="answers `fedlog query`"):
            LiveHistory(path, log, viewer=OPERATOR).__enter__()
        assert live.ask("SELECT 1").rows == [(1,)]
        assert is_served(path)


def test_a_question_of_another_process_is_waited_for(tmp_path: Path) -> None:
    """`fedlog query` opens the file for a moment, and a run that starts just then keeps its history all the same."""
    path, (log, _) = tmp_path / FILE, begun()
    with opened(path):
        pass
    asking = subprocess.Popen([sys.executable, "-c", QUESTION, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert asking.stdout is not None
    assert asking.stdout.readline() == b"open\n"
    with LiveHistory(path, log, viewer=OPERATOR) as live:
        await_true(lambda: live.ask(COUNT).rows == [(1,)])
    assert asking.wait() == 0
    asking.stdout.close()


def test_a_lost_broker_is_waited_for(tmp_path: Path) -> None:
    """What is stored says where to go on, so that nobody has to start it again."""
    silences = ["no broker answers"]

    class Unsteady(MemoryLog):
        """A log whose broker is away at the first question."""

        def bounds(self, at: TopicPartition) -> Bounds:
            if silences:
                raise LogUnavailable(silences.pop())
            return super().bounds(at)

    log = Unsteady(CATALOGUE)
    append(log, TASKS.name, created())
    with LiveHistory(tmp_path / FILE, log, viewer=OPERATOR) as live:
        await_true(lambda: live.ask("SELECT count(*) FROM tasks").rows == [(1,)])
        live.check()
    assert silences == []


def test_what_ends_it_is_told(tmp_path: Path) -> None:
    """A journal that is broken ends the thread, and whoever holds the history learns it from `check`."""
    log, journal = begun()
    journal.write(batch(journal.chain.at, seq=9), follow=False)
    with LiveHistory(tmp_path / FILE, log, viewer=OPERATOR) as live, pytest.raises(JournalBroken, match=r"rounds\["):
        live.check(timeout_s=60)
