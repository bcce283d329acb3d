"""Records of what was started, and its end: exactly that is ended which a record names, and the ending has an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from ops.processes.started import MARK, Started, find_records_folder, read_records

# Has dropped the mark, and starts what carries it again whenever that ends, for half a minute at most.
RESPAWNING = """
import os, subprocess, sys, time
until_s = time.monotonic() + 25
while time.monotonic() < until_s:
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, sys.argv[1]: sys.argv[2]})
    print("at work", flush=True)
    child.wait()
"""


@pytest.mark.parametrize(
    "changes",
    [{"mark": None}, {"mark": 7}, {"mark": ""}, {"pid": 0}, {"pid": -1}, {"pid": "1"}, {"task": None}],
    ids=str,
)
def test_a_record_that_cannot_be_ends_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    """Without a mark every process that has none would carry it, and a pid below one names whole groups."""
    Started(task="digits").write(tmp_path)
    (file,) = find_records_folder(tmp_path).iterdir()
    assert [started.mark for started in read_records(tmp_path)] == [file.stem]
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert [*read_records(tmp_path)] == []


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000], ids=range(5))
def test_a_damaged_record_ends_nothing(tmp_path: Path, data: bytes) -> None:
    """Nor does it keep the others from being ended."""
    Started(task="digits").write(tmp_path)
    (find_records_folder(tmp_path) / "a.json").write_bytes(data)
    assert [started.task for started in read_records(tmp_path)] == ["digits"]


def test_a_record_under_another_name_is_none(tmp_path: Path) -> None:
    """A copy would end twice what its first one names, and forget nothing."""
    (find_records_folder(tmp_path)).mkdir(parents=True)
    (find_records_folder(tmp_path) / "other.json").write_text(json.dumps(asdict(Started(task="digits"))))
    assert [*read_records(tmp_path)] == []


def test_what_starts_itself_anew_is_not_ended_for_ever(tmp_path: Path) -> None:
    """A learner's process may flee by starting another: whoever ends a run comes to an end, and can say so."""
    started = Started(task="digits")
    words = [sys.executable, "-c", RESPAWNING, MARK, started.mark]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"at work\n"
            started.write(tmp_path)
            assert started.end(tmp_path, timeout_s=1.0) > 1
            assert [*read_records(tmp_path)] == []
            # It goes on, and nobody waited until it did not.
            assert child.poll() is None
        finally:
            os.killpg(child.pid, signal.SIGKILL)
