"""A worker is a small process: what only devices need never reaches it, and it leaves nothing on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_workers_start_without_heavy_libraries() -> None:
    """Importing the workers' host in a fresh interpreter loads neither torch nor ray nor scikit-learn."""
    program = "import sys, actors.hosts.faust_app; print(*{'torch', 'ray', 'sklearn'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_a_start_leaves_no_folder_behind(tmp_path: Path) -> None:
    """Workers end by SIGKILL and start again for months: what each start left would add up."""
    program = f"""
import asyncio, os, tempfile
from pathlib import Path
from actors.hosts import faust_app
from actors.hosts.worker import WorkerOptions
from actors.wiring import ROLES
from streams.kafka.settings import KafkaSettings
os.chdir({str(tmp_path)!r})
tempfile.tempdir = {str(tmp_path)!r}
options = WorkerOptions(kafka=KafkaSettings(bootstrap_servers="localhost:1"), operator_key_file=Path("key"))
async def start():
    await faust_app.make_app(ROLES["aggregator"], options).on_first_start()
asyncio.run(start())
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert [*tmp_path.iterdir()] == []
