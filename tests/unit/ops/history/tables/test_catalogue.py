"""The tables that people ask: what is described is what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ops.history.tables.catalogue import load_tables
from ops.history.tables.duckdb_file import HistoryFile
from schemas.events import DeviceEnrolled, LeaseClosed, UpdatesDeclined
from schemas.topics import REGISTRY, ROUNDS, SELECTIONS, TASKS
from tests.tables import opened, synced, tell
from tests.worlds.builders import TASK, body_ref, lease_granted, model_published, public_key
from tests.worlds.identity.enrolling import PHONES, device_revoked, enrolment_closed, enrolment_opened, subject_id
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


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("tasks", "task"),
        ("policies", "task"),
        ("versions", "task, version"),
        ("rounds", "task, round_id"),
        ("leases", "lease"),
        # A repeat that a device sent is a row without an outcome.
        ("updates WHERE outcome IS NOT NULL", "update_id"),
        ("devices", "task, device"),
        ("checkins", "task, reason"),
        ("evaluations", "task, version, cohort, metric"),
        ("workers", 'topic, partition, "offset"'),
        ("events", 'topic, partition, "offset", number'),
    ],
)
def test_a_row_is_there_once(whole: HistoryFile, table: str, key: str) -> None:
    """Or counts over a table would be of the joins behind it."""
    count, twice = whole.ask(
        f"SELECT sum(found), count(*) FILTER (found > 1) FROM (SELECT count(*) AS found FROM {table} GROUP BY {key})"
    ).rows[0]
    assert (count > 0, twice) == (True, 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryFile]:
    """The history of the story."""
    with synced(tmp_path_factory.mktemp("whole") / "history.duckdb", tell().log) as history:
        yield history


def test_a_lease_that_is_closed_twice_ends_once(tmp_path: Path) -> None:
    """An update that is decided late closes a lease that has run out: the last word counts, in each table."""
    log = memory_log()
    append(log, TASKS.name, created())
    granted = [lease_granted(name, cohort="") for name in "ab"]
    closed = LeaseClosed(
        task=granted[0].task, lease=granted[0].lease, device=granted[0].device, outcome="expired", round=None
    )
    Journal(log, SELECTIONS.name).batch(*granted, closed, replace(closed, outcome="used", round=0))
    with synced(tmp_path / "history.duckdb", log) as history:
        leases = history.ask("SELECT lease, outcome FROM leases ORDER BY outcome").rows
        expired = history.ask("SELECT sum(leases), sum(expired) FROM devices").rows
    # As a list: two rows of one lease must not pass for one.
    assert leases == [(granted[0].lease, "used"), (granted[1].lease, None)]
    assert expired == [(2, 0)]


def test_what_is_only_counted_is_refused_too(tmp_path: Path) -> None:
    """Repeats and what came too late have no row of their own, and still somebody asks how many they were."""
    log = memory_log()
    append(log, TASKS.name, created())
    counted = [UpdatesDeclined(task=TASK, counts={"duplicate": 2, "expired": n}) for n in (1, 3)]
    Journal(log, ROUNDS.name).batch(*counted)
    with synced(tmp_path / "history.duckdb", log) as history:
        found = history.ask("SELECT task, reason, count FROM refusals ORDER BY reason").rows
    assert found == [(TASK, "duplicate", 4), (TASK, "expired", 4)]


def test_who_is_enrolled_follows_from_the_registrar_s_journal(tmp_path: Path) -> None:
    """Each opening with how many came by it; each device with its subject, its renewals, and why it is gone."""
    log = memory_log()
    enrolled = DeviceEnrolled(
        population=TASK,
        device_class=PHONES,
        device="a",
        public_key=public_key("a"),
        subject=subject_id("ada"),
        token=bytes(32),
        replaces=None,
        until_ms=7,
    )
    Journal(log, REGISTRY.name).batch(
        enrolment_opened(),
        enrolled,
        replace(enrolled, token=None, until_ms=9),
        enrolment_opened(2),
        replace(enrolled, device="b", subject=subject_id("bob")),
        replace(enrolled, device="c", subject=subject_id("cyd")),
        enrolment_closed(2),
        device_revoked("b"),
        device_revoked(population=TASK, subject=subject_id("cyd"), reason="forgotten"),
    )
    with synced(tmp_path / "history.duckdb", log) as history:
        members = history.ask("SELECT device, subject, status, renewals, epoch_ms(until) FROM members ORDER BY 1").rows
        opened = history.ask("SELECT number, status FROM enrolments ORDER BY number").rows
    assert members == [
        ("a", subject_id("ada"), "enrolled", 1, 9),
        ("b", subject_id("bob"), "lost", 0, 7),
        ("c", subject_id("cyd"), "forgotten", 0, 7),
    ]
    assert opened == [(1, "replaced"), (2, "closed")]
