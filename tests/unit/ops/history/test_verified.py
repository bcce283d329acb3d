"""The note of the last verification comes back as it was left, and is never a reason to fail."""

from __future__ import annotations

from pathlib import Path

from ops.history import verified
from ops.history.verified import Reached, Verified


def test_the_newest_note_counts(tmp_path: Path) -> None:
    """A verification replaces what the one before it found."""
    assert verified.find(tmp_path) is None
    for end in (3, 8):
        reached = Reached(topic="rounds", partition=3, end=end, is_whole=True)
        left = Verified.make([reached], findings=0, knew_operator=True)
        verified.leave(tmp_path, left)
    assert verified.find(tmp_path) == left
    assert [path.name for path in tmp_path.iterdir()] == [verified.FILE]


def test_what_cannot_be_read_or_written_is_no_note(tmp_path: Path) -> None:
    """Half a file, a file of another release, and a folder that is not there leave none, and stop nobody."""
    for text in ("", '{"at_ms": 1', '{"at_ms": "yesterday"}'):
        (tmp_path / verified.FILE).write_text(text)
        assert verified.find(tmp_path) is None
    verified.leave(tmp_path / "nowhere", Verified.make([], findings=1, knew_operator=False))
    assert verified.find(tmp_path / "nowhere") is None
