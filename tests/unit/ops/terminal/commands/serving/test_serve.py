"""What `fedlog serve` may do beside answering, where it was told that it may."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.terminal.commands.serving.serve import _kill_aggregator, require_tls
from ops.terminal.errors import ConsoleError
from ops.web.serving import Tls


def test_other_machines_are_not_served_in_clear_text(tmp_path: Path) -> None:
    """A token that travels in clear text is anybody's: only this machine, TLS, or a proxy that somebody names."""
    tls = Tls(certificate=tmp_path / "a", key=tmp_path / "b")
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(ConsoleError, match="--tls-certificate FILE"):
            require_tls(None, host, behind_proxy=False)
        require_tls(tls, host, behind_proxy=False)
        require_tls(None, host, behind_proxy=True)
    require_tls(None, "127.0.0.1", behind_proxy=False)


def test_the_demos_button_kills_the_aggregator_of_its_folder(tmp_path: Path) -> None:
    """By SIGKILL, the worker and no other; where none runs it says so."""
    (tmp_path / "run").mkdir()
    assert _kill_aggregator(tmp_path) == "No aggregator runs here at the moment."
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    worker, bystander = subprocess.Popen(sleep), subprocess.Popen(sleep)
    try:
        for actor, child in (("aggregator", worker), ("selector", bystander)):
            told = {"supervisor": 1, "child": child.pid}
            (tmp_path / "run" / f"{actor}-1.json").write_text(json.dumps(told))
        assert str(worker.pid) in _kill_aggregator(tmp_path)
        assert worker.wait(60) == -signal.SIGKILL
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
