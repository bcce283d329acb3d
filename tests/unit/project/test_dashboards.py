"""Dashboards ask only for what exists, and lie on their grid without covering one another."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from tests.root import ROOT
from tests.served import RECORDED, SERVED, find_names

FOLDER = ROOT / "ops" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
QUERIES = [
    (name, panel["title"], target["expr"])
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
]
# What is asked of a gauge, and what of a counter.
COUNTED = re.compile(r"(?:rate|increase)\((fedlog_\w+)")


def test_there_is_one_for_each_reader() -> None:
    """Operator, task, privacy: each with an id of its own that links may rest on."""
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"fedlog-{name}" for name in ("operator", "task", "privacy")
    }


@pytest.mark.parametrize(("board", "title", "expression"), QUERIES)
def test_a_query_names_only_what_exists(board: str, title: str, expression: str) -> None:
    """A panel over a metric that nobody serves is empty, and looks like good news."""
    names = find_names(expression)
    assert names - SERVED - RECORDED == set()
    assert names or "up{" in expression
    counted = set(COUNTED.findall(expression))
    assert {name for name in counted if not name.endswith(("_total", "_bucket", "_count"))} == set()
    assert {name for name in names - counted if name.endswith("_total")} == set()


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_whole(name: str) -> None:
    """Ids once, one data source that the reader chooses, tasks where they are asked for, no panel over another."""
    board = BOARDS[name]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    assert used == variables
    assert {json.dumps(panel["datasource"]) for panel in board["panels"]} == {
        '{"type": "prometheus", "uid": "${source}"}'
    }
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
