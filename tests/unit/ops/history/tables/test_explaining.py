"""An explanation holds what the journals say of a version, with the records that say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.history.tables.answers import QueryRefused
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.explaining import Part, compare, explain
from schemas.events import ModelPublished, RoundCharged, UpdateAdmitted
from schemas.topics import LEDGER, ROUNDS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.tables import synced, tell
from tests.worlds.masking.federation import MaskedFederation, masked_policy


def _parts(history: HistoryFile, task: str, version: int) -> dict[str, Part]:
    return {part.title: part for part in explain(history.ask, task, version=version)}


def test_every_version_of_the_story_is_explained(tmp_path: Path) -> None:
    """Members, digests, charges and places are those that a reader of the journals finds without any table."""
    story = tell()
    members: dict[tuple[str, int], list[tuple[str, int, str, int]]] = {}
    charges: dict[tuple[str, int], float] = {}
    published: list[tuple[str, int, int, int]] = []
    for topic in (ROUNDS, LEDGER):
        for record, decision, _ in read_decisions(story.log, TopicPartition(topic.name, story.partition), trust=None):
            for event in decision.events:
                match event:
                    case UpdateAdmitted():
                        row = (event.update, event.staleness, event.body.sha256.hex(), record.offset)
                        members.setdefault((event.task, event.round), []).append(row)
                    case RoundCharged():
                        charges[event.task, event.round] = event.rho_total
                    case ModelPublished(round=int(round_id)):
                        published.append((event.task, event.version, round_id, record.offset))
    with synced(tmp_path / "history.duckdb", story.log) as history:
        for task, version, round_id, offset in published:
            parts = _parts(history, task, version)
            told = [
                (row["update_id"], row["staleness"], row["sha256"], row["offset"]) for row in parts["members"].to_json()
            ]
            assert sorted(told) == sorted(members[task, round_id])
            assert [row["offset"] for row in parts["version"].to_json()] == [offset]
            spent = [row["rho_after"] for row in parts["ledger"].to_json()]
            assert spent == ([charges[task, round_id]] if (task, round_id) in charges else [])
            assert "ModelPublished" in [row["event"] for row in parts["decided by"].to_json()]
    assert len(published) > 8
    assert charges


def test_a_weight_is_told_in_updates_that_count_once(tmp_path: Path) -> None:
    """A fresh update weighs 1, whatever whole number stands for it: a masked sum has room for small ones only."""
    world = MaskedFederation(masked_policy(tmp_path / "helpers"), tmp_path / "helpers", parameters=4)
    world.round_of({name: np.ones(4, np.float32) for name in "abc"})
    with synced(tmp_path / "history.duckdb", world.log) as history:
        assert {row["weight"] for row in _parts(history, world.task, 1)["members"].to_json()} == {1.0}
        changes = {part.title: part.to_json() for part in compare(history.ask, world.task, version=0, other=1)}
        assert [row["weight"] for row in changes["updates"]] == [3.0]


def test_what_was_refused_meanwhile_is_told(tmp_path: Path) -> None:
    """Somewhere in the story an update was refused while a round filled; nothing refused is in no window twice."""
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        versions = history.ask("SELECT task, version FROM versions WHERE version > 0").rows
        told = [
            row["update_id"]
            for task, version in versions
            for row in _parts(history, task, version)["refused meanwhile"].to_json()
        ]
        assert told
        known = {update for (update,) in history.ask("SELECT update_id FROM updates WHERE outcome <> 'admitted'").rows}
        assert set(told) <= known


def test_two_versions_are_compared(tmp_path: Path) -> None:
    """Both rows, and the devices that are in one of them only."""
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        parts = {part.title: part.to_json() for part in compare(history.ask, "digits", version=1, other=3)}
        assert [row["version"] for row in parts["versions"]] == [1, 3]
        assert parts["in between"] == [{"versions": 2, "updates": 6}]
        only = {(row["device"], row["only_in"]) for row in parts["devices in one of them"]}
        asked = "SELECT DISTINCT device FROM updates WHERE task = 'digits' AND version = "
        first, second = ({device for (device,) in history.ask(asked + number).rows} for number in ("1", "3"))
        assert only == {(device, 1) for device in first - second} | {(device, 3) for device in second - first}


@pytest.mark.parametrize("task", ["nobody", "digits' OR 1 = 1 --", ""])
def test_an_unknown_version_is_refused(tmp_path: Path, task: str) -> None:
    """And whatever is no name of a task reaches no question."""
    with synced(tmp_path / "history.duckdb", tell().log) as history, pytest.raises(QueryRefused):
        explain(history.ask, task, version=1)
