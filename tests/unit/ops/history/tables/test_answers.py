"""Answers are known to whoever asks, without the database that gives them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.history.tables import duckdb_file
from ops.history.tables.answers import QueryRefused, collect_rows, ending_after
from tests.root import ROOT
from tests.tables import opened


def test_who_asks_a_process_that_writes_loads_no_database() -> None:
    """Half of the time of a command would go into that; views of tasks out of such answers need none either."""
    code = (
        "import sys, ops.history.tables.serving, ops.history.tables.standing.views, ops.terminal.standing; "
        "sys.exit('duckdb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_answer_is_given_up_before_it_fills_the_memory() -> None:
    """Guarantee: very many rows, and few of very long text, end as a refusal, and not the process that answers."""
    given = 0

    def fetch(count: int) -> list[tuple[object, ...]]:
        nonlocal given
        given += count
        return [(1, "x")] * count if given < 100_000 else []

    with pytest.raises(QueryRefused, match=r"too large.*LIMIT"):
        collect_rows(fetch, bytes_max=1_000_000)
    assert given < 20_000
    parts = iter([[("x" * 600_000,)] * 2, []])
    with pytest.raises(QueryRefused, match="too large"):
        collect_rows(lambda count: next(parts), bytes_max=1_000_000)
    whole = iter([[(1,), (2,)], [(3,)], []])
    assert collect_rows(lambda count: next(whole), bytes_max=1_000_000) == [(1,), (2,), (3,)]


def test_what_takes_too_long_is_interrupted() -> None:
    """Guarantee: after the limit the interruption comes, and never once the question is answered."""
    late, early = threading.Event(), threading.Event()
    with ending_after(0.01, late.set):
        assert late.wait(60)
    with ending_after(0.2, early.set):
        pass
    assert not early.wait(0.4)


def test_a_question_that_would_take_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: nobody keeps a core busy after the limit, and the history answers the next question."""
    monkeypatch.setattr(duckdb_file, "QUESTION_S_MAX", 0.05)
    with opened(tmp_path / "history.duckdb") as history:
        with pytest.raises(QueryRefused, match="not answered within"):
            history.ask("SELECT count(*) FROM range(1000000000000)")
        monkeypatch.undo()
        assert history.ask("SELECT 1").rows == [(1,)]
