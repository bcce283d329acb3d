"""Trainings that do not end by themselves: each kind is ended, and no lease is tried for ever."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_agent.learning.foreign import call
from client_agent.learning.trainer import Trained
from client_agent.running import watch as watch_module
from client_agent.running.watch import Deadline, TookTooLong, Watch, _inject, until_lease_ends, until_loaded

DONE = Trained(delta=np.zeros(1, np.float32))


def under(lease: str, left_s: float) -> Deadline:
    """The time of a training under a lease."""
    return until_lease_ends("phone", lease=lease, left_s=left_s)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch without patience, on a file of its own."""
    monkeypatch.setattr(watch_module, "GRACE_S", 0.1)
    monkeypatch.setattr(watch_module, "QUIET_S", 0.2)
    # What would end the process fails the test.
    main = threading.get_ident()
    return Watch(tmp_path / "training", end_process=lambda *_: _inject(main, pytest.fail.Exception))


def _loop() -> Trained:
    while True:
        pass


def _loop_on() -> Trained:
    """A retry loop as people write it."""
    while True:
        try:
            time.sleep(0.01)
        except Exception as error:  # noqa: BLE001
            del error


@pytest.mark.parametrize("hang", [_loop, _loop_on])
@pytest.mark.parametrize("is_foreign", [False, True])
def test_an_endless_loop_ends_with_its_lease(
    hang: Callable[[], Trained], watch: Watch, tmp_path: Path, *, is_foreign: bool
) -> None:
    """The lease is given up with the advice and the line; the next training is as ever."""
    function = (lambda: call("training", hang)) if is_foreign else hang
    place = r" \(.*test_watch\.py:\d+\)$"
    with pytest.raises(TookTooLong, match=rf"training: .*it did not end with its lease.*lease_s{place}"):
        watch.watch(function, under("a", 0.0))
    assert watch.watch(lambda: DONE, under("b", 60.0)) is DONE
    assert (tmp_path / "training").read_bytes() == b""
    assert watch.count().waiting_for == ""


def test_a_long_training_is_told(watch: Watch) -> None:
    """Whoever waits reads what for; and a training within its lease is never disturbed."""
    told = []

    def train() -> Trained:
        time.sleep(0.3)
        told.append(watch.count().waiting_for)
        return DONE

    assert watch.watch(train, under("ab12", 60.0)) is DONE
    assert [re.fullmatch(r"phone, training for \d+ s", line) is not None for line in told] == [True]


SCRIPT = """
import os, re, sys, time
from pathlib import Path
from client_agent.running import watch
watch.GRACE_S, watch.STUCK_S, watch.LAST_S = 0.1, 0.3, 1.0
def sleeps(): time.sleep(600)
def holds_the_interpreter(): re.match("(a+)+$", "a" * 200 + "b")
def catches_all():
    while True:
        try: time.sleep(0.01)
        except BaseException: pass
def exits(): os._exit(0)
deadline = watch.until_lease_ends("phone", lease=sys.argv[3], left_s=0.0)
watch.Watch(Path(sys.argv[1])).watch(globals()[sys.argv[2]], deadline)
"""


def run(script: Path, file: Path, hang: str, lease: str = "a") -> int:
    script.write_text(SCRIPT)
    return subprocess.run([sys.executable, script, file, hang, lease], check=False, timeout=60).returncode


@pytest.mark.parametrize(("hang", "line"), [("sleeps", 6), ("holds_the_interpreter", 7), ("catches_all", 10)])
def test_what_hears_no_exception_ends_with_its_process(hang: str, line: int, tmp_path: Path) -> None:
    """The next process knows lease and line, counts it, and does not train under that lease, but under others."""
    file, script = tmp_path / "training", tmp_path / "hangs.py"
    assert run(script, file, hang) == 1
    again = Watch(file)
    [(reason, count)] = again.count().reasons.items()
    assert (again.count().given_up, count) == (1, 1)
    if hang == "holds_the_interpreter":
        assert "its process was ended (" in reason
    else:
        assert f"(.../hangs.py:{line})".replace("...", str(tmp_path)) in reason
    with pytest.raises(TookTooLong, match="did not end with its lease"):
        again.watch(lambda: DONE, under("a", 60.0))
    assert again.watch(lambda: DONE, under("b", 60.0)) is DONE


def test_a_process_that_ends_is_tried_once_more(tmp_path: Path) -> None:
    """A kill can come at any time, and the lease is still good; code that ends its process each time is given up."""
    file, script = tmp_path / "training", tmp_path / "ends.py"
    assert run(script, file, "exits") == 0
    assert Watch(file).count().given_up == 0
    assert run(script, file, "exits") == 0
    again = Watch(file)
    with pytest.raises(TookTooLong, match="ended 2 times while training"):
        again.watch(lambda: DONE, under("a", 60.0))


def test_what_ended_a_process_stays_lost(tmp_path: Path) -> None:
    """Where one device after another hangs, each ends its process once, and the first is not tried again."""
    file, script = tmp_path / "loading", tmp_path / "hangs.py"
    assert [run(script, file, "sleeps", lease) for lease in ("a", "b")] == [1, 1]
    again = Watch(file)
    assert again.watch(lambda: DONE, under("c", 60.0)) is DONE
    for lease in ("a", "b"):
        with pytest.raises(TookTooLong, match="did not end with its lease"):
            again.watch(lambda: DONE, under(lease, 5.0))


def test_whoever_has_no_file_is_told_what_hangs() -> None:
    """The place and the line reach whoever decides how the process ends; a dump of it needs no file."""
    told: list[tuple[str, str]] = []
    ended = threading.Event()

    def note(place: str, reason: str) -> None:
        told.append((place, reason))
        ended.set()

    watch = Watch(None, end_process=note)
    deadline = replace(until_loaded("phone", code="mine:data", limit_s=600), limit_s=-watch_module.STUCK_S)
    assert watch.watch(lambda: ended.wait(60), deadline)
    watch.close()
    assert told[0][0] == "data of phone"
    assert re.fullmatch(r"loading data with 'mine:data' did not end within 600 s.*\.py:\d+\)\. .*--load-s", told[0][1])
