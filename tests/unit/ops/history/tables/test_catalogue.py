"""The tables that people ask: what is described is what is there."""

from __future__ import annotations

from pathlib import Path

from ops.history.tables.catalogue import load_tables
from schemas.topics import ROUNDS, TASKS
from tests.tables import opened, synced
from tests.worlds.builders import body_ref, model_published
from tests.worlds.ops_journal import PLACE, Journal, append, created, memory_log


def test_every_column_is_described_and_no_other(tmp_path: Path) -> None:
    """In the order in which `SELECT *` shows them, each with a meaning."""
    with opened(tmp_path / "history.duckdb") as history:
        for table in load_tables().values():
            assert history.ask(f"FROM {table.name}").columns == list(table.columns), table.name
            assert table.meaning.endswith(".")
            assert all(table.columns.values()), table.name


def test_as_of_a_time_every_fact_ends_there() -> None:
    """No query reads a table of facts past it."""
    for table in load_tables().values():
        query = table.make_query("at_ms <= 77")
        assert query.count("(FROM facts.") == query.count("facts.") == query.count("WHERE at_ms <= 77)")


def test_who_starts_from_whom_follows_from_the_models(tmp_path: Path) -> None:
    """A branch is known by the digest of its first model, a successor by what the operator signed; others have none."""
    log = memory_log()
    models = [
        body_ref(f"{number}", "models", partition=PLACE, offsets=(number,), sha256=bytes([number]) * 32)
        for number in range(4)
    ]
    for name, model, parent in (("digits", 0, None), ("branch", 2, None), ("next", 3, "digits"), ("alone", 0, None)):
        if name == "branch":
            published = [model_published(version, model=models[version]) for version in range(1, 3)]
            Journal(log, ROUNDS.name).batch(*published)
        append(log, TASKS.name, created(name, model=models[model], parent=parent))
    with synced(tmp_path / "history.duckdb", log) as history:
        rows = history.ask("SELECT task, parent, parent_version, relation FROM ancestry ORDER BY task").rows
    assert rows == [("branch", "digits", 2, "branches off"), ("next", "digits", None, "carries on")]
