"""The places of an archive: a file is there whole or not at all, and each fault says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from obstore import exceptions
from obstore.store import MemoryStore

from ops.archive import folder as folders
from ops.archive.folder import Folder
from ops.archive.s3 import Bucket, open_bucket
from ops.archive.stores import Store, StoreAway, StoreFull, StoreRefused

NAME = "digits/4/config.json"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder, and the client of an object store over its own store in memory."""
    return Folder(tmp_path / "a" / "b") if request.param == "folder" else Bucket(MemoryStore(), address="memory")


def test_what_was_written_is_read(store: Store) -> None:
    """A later one takes the place of an earlier one, and nothing is where nothing was put."""
    assert store.read(NAME) is None
    for data in (b"one", b"", b"three" * 3_000_000):
        store.write(NAME, data)
        found = store.read(NAME)
        assert found is not None
        assert found.data == data
        assert list(store.list_sizes()) == [(NAME, len(data))]


def test_only_what_begins_so_is_listed(store: Store) -> None:
    """One task alone, and not another whose name begins alike."""
    for name in (NAME, "digits/frozen.bin", "digits-2/0/config.json"):
        store.write(name, b"x")
    assert {name for name, _ in store.list_sizes("digits/")} == {NAME, "digits/frozen.bin"}
    assert len(list(store.list_sizes())) == 3


def test_a_file_is_replaced_only_as_it_was_read(store: Store) -> None:
    """Whoever was quicker wins, and the other learns of it."""
    assert store.replace(NAME, b"one", over=None)
    assert not store.replace(NAME, b"other", over=None)
    seen = store.read(NAME)
    assert store.replace(NAME, b"two", over=seen)
    assert not store.replace(NAME, b"three", over=seen)
    found = store.read(NAME)
    assert found is not None
    assert found.data == b"two"


def test_a_file_is_taken_away_once(store: Store) -> None:
    """Two may take it away at once."""
    store.write(NAME, b"one")
    store.delete(NAME)
    store.delete(NAME)
    assert store.read(NAME) is None


def test_half_a_file_is_cleared_away(tmp_path: Path) -> None:
    """What a killed process had begun is no file, and does not stay."""
    store = Folder(tmp_path)
    store.write(NAME, b"one")
    half = tmp_path / f"{NAME}.new"
    half.write_bytes(b"tw")
    assert list(store.list_sizes()) == [(NAME, 3)]
    assert not half.exists()


def _fail(number: int) -> Callable[..., None]:
    def fail(path: Path, data: bytes, *, mode: int) -> None:
        del mode
        path.with_name(path.name + ".new").write_bytes(data[:1])
        raise OSError(number, os.strerror(number), str(path))

    return fail


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreRefused),
        (errno.EROFS, StoreRefused),
        (errno.EIO, StoreAway),
        (errno.ESTALE, StoreAway),
    ],
)
def test_a_fault_of_the_disk_is_told_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """Full, forbidden and away are three things to do; what was begun does not keep a full disk full."""
    store = Folder(tmp_path)
    store.write(NAME, b"one")
    monkeypatch.setattr(folders, "write_durably", _fail(number))
    with pytest.raises(kind) as told:
        store.write(NAME, b"two")
    assert type(told.value) is kind
    assert NAME in str(told.value)
    assert [path.name for path in (tmp_path / NAME).parent.iterdir()] == ["config.json"]
    assert (tmp_path / NAME).read_bytes() == b"one"


def test_a_lock_that_is_never_given_back_is_told(tmp_path: Path) -> None:
    """A process that was stopped in the midst keeps nobody waiting without a word."""
    store = Folder(tmp_path, locked_s=0.1)
    store.write(NAME, b"one")
    with (tmp_path / folders.LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreAway, match=r"another process has held \.lock"):
            store.write(NAME, b"two")
    store.write(NAME, b"two")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("404 Not Found <Code>NoSuchUpload</Code>", StoreAway),
        ("404 Not Found <Code>NoSuchBucket</Code>", StoreRefused),
        ("404 Not Found <Code>XAdminUserNotFound</Code>", StoreRefused),
        ("507 Insufficient Storage <Code>InsufficientStorage</Code>", StoreFull),
        ("503 Slow Down", StoreAway),
    ],
)
def test_what_a_server_says_is_told_by_its_kind(said: str, kind: type[Exception]) -> None:
    """Waiting helps against what a killed server forgot, and not against a bucket that is missing."""
    error = exceptions.NotFoundError(said) if said.startswith("404") else exceptions.GenericError(said)
    told = Bucket(MemoryStore(), address="s3://models")._explain(error)
    assert type(told) is kind
    assert "s3://models" in str(told)


def test_a_server_that_is_not_there_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the archive, and the error is one that is waited out."""
    with closing(socket.socket()) as taken:
        # Bound and not listening: whoever comes is turned away.
        taken.bind(("127.0.0.1", 0))
        _ask_in_vain(monkeypatch, port=taken.getsockname()[1])


def _ask_in_vain(monkeypatch: pytest.MonkeyPatch, *, port: int) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = open_bucket("s3://models/prod", endpoint=f"http://127.0.0.1:{port}", request_s=1)
    with pytest.raises(StoreAway, match="s3://models/prod"):
        bucket.read(NAME)
