"""Trainings that do not end by themselves: each kind is ended, and no lease is tried for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.trainer import Trained
from client_agent.running import watch as watch_module
from client_agent.running.watch import Watch, _inject

DONE = Trained(delta=np.zeros(1, np.float32))


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch without patience, on a file of its own."""
    monkeypatch.setattr(watch_module, "GRACE_S", 0.1)
    monkeypatch.setattr(watch_module, "QUIET_S", 0.2)
    # What would end the process fails the test.
    main = threading.get_ident()
    return Watch(tmp_path / "training", end_process=lambda _: _inject(main, pytest.fail.Exception))


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
    """The lease is given up with the advice, in the user's code with the line as well; the next training is as ever."""
    function = (lambda: call("training", hang)) if is_foreign else hang
    place = r" \(.*test_watch\.py:\d+\)$" if is_foreign else "$"
    with pytest.raises(LearnerError, match=rf"training: .*lease had ended before.*lease_s{place}"):
        watch.watch(function, "phone", lease="a", left_s=0.0)
    assert watch.watch(lambda: DONE, "phone", lease="b", left_s=5.0) is DONE
    assert (tmp_path / "training").read_bytes() == b""
    assert watch.count().waiting_for == ""


def test_a_long_training_is_told(watch: Watch) -> None:
    """Whoever waits reads what for; and a training within its lease is never disturbed."""
    told = []

    def train() -> Trained:
        time.sleep(0.3)
        told.append(watch.count().waiting_for)
        return DONE

    assert watch.watch(train, "phone", lease="ab12", left_s=5.0) is DONE
    assert told == ["phone, training under ab12 for 0 s"]


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
watch.Watch(Path(sys.argv[1])).watch(globals()[sys.argv[2]], "phone", lease="a", left_s=0.0)
"""


def run(script: Path, file: Path, hang: str) -> int:
    script.write_text(SCRIPT)
    return subprocess.run([sys.executable, script, file, hang], check=False, timeout=20).returncode


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
    with pytest.raises(LearnerError, match="did not end with its lease"):
        again.watch(lambda: DONE, "phone", lease="a", left_s=5.0)
    assert again.watch(lambda: DONE, "phone", lease="b", left_s=5.0) is DONE


def test_a_process_that_ends_is_tried_once_more(tmp_path: Path) -> None:
    """A kill can come at any time, and the lease is still good; code that ends its process each time is given up."""
    file, script = tmp_path / "training", tmp_path / "ends.py"
    assert run(script, file, "exits") == 0
    assert Watch(file).count().given_up == 0
    assert run(script, file, "exits") == 0
    again = Watch(file)
    with pytest.raises(LearnerError, match="ended 2 times while training"):
        again.watch(lambda: DONE, "phone", lease="a", left_s=5.0)
