"""Answers are known to whoever asks, without the database that gives them."""

from __future__ import annotations

import subprocess
import sys

from tests.root import ROOT


def test_who_asks_a_process_that_writes_loads_no_database() -> None:
    """Half of the time of a command would go into that; views of tasks out of such answers need none either."""
    code = (
        "import sys, ops.history.tables.serving, ops.history.tables.standing.views, ops.terminal.standing; "
        "sys.exit('duckdb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
