"""Every log line names an event of one catalogue, which a page has as a table; lines of a round name its trace."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from ops.history.tracing.spans import make_round
from ops.log_catalogue import CATALOGUE, TURNING_POINTS, write_table
from ops.logging_setup import add_trace, name_trace
from tests.judges.style import PACKAGES, tracked_files
from tests.root import ROOT

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
# The one place that names events by their kind.
BY_KIND = "actors/hosts/event_log.py"


def list_calls(source: str) -> Iterator[tuple[str, ast.expr]]:
    """The level and the first argument of every call of a logger."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[name, *_]):
                if level in LEVELS:
                    yield level, name


def test_every_line_names_an_event_of_the_catalogue_and_none_is_left_over() -> None:
    """Law: an alert on a name does not fall silent because a line was worded anew, and the levels are those told."""
    told: defaultdict[str, set[str]] = defaultdict(set)
    for path in tracked_files(ROOT):
        if path.endswith(".py") and path.startswith(PACKAGES) and path != BY_KIND:
            for level, name in list_calls((ROOT / path).read_text()):
                assert isinstance(name, ast.Constant), f"{path}: a name must be written out, or nobody finds it"
                told[name.value].add(level)
    assert {name: levels for name, levels in told.items() if name not in CATALOGUE} == {}
    assert CATALOGUE.keys() - told.keys() - TURNING_POINTS.keys() == set()
    assert {name: levels for name, levels in told.items() if CATALOGUE[name][0] not in levels} == {}


def test_names_are_of_one_form() -> None:
    """Whoever writes a query knows how a name is spelt."""
    assert [name for name in CATALOGUE if not re.fullmatch("[a-z]+(_[a-z]+)*", name)] == []
    assert {"round_proposed", "model_published", "budget_exhausted", "task_created"} <= TURNING_POINTS.keys()


def test_the_page_has_the_catalogue() -> None:
    """What the documents say of log lines is what the source says."""
    assert write_table() in (ROOT / "docs" / "logs.md").read_text()


def test_a_line_names_the_trace_that_a_collector_has() -> None:
    """From a line of a round one comes to its trace, and from that of an update to the update's."""
    line = add_trace(None, "info", {"event": "round_proposed", "task": "a", "round": 3})
    empty = dict.fromkeys(
        (
            "charged_ms",
            "published_ms",
            "scored_ms",
            "filled_ms",
            "promoted_ms",
            "members",
            "version",
            "epsilon",
            "reason",
        )
    )
    row = {"task": "a", "round": 3, "opened_ms": 1, "proposed_ms": 2, "abandoned_ms": 3, **empty}
    assert {span.trace for span in make_round(row)} == {line["trace_id"]}
    lease = "ab" * 16
    assert add_trace(None, "info", {"update": lease})["trace_id"] == name_trace("update", lease)[0]
    assert add_trace(None, "info", {"lease": lease})["trace_id"] == name_trace("update", lease)[0]
    assert "trace_id" not in add_trace(None, "info", {"task": "a"})
