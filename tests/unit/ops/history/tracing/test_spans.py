"""Spans say of rounds and updates what the tables say of them, and are the same whoever derives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tracing.spans import Span, list_spans, make_update
from tests.tables import synced, tell
from tests.worlds.releasing.federation import Released


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryFile]:
    """The history of the story."""
    with synced(tmp_path_factory.mktemp("spans") / "history.duckdb", tell().log) as found:
        yield found


@pytest.fixture(scope="module")
def spans(history: HistoryFile) -> list[Span]:
    """All that it gives."""
    return list(list_spans(history.ask))


def test_every_round_that_is_over_is_a_trace(history: HistoryFile, spans: list[Span]) -> None:
    """As long as the table of rounds says; one that was abandoned says why."""
    rows = history.ask("SELECT task, round_id, duration_s, status FROM rounds WHERE duration_s IS NOT NULL").rows
    found = {
        (span.attributes["fedlog.task"], span.attributes["fedlog.round"]): span
        for span in spans
        if span.name == "round"
    }
    assert len(found) == len(rows) > 5
    for task, number, seconds, status in rows:
        span = found[task, number]
        assert (span.end_ms - span.start_ms) / 1000 == pytest.approx(seconds)
        assert (status == "published") == (not span.error)


def test_every_lease_that_is_over_is_a_trace(history: HistoryFile, spans: list[Span]) -> None:
    """What became an update is linked to its round, the rest says why it came to nothing."""
    ids = {(span.trace, span.id) for span in spans if span.name == "round"}
    updates = [span for span in spans if span.name == "update"]
    [(over,)] = history.ask("SELECT count(*) FROM leases WHERE outcome IS NOT NULL").rows
    [(admitted,)] = history.ask("SELECT count(*) FROM updates WHERE outcome = 'admitted'").rows
    assert len(updates) >= over > 20
    linked = [span for span in updates if span.links]
    assert len(linked) == admitted
    # A round that is not over has no span yet.
    assert {link for span in linked for link in span.links} & ids
    assert all(bool(span.links) != bool(span.error) for span in updates)


def test_steps_lie_within_their_trace_and_have_one_parent(spans: list[Span]) -> None:
    """Ids once; each step hangs on the first span of its trace; none ends before it begins."""
    assert len({span.id for span in spans}) == len(spans)
    roots = {span.trace: span for span in spans if not span.parent}
    for span in spans:
        assert (len(span.trace), len(span.id)) == (32, 16)
        assert span.start_ms <= span.end_ms
        assert not span.parent or roots[span.trace].id == span.parent
    assert {span.name for span in spans} >= {"fill", "charge", "publish", "evaluate", "lease", "train", "admit"}


def test_the_same_log_gives_the_same_spans(spans: list[Span], tmp_path: Path) -> None:
    """Another history of the same log: what is exported twice is there once."""
    with synced(tmp_path / "again.duckdb", tell().log) as again:
        assert {span.id for span in list_spans(again.ask)} == {span.id for span in spans}


def test_one_task_one_round_and_what_ended_since(history: HistoryFile, spans: list[Span]) -> None:
    """Each narrows what is asked for."""
    first = next(span for span in spans if span.name == "round")
    task, number = str(first.attributes["fedlog.task"]), first.attributes["fedlog.round"]
    assert isinstance(number, int)
    of_task = list(list_spans(history.ask, task=task))
    assert {span.attributes["fedlog.task"] for span in of_task} == {task}
    of_round = list(list_spans(history.ask, task=task, number=number))
    assert {span.attributes.get("fedlog.round", number) for span in of_round} == {number}
    assert 0 < len(of_round) < len(of_task) < len(spans)
    newest_ms = max(span.end_ms for span in spans)
    assert list(list_spans(history.ask, since_ms=newest_ms + 1)) == []


def test_an_update_whose_times_cross_ends_when_it_begins() -> None:
    """Append times of two partitions may differ by what clocks of two brokers do."""
    row = {
        "task": "t",
        "lease": "l",
        "device": "d",
        "base_version": 1,
        "checked_in_ms": 9,
        "leased_ms": 10,
        "sent_ms": 8,
        "admitted_ms": 12,
        "round": 3,
        "staleness": 0,
        "refused_ms": None,
        "refused": None,
        "ended_ms": None,
        "outcome": None,
    }
    assert {span.name: (span.start_ms, span.end_ms) for span in make_update(row)} == {
        "update": (9, 12),
        "lease": (9, 10),
        "train": (10, 10),
        "admit": (8, 12),
    }


def test_a_promoted_version_ends_its_trace(tmp_path: Path) -> None:
    """From the first update of a round to the moment from which everybody uses its version, in one trace."""
    world = Released()
    version = world.promote(0.9)
    with synced(tmp_path / "history.duckdb", world.log) as history:
        found = list(list_spans(history.ask))
    root = next(span for span in found if span.name == "round" and span.attributes.get("fedlog.version") == version)
    steps = {span.name: span for span in found if span.parent == root.id}
    assert [*steps] == ["fill", "propose", "publish", "evaluate", "promote"]
    assert steps["fill"].end_ms == steps["propose"].start_ms
    assert steps["propose"].end_ms == steps["publish"].start_ms
    assert steps["evaluate"].end_ms == steps["promote"].start_ms <= steps["promote"].end_ms
