"""A helper's folder: its key is its owner's alone, its journal whole or not at all, and one process has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.hosts.helper.store import HelperStore, HelperStoreUnusable, create_store, read_public_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A helper's folder."""
    create_store(tmp_path / "helper")
    return tmp_path / "helper"


def _reopen(folder: Path) -> list[bytes]:
    store = HelperStore(folder)
    said = [*store.said]
    store.close()
    return said


def test_what_was_kept_is_there_again(folder: Path) -> None:
    """In the order in which it was said."""
    store = HelperStore(folder)
    for number in range(3):
        store.keep(bytes([number]) * (number + 1))
    store.close()
    assert _reopen(folder) == [b"\0", b"\1\1", b"\2\2\2"]


def test_a_journal_has_its_name_before_anything_is_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: whatever the power takes, a helper knows what it has said: also the folder is on the disk by then."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    store = HelperStore(folder)
    assert (folder / "said.log").exists()
    assert synced == [folder.stat().st_ino]
    store.keep(b"a word")
    assert synced[1:] == [(folder / "said.log").stat().st_ino]
    store.close()


@pytest.mark.parametrize("left", range(1, 8))
def test_a_death_leaves_whole_words_alone(folder: Path, left: int) -> None:
    """Wherever a write has ended: a torn statement was never said, and what follows stands on what is whole."""
    store = HelperStore(folder)
    store.keep(b"whole")
    store.close()
    with (folder / "said.log").open("ab") as file:
        file.write((4).to_bytes(4, "little") + b"torn"[: max(0, left - 4)] if left >= 4 else b"\4\0\0\0"[:left])
    store = HelperStore(folder)
    assert store.said == [b"whole"]
    store.keep(b"next")
    store.close()
    assert _reopen(folder) == [b"whole", b"next"]


def test_two_processes_never_are_one_helper(folder: Path) -> None:
    """The second is told so; once the first has ended it may go on."""
    store = HelperStore(folder)
    with pytest.raises(HelperStoreUnusable, match="another process"):
        HelperStore(folder)
    store.close()
    HelperStore(folder).close()


def test_a_key_is_never_replaced_and_never_shared(folder: Path) -> None:
    """Another key would be another helper; one that others may read is not used."""
    public_key = read_public_key(folder)
    with pytest.raises(HelperStoreUnusable, match="never replaced"):
        create_store(folder)
    assert read_public_key(folder) == public_key
    assert (folder / "helper.key").stat().st_mode & 0o777 == 0o600
    (folder / "helper.key").chmod(0o640)
    with pytest.raises(HelperStoreUnusable, match="chmod 600"):
        HelperStore(folder)


def test_nothing_of_a_key_is_in_an_error(folder: Path) -> None:
    """A file that holds something else is named, and not quoted."""
    (folder / "helper.key").write_text("secret")
    with pytest.raises(HelperStoreUnusable, match="64 hex digits") as raised:
        HelperStore(folder)
    assert "secret" not in str(raised.value)
    with pytest.raises(HelperStoreUnusable, match="fedlog helper init"):
        HelperStore(folder / "elsewhere")


def test_a_folder_that_is_behind_stays_so(folder: Path) -> None:
    """The mark outlives the process."""
    store = HelperStore(folder)
    assert not store.is_behind
    store.mark_behind()
    store.close()
    store = HelperStore(folder)
    assert store.is_behind
    store.close()
