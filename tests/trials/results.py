"""The accumulating results: one JSON line for each thing that was tried, kept in docs/results; no row is ever edited.

Every row of simulation and chaos counts as a try. Of the benches, mutants and recoveries the pages read the newest row
of a case: older ones are dropped from time to time.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.root import ROOT

FOLDER = ROOT / "docs" / "results"


def add_row(kind: str, row: dict[str, Any]) -> None:
    """Append a row to docs/results/<kind>.jsonl in one write, so that two processes may do it at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stamped = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), **row}
    line = json.dumps(stamped, separators=(", ", ": ")).encode() + b"\n"
    handle = os.open(FOLDER / f"{kind}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def rows(kind: str) -> list[dict[str, Any]]:
    """All rows of a kind, oldest first; none when nobody has measured it yet."""
    path = FOLDER / f"{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@cache
def commit() -> str:
    """The short hash of the commit that runs, with a plus when the source differs from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"
