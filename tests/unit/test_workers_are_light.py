"""A worker is a small process: what only devices need never reaches it."""

from __future__ import annotations

import subprocess
import sys


def test_workers_start_without_heavy_libraries() -> None:
    """Importing the workers' host in a fresh interpreter loads neither torch nor ray nor scikit-learn."""
    program = "import sys, actors.faust_app; print(*{'torch', 'ray', 'sklearn'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
