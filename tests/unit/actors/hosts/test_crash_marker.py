"""The crash marker: what a worker was deciding is still there when the worker is not."""

from __future__ import annotations

import os
import signal

from actors.hosts.crash_marker import CrashMarker
from actors.runtime.guard import InputPlace

TOPICS = ("tasks", "updates")
PLACE = InputPlace("updates", 2**40, 7)


def test_an_input_is_taken_once() -> None:
    """A second worker that ends between two inputs must not be blamed on the first one's."""
    marker = CrashMarker.new(TOPICS)
    assert marker.take() is None
    marker.put(5, PLACE)
    assert (marker.take(), marker.take()) == ((5, PLACE), None)


def test_a_decided_input_is_forgotten() -> None:
    """Between two inputs nothing is in hand."""
    marker = CrashMarker.new(TOPICS)
    marker.put(5, PLACE)
    marker.put(5, None)
    assert marker.take() is None


def test_it_outlives_its_writer() -> None:
    """Whoever shares the file reads what a process wrote right before it was killed."""
    marker = CrashMarker.new(TOPICS)
    child = os.fork()
    if child == 0:
        CrashMarker(marker.descriptor, TOPICS).put(5, PLACE)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert marker.take() == (5, PLACE)
