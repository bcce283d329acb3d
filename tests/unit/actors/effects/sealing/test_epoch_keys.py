"""Keys of epochs are files: whole or not there, one a name whoever makes it, readable by their owner alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys, EpochKeysUnusable
from schemas.sealing.envelopes import SECRET_BYTES
from tests.worlds.builders import task_created

CREATED = task_created()


def test_a_key_is_its_owners_alone_and_another_each_time(tmp_path: Path) -> None:
    """Nobody else on the machine may read it, and no two epochs, tasks or deployments share one."""
    folder = tmp_path / "a" / "keys"
    keys, others = EpochKeys(folder), [task_created(task="other"), task_created(deployment=bytes(16))]
    made = [keys.make(created, epoch).public_key for created in (CREATED, *others) for epoch in (0, 1)]
    assert len({*made}) == 6
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert {file.stat().st_size for file in folder.glob("*.key")} == {SECRET_BYTES}


def test_of_two_that_make_one_key_both_go_by_the_same(tmp_path: Path) -> None:
    """A zombie and its successor may both be at it: the file that is there first is the key."""
    with ThreadPoolExecutor(8) as threads:
        made = [*threads.map(lambda _: EpochKeys(tmp_path / "keys").make(CREATED, 0).public_key, range(32))]
    assert len({*made}) == 1
    assert len([*(tmp_path / "keys").glob("*.key*")]) == 1


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_death_while_a_key_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Half a key has no name: the next life makes one, and what was left of the first goes with it at the latest."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    keys = EpochKeys(tmp_path / "keys")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, die)
        # A process that is killed tidies nothing up.
        patched.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            keys.make(CREATED, 0)
    assert keys.find(CREATED, 0) is None
    assert keys.make(CREATED, 0)
    keys.destroy(CREATED, 0)
    assert not [*(tmp_path / "keys").glob("*.key*")]


def test_a_key_that_is_destroyed_is_gone_from_memory_too(tmp_path: Path) -> None:
    """Whoever destroys it cannot open with it any more, and to destroy it again changes nothing."""
    keys = EpochKeys(tmp_path / "keys")
    keys.make(CREATED, 0)
    for _ in range(2):
        keys.destroy(CREATED, 0)
        assert keys.find(CREATED, 0) is None
    with pytest.raises(EpochKeyMissing, match="epoch 0 of task 'digits'"):
        keys.require(CREATED, 0)


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """A key that others could read may have been copied."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    with pytest.raises(EpochKeysUnusable, match="chmod 700"):
        EpochKeys(folder).make(CREATED, 0)
    with pytest.raises(EpochKeysUnusable, match="--epoch-keys"):
        EpochKeys(None).make(CREATED, 0)


def test_a_file_that_is_no_key_is_named_and_not_quoted(tmp_path: Path) -> None:
    """Nothing of what is in such a file may reach a log."""
    keys = EpochKeys(tmp_path / "keys")
    keys.make(CREATED, 0)
    [file] = (tmp_path / "keys").glob("*.key")
    file.write_bytes(b"half a key")
    with pytest.raises(EpochKeysUnusable, match=file.name) as caught:
        EpochKeys(tmp_path / "keys").find(CREATED, 0)
    assert "half" not in str(caught.value)


def test_without_a_folder_nothing_is_found(tmp_path: Path) -> None:
    """An auditor without keys checks the rest; to look for one makes no folder."""
    assert EpochKeys(None).find(CREATED, 0) is None
    assert EpochKeys(tmp_path / "none").find(CREATED, 0) is None
    EpochKeys(tmp_path / "none").destroy(CREATED, 0)
    assert not (tmp_path / "none").exists()


def test_a_folder_knows_what_was_made_in_it(tmp_path: Path) -> None:
    """Guarantee: a key that has gone from its folder is told from one that never was in it, which is called by name."""
    keys = EpochKeys(tmp_path / "keys")
    for epoch in (0, 1):
        keys.make(CREATED, epoch)
    keys.destroy(CREATED, 0)
    EpochKeys(tmp_path / "keys").require_home(CREATED, 0)
    strangers = [(keys, CREATED, 2), (keys, task_created(task="other"), 0)]
    strangers += [(EpochKeys(folder), CREATED, 0) for folder in (tmp_path / "elsewhere", None)]
    for folder, created, epoch in strangers:
        with pytest.raises(EpochKeysUnusable, match="--epoch-keys"):
            folder.require_home(created, epoch)
    assert not (tmp_path / "elsewhere").exists()
    # As the message says, where its folder is gone for good.
    [newest] = (tmp_path / "keys").glob("*.newest")
    newest.write_text("2")
    keys.require_home(CREATED, 2)


def test_of_two_that_make_keys_the_newer_one_is_noted(tmp_path: Path) -> None:
    """A zombie that is behind takes nothing back, whichever of them comes first."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda epoch: EpochKeys(tmp_path / "keys").make(CREATED, epoch), [3, 0, 7, 1, 6, 2, 5, 4] * 4))
    EpochKeys(tmp_path / "keys").require_home(CREATED, 7)
    with pytest.raises(EpochKeysUnusable):
        EpochKeys(tmp_path / "keys").require_home(CREATED, 8)
