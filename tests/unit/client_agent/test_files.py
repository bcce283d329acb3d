"""Files that are replaced often: whenever the process ends, what was written last is there, whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_agent.files import DamagedError, DoubleBufferedFile, FolderTooOpen, open_private_folder, overwrite

CONTENTS = st.lists(st.binary(max_size=200), min_size=1, max_size=8)


def copies(folder: Path) -> list[Path]:
    """Both files, the one written last first."""
    return sorted(folder.iterdir(), key=lambda path: int.from_bytes(path.read_bytes()[4:12], "little"), reverse=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=CONTENTS, at=st.floats(0, 1), flipped=st.booleans())
def test_torn_anywhere_it_is_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], at: float, flipped: bool
) -> None:
    """Guarantee: a write that stopped half-way, at any byte, leaves what was written before it, never anything else."""
    folder = tmp_path_factory.mktemp("double")
    file = DoubleBufferedFile(folder / "index", synced=False)
    for content in contents:
        file.write(content)
    newest = copies(folder)[0]
    framed = newest.read_bytes()
    where = int(at * (19 + len(contents[-1])))  # any byte of the header or the content
    torn = framed[:where] + bytes([framed[where] ^ 1]) + framed[where + 1 :] if flipped else framed[:where]
    newest.write_bytes(torn)
    if len(contents) == 1:
        with pytest.raises(DamagedError, match="index"):
            DoubleBufferedFile(folder / "index").read()
        return
    again = DoubleBufferedFile(folder / "index", synced=False)
    assert again.read() == contents[-2]
    again.write(b"next")
    assert DoubleBufferedFile(folder / "index").read() == b"next"


@given(contents=CONTENTS)
def test_the_last_one_counts(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    """Guarantee: what was written last is read, by whoever opens it anew between any two writes."""
    path = tmp_path_factory.mktemp("double") / "index"
    assert DoubleBufferedFile(path).read() is None
    for content in contents:
        file = DoubleBufferedFile(path, synced=False)
        file.read()
        file.write(content)
        assert DoubleBufferedFile(path).read() == content


def test_a_write_that_failed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: where the disk was full and a death tears the next write, what was written before both is there."""
    file = DoubleBufferedFile(tmp_path / "index", synced=False)
    file.write(b"one")
    file.write(b"two")

    def torn(path: Path, data: bytes, *, synced: bool) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("client_agent.files.overwrite", torn)
    for content in (b"three", b"four"):
        with pytest.raises(OSError, match="no space"):
            file.write(content)
        assert DoubleBufferedFile(tmp_path / "index").read() == b"two"


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o777])
def test_a_folder_that_is_too_open_is_closed(tmp_path: Path, mode: int) -> None:
    """Guarantee: whatever others could do with a device's folder ends when it is used; its content stays."""
    folder = tmp_path / "device"
    folder.mkdir()
    (folder / "data.npz").write_bytes(b"data")
    folder.chmod(mode)
    open_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "data.npz").read_bytes() == b"data"


def test_a_shared_folder_is_left_alone(tmp_path: Path) -> None:
    """Guarantee: a folder of everybody, as /tmp is, is refused with the way out, and stays open for all others."""
    tmp_path.chmod(0o1777)
    with pytest.raises(FolderTooOpen, match="a folder inside it"):
        open_private_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_new_folders_and_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    """Guarantee: with any umask nobody else enters a new folder, nor those above it that are new, or reads a file."""
    before = os.umask(0)
    try:
        open_private_folder(tmp_path / "new" / "device")
        overwrite(tmp_path / "slot", b"an update", synced=False)
        DoubleBufferedFile(tmp_path / "index", synced=False).write(b"a residual")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"new": 0o700, "device": 0o700, "slot": 0o600, "index.twin": 0o600}
