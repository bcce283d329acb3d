"""The check of an archive: each file that is not what the log gives is named, whatever was done to it."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from ops.archive.archivist import Archivist
from ops.archive.checking import Compared, check_archive
from ops.archive.folder import Folder
from tests.unit.ops.archive.test_archivist import PRIVATE, SHORT, archive
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.ops_journal import TASK
from tests.worlds.releasing.public_log import FLAT, PublicLog


def check(world: PublicLog, folder: Path, task: str | None = None) -> Compared:
    """What a check of an archive in a folder finds."""
    store = Folder(folder)
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        return check_archive(world.log, store, public=archivist.public, task=task)


def find_faults(world: PublicLog, folder: Path) -> list[tuple[str, str]]:
    """The faults alone: which file, and what is wrong."""
    return [(each.file, each.kind) for each in check(world, folder).findings if each.is_fault]


@pytest.fixture
def world(tmp_path: Path) -> PublicLog:
    """A private task with versions 0 to 2, all of them archived."""
    world = PublicLog(policy=PRIVATE)
    for version in range(3):
        world.publish(version)
    archive(world, Folder(tmp_path))
    return world


def test_an_archive_that_is_as_the_log_says_has_no_fault(world: PublicLog, tmp_path: Path) -> None:
    """Every version was looked at, and the numbers of each were compared with what was signed."""
    found = check(world, tmp_path)
    assert (found.findings, found.versions, found.proven) == ([], 3, 3)


@pytest.mark.parametrize("name", ["config.json", "privacy.log", "weights.bin"])
def test_every_changed_byte_is_found(world: PublicLog, tmp_path: Path, name: str) -> None:
    """At the beginning, in the midst and at the end of each file."""
    path = tmp_path / TASK / "1" / name
    before = path.read_bytes()
    for at in (0, len(before) // 2, len(before) - 1):
        path.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
        assert find_faults(world, tmp_path) == [(f"{TASK}/1/{name}", "differs")]
    path.write_bytes(before)
    assert find_faults(world, tmp_path) == []


@pytest.mark.parametrize("name", ["config.json", "privacy.log", "weights.bin"])
def test_every_missing_file_is_found(world: PublicLog, tmp_path: Path, name: str) -> None:
    """A version without one of its files is not whole."""
    (tmp_path / TASK / "2" / name).unlink()
    assert find_faults(world, tmp_path) == [(f"{TASK}/2/{name}", "missing")]


def test_weights_that_were_replaced_with_their_digest_are_found(world: PublicLog, tmp_path: Path) -> None:
    """Whoever writes other numbers, and their digest beside them, cannot sign them."""
    folder = tmp_path / TASK / "1"
    other = (FLAT * 9).astype("<f4").tobytes()
    config = (folder / "config.json").read_text()
    digest = json.loads(config)["sha256"]
    (folder / "weights.bin").write_bytes(other)
    (folder / "config.json").write_text(config.replace(digest, hashlib.sha256(other).hexdigest()))
    assert find_faults(world, tmp_path) == [(f"{TASK}/1/weights.bin", "differs")]
    # Where the log has the body no more it cannot be proven either way, and that is said.
    world.drop(1)
    assert [(each.file, each.kind) for each in check(world, tmp_path).findings] == [
        (f"{TASK}/1/weights.bin", "unproven")
    ]


def test_weights_are_proven_without_the_log(world: PublicLog, tmp_path: Path) -> None:
    """Packed again they are the published body: its digest is signed, and stays for ever."""
    world.drop(2)
    assert check(world, tmp_path).proven == 3


def test_scores_that_are_not_there_yet_are_no_fault(world: PublicLog, tmp_path: Path) -> None:
    """The next run adds them; a score that was taken away or changed is none of the log's."""
    world.score(1, 0.5)
    assert [(each.kind, each.is_fault) for each in check(world, tmp_path).findings] == [("behind", False)]
    archive(world, Folder(tmp_path))
    path = tmp_path / TASK / "1" / "config.json"
    path.write_text(path.read_text().replace('"accuracy": 0.5', '"accuracy": 0.9'))
    assert find_faults(world, tmp_path) == [(f"{TASK}/1/config.json", "differs")]


def test_what_no_log_has_is_named(world: PublicLog, tmp_path: Path) -> None:
    """A version that was never published, and a file that no archive writes."""
    shutil.copytree(tmp_path / TASK / "2", tmp_path / TASK / "9")
    (tmp_path / TASK / "2" / "notes.txt").write_text("mine")
    stray = {name for name, kind in find_faults(world, tmp_path) if kind == "not the log's"}
    assert stray == {f"{TASK}/9/{name}" for name in ("config.json", "privacy.log", "weights.bin")} | {
        f"{TASK}/2/notes.txt"
    }


def test_weights_that_the_policy_keeps_no_longer_may_be_gone(tmp_path: Path) -> None:
    """And where they are still there, it is told and is no fault."""
    world = PublicLog(policy=SHORT)
    for version in range(6):
        world.publish(version)
    archive(world, Folder(tmp_path))
    assert check(world, tmp_path).findings == []
    (tmp_path / TASK / "1" / "weights.bin").write_bytes(b"")
    assert [(each.kind, each.is_fault) for each in check(world, tmp_path).findings] == [
        ("left over", False),
        ("differs", True),
    ]


def test_one_task_is_checked_alone(world: PublicLog, tmp_path: Path) -> None:
    """What stands beside it is another's."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    assert check(world, tmp_path, task=TASK).findings == []
    assert [each.file for each in check(world, tmp_path).findings] == ["other/x"]
