"""Ends what a command has started, when the command cannot: its pipe closes however the command dies.

`ops.processes.services` starts one before anything else. It has no mark itself, and holds the lock of the folder until
all is ended, so that the next command does not begin amid the ruins of the last.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ops.processes.started import read_records

KEEP = b"keep"


def guard(folder: Path, mark: str) -> None:
    """Wait for the end of the command; then end what carries the mark, unless the command said to keep it."""
    # Whoever ends the session of the terminal ends the command, and that one first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while read := os.read(sys.stdin.fileno(), 64):
        said += read
    if KEEP in said:
        return
    for started in read_records(folder):
        if started.mark == mark:
            started.end(folder)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), sys.argv[2])
