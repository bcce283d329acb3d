"""Policies beside each other: one split, means with their spread, and nothing trained twice."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ops.settings import Settings, resolve
from ops.virtual.comparing import Comparison, Incomparable, list_rows
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


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            POLICY.replace("devices_expected = 12", "devices_expected = 20"),
            r"same devices .*steep 12, other 20.*--devices",
        ),
        (
            POLICY + "[privacy]\nnoise_multiplier = 1.0\nrho_max = 1.0\ndelta = 1e-5\n",
            "other cannot be compared by virtual",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(project: Path, other: str, message: str) -> None:
    """Guarantee: another number of devices, or a private policy, is refused at once, with what to do."""
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
