"""The embedded broker's head start: all of it or nothing, once for all who ask, and only for what it was made from."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest

from ops.processes.head_start import HeadStart, HeadStartFailed, assemble


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """A file that stands for Java's program, beside which there are jars."""
    (tmp_path / "env" / "jars").mkdir(parents=True)
    (tmp_path / "env" / "jars" / "kafka.jar").write_bytes(b"jar")
    (tmp_path / "java").write_bytes(b"java")
    return tmp_path / "java"


def find(java: Path, *flags: str) -> HeadStart:
    """The head start of this Java with the jars beside it."""
    return HeadStart.find(java, [java.parent / "env" / "jars" / "kafka.jar"], flags=flags)


def fill(head: HeadStart) -> bool:
    """Make it; whether it was not there."""
    with head.make() as new:
        if new is None:
            return False
        assert not head.is_made
        for path in (head.classes, head.checkpoint):
            (new / path.name).write_bytes(b"made")
    return True


def test_it_is_of_what_it_was_made_from(java: Path) -> None:
    """Guarantee: another jar, another Java or other flags have another one, and the old one goes when that is made."""
    head = find(java)
    assert head.flags == []
    fill(head)
    assert head.flags[0] == f"-XX:AOTCache={head.classes}"
    assert find(java) == head
    assert find(java, "-Xmx1g") != head
    (java.parent / "env" / "jars" / "kafka.jar").write_bytes(b"another")
    newer = find(java)
    assert newer != head
    assert not newer.is_made
    fill(newer)
    assert not head.is_made
    assert {path.name for path in newer.folder.parent.iterdir() if path.is_dir()} == {"jars", newer.folder.name}
    assert stat.S_IMODE(newer.folder.stat().st_mode) == 0o700


def test_one_that_fails_or_is_killed_leaves_nothing_that_counts(java: Path) -> None:
    """Guarantee: a start never finds half of one, and what a kill has left goes with the next."""
    head = find(java)
    making = contextlib.ExitStack()
    new = making.enter_context(head.make())
    assert new is not None
    (new / head.classes.name).write_bytes(b"half")
    assert not making.__exit__(RuntimeError, RuntimeError(), None)
    assert not head.is_made
    killed = head.folder.parent / "fedlog-new-killed"
    killed.mkdir()
    fill(head)
    assert not killed.exists()


def test_of_two_at_once_one_makes_it(java: Path) -> None:
    """Guarantee: two who set up at the same time do it once, and neither sees the other's half."""
    head, made = find(java), []
    threads = [threading.Thread(target=lambda: made.append(fill(head))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]


def test_what_cannot_be_made_is_said(java: Path, tmp_path: Path) -> None:
    """Guarantee: no folder for it, and a Java that cannot make it, are told in its words."""
    with pytest.raises(HeadStartFailed, match="cannot be written: No such file"):
        fill(HeadStart(tmp_path / "nowhere" / "fedlog-1"))
    words = ["sh", "-c", "echo no such flag >&2; exit 1", "-cp", os.devnull]
    with pytest.raises(HeadStartFailed, match="could not make its cache of classes:\nno such flag"):
        assemble(words, tmp_path / "record", into=tmp_path / "classes")
