"""The embedded broker's state file: it names a process only for as long as that very process lives."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ops.broker_state import STATE_FILE, BrokerHandle, find_running, read_state, write_state


@pytest.fixture
def handle() -> BrokerHandle:
    """The process of the test, as if it were a broker."""
    return BrokerHandle(pid=os.getpid(), started_at=psutil.Process().create_time(), port=4711, controller_port=4712)


def test_a_running_broker_is_found(tmp_path: Path, handle: BrokerHandle) -> None:
    """What was written is read back while the process lives."""
    write_state(tmp_path, handle)
    assert find_running(tmp_path) == handle
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o077 == 0
    assert handle.bootstrap_servers == "127.0.0.1:4711"


def test_a_recycled_pid_is_another_process(tmp_path: Path, handle: BrokerHandle) -> None:
    """The ports of a broker that has ended are remembered, but it does not run."""
    write_state(tmp_path, replace(handle, started_at=handle.started_at - 60))
    assert find_running(tmp_path) is None
    assert read_state(tmp_path) is not None


@pytest.mark.parametrize("text", [None, "", "not json", '{"pid": 1, "unknown": 2}'])
def test_a_file_that_cannot_be_read_names_no_broker(tmp_path: Path, text: str | None) -> None:
    """A missing, half-written or foreign file is no reason to fail."""
    if text is not None:
        (tmp_path / STATE_FILE).write_text(text)
    assert read_state(tmp_path) is None
    assert find_running(tmp_path) is None
