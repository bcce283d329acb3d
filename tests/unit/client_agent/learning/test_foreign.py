"""Calls of a user's code: whatever it does, what comes back is its result or one kind of error with its place."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from client_agent.learning.foreign import LearnerError, call, describe
from schemas.errors import FedlogError
from tests.root import ROOT


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [KeyError("logits"), SystemExit("no licence"), SyntaxError("x"), GeneratorExit()])
def test_whatever_it_raises_is_one_error(error: BaseException) -> None:
    """Guarantee: the message begins with what was called, and has the type, the text and the line."""
    with pytest.raises(LearnerError, match=r"^model 'm:f': .*test_foreign\.py:\d+") as caught:
        call("model 'm:f'", _raise, error)
    assert caught.value.__cause__ is error


def test_our_own_errors_and_interrupts_pass() -> None:
    """Guarantee: what fedlog says itself keeps its words, and Ctrl-C ends what it always ends."""
    for error in (FedlogError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            call("x", _raise, error)


def test_what_it_prints_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: standard output stays free for what programs read."""
    call("x", print, "epoch 1")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "epoch 1\n")


def test_a_fork_that_returns_ends() -> None:
    """Guarantee: a child that comes back from user code is no second device; the parent goes on."""
    # In a process of its own: a child that lived on would run the other tests a second time.
    script = (
        "import os; from client_agent.learning.foreign import call; call('x', os.fork); print('goes on', flush=True)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "goes on\n"


def test_the_place_is_the_user_s() -> None:
    """Guarantee: of a traceback through a library the user's own line is named, and a long text is cut."""
    with pytest.raises(LearnerError, match=r"\(.*test_foreign\.py:\d+\)$"):
        call("x", lambda: json.loads("{"))
    assert len(describe(ValueError("x" * 10_000))) < 1_000
