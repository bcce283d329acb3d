"""Policies beside each other: one split, means with their spread, and nothing trained twice."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from ops.settings import Settings, resolve
from ops.virtual.comparing import Comparison, Incomparable, Spread, _spread, _spread_if_all, list_rows
from schemas.events import UpdateAdmitted
from schemas.policy import FLOWER_LEARNER
from schemas.topics import ROUNDS
from streams.exported import ExportedLog
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.unit.ops.virtual.test_running import LEARNER, POLICY


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two policies that differ in one field, and their learner."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "line_learner.py").write_text(LEARNER)
    short = POLICY.replace("versions_max = 8", "versions_max = 3")
    (tmp_path / "steep.toml").write_text(short)
    (tmp_path / "flat.toml").write_text(short + "target_metric = 'loss'\ntarget_value = 1e9\n")
    return tmp_path


def _settings(folder: Path) -> Settings:
    return resolve({"folder": folder / ".fedlog"})


def _compare(project: Path, *names: str, changes: tuple[str, ...] = ()) -> Comparison:
    paths = [project / name for name in names]
    return Comparison(_settings(project), paths, project / "compared", devices=None, changes=changes)


def test_a_comparison_has_every_seed_and_goes_on_where_it_stood(project: Path) -> None:
    """Guarantee: means and ranges are those of the curves in the CSV, and what is kept is not trained again."""
    comparison, said = _compare(project, "steep.toml", "flat.toml"), list[str]()
    found = comparison.train(2, say=said.append)
    assert [line.partition(":")[0] for line in said] == [
        f"{name}, seed {seed}" for seed in (1, 2) for name in ("steep", "flat")
    ]
    files = comparison.write(found)
    assert [path.name for path in files] == ["compare.csv", "compare.png", "compare.svg"]
    with files[0].open() as file:
        rows = [*csv.DictReader(file)]
    for one in list_rows(found):
        last = {row["seed"]: float(row["value"]) for row in rows if row["policy"] == one["policy"]}
        assert one["score"] == pytest.approx(sum(last.values()) / 2)
        assert (one["score_min"], one["score_max"]) == (min(last.values()), max(last.values()))
        assert one["score_min"] != one["score_max"]
        assert (one["seeds"], one["versions"]) == (2, 3)
    # The same split and seed: what differs in a policy's end of the task changes no value.
    assert [row["value"] for row in rows if row["policy"] == "steep"] == [
        row["value"] for row in rows if row["policy"] == "flat"
    ]
    kept = {path: path.stat().st_mtime_ns for path in (project / "compared").rglob("*.json")}
    assert comparison.train(2, say=said.append) == found
    # Half a file is no run, and another policy of the same name is another run.
    [half, *whole] = sorted(kept)
    half.write_bytes(half.read_bytes()[:50])
    assert _compare(project, "steep.toml", "flat.toml").train(2, say=said.append) == found
    assert half.stat().st_mtime_ns != kept[half]
    assert [path.stat().st_mtime_ns for path in whole] == [kept[path] for path in whole]
    changed = _compare(project, "steep.toml", "flat.toml", changes=("aggregation.updates_per_round=2",))
    assert [one.uploads for one in changed.train(1, say=said.append)] != [one.uploads for one in found]
    assert all(path.stat().st_mtime_ns != kept[path] for path in kept if path.stem.endswith("-1") and path != half)


def test_the_way_to_a_target_is_told_where_every_seed_has_come_there(project: Path) -> None:
    """Guarantee: uploads and time until a target, and staleness, are those of the curves and of the journals."""
    text = (project / "steep.toml").read_text()
    (project / "near.toml").write_text(text + "target_metric = 'loss'\ntarget_value = 0.001\n")
    comparison = _compare(project, "near.toml", "flat.toml", "steep.toml")
    near, flat, steep = comparison.train(2, say=lambda text: None)
    with comparison.write([near])[0].open() as file:
        rows = [*csv.DictReader(file)]
    first = {row["seed"]: row for row in reversed(rows) if float(row["value"]) >= 0.001}
    assert near.uploads_to_target == _spread(float(row["uploads"]) for row in first.values())
    assert near.seconds_to_target is not None
    assert near.seconds_to_target.mean == pytest.approx(sum(float(row["seconds"]) for row in first.values()) / 2)
    assert (flat.uploads_to_target, flat.seconds_to_target, steep.seconds_to_target) == (None, None, None)
    stale = [_read_staleness(project / "compared" / "runs" / f"steep-{seed}") for seed in (1, 2)]
    assert steep.staleness == _spread(sum(each) / len(each) for each in stale)
    assert any(map(any, stale))


def _read_staleness(home: Path) -> list[int]:
    """Of every admitted update, as the aggregator's journal says it."""
    (folder,) = (path.parent for path in home.rglob("manifest.json"))
    decisions = read_decisions(ExportedLog(folder), TopicPartition(ROUNDS.name, 0), trust=None)
    events = [event for _, decision, _ in decisions for event in decision.events]
    return [event.staleness for event in events if isinstance(event, UpdateAdmitted)]


def test_a_spread_is_the_mean_and_both_ends() -> None:
    """Guarantee: one seed far off moves the mean, and is seen; what one seed has not reached is not told at all."""
    assert _spread([1.0, 2.0, 9.0]) == Spread(4.0, 1.0, 9.0)
    assert _spread_if_all([1.0, 2.0, 9.0]) == Spread(4.0, 1.0, 9.0)
    assert _spread_if_all([1.0, None]) is None


def test_a_private_policy_is_compared_with_noise_of_its_own(project: Path) -> None:
    """Guarantee: each run draws its noise with a key of its own, and whoever compares is told what that spends."""
    privacy = "[privacy]\nnoise_multiplier = 1.0\nrho_max = 8.0\ndelta = 1e-5\n"
    (project / "noisy.toml").write_text((project / "steep.toml").read_text() + privacy)
    said = list[str]()
    first = _compare(project, "steep.toml", "noisy.toml").train(1, say=said.append)
    assert "noisy is private" in said[0]
    shutil.rmtree(project / "compared")
    second = _compare(project, "steep.toml", "noisy.toml").train(1, say=said.append)
    (steep, noisy), (steep_again, noisy_again) = first, second
    assert steep.runs == steep_again.runs
    assert noisy.runs[0].values != noisy_again.runs[0].values
    # All but the noise is common: the same devices with the same luck.
    assert (noisy.runs[0].seconds, noisy.runs[0].uploads) == (steep.runs[0].seconds, steep.runs[0].uploads)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            POLICY.replace("devices_expected = 12", "devices_expected = 20"),
            r"same devices .*steep 12, other 20.*--devices",
        ),
        (
            POLICY.replace("line_learner:Line", FLOWER_LEARNER),
            "other cannot be compared by virtual",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(project: Path, other: str, message: str) -> None:
    """Guarantee: another number of devices, or a Flower app, is refused at once, with what to do."""
    (project / "other.toml").write_text(other)
    with pytest.raises(Incomparable, match=message):
        _compare(project, "steep.toml", "other.toml")
    assert not (project / "compared").exists()


def test_two_files_of_one_name_are_refused(project: Path) -> None:
    """Guarantee: a table in which two policies have one name is not made."""
    (project / "more").mkdir()
    (project / "more" / "steep.toml").write_text(POLICY)
    with pytest.raises(Incomparable, match="different names"):
        _compare(project, "steep.toml", "more/steep.toml")
