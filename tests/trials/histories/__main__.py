"""Records the story as the code of today tells it: `python -m tests.trials.histories NAME`, once for each release.

A history is never recorded anew under its name: it is what that release wrote, for ever.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.trials.histories.history import FOLDER, record


def main() -> int:
    """Write tests/trials/histories/NAME.tar."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.histories")
    parser.add_argument("name", help="the release, 0.4.0 for instance")
    path = FOLDER / f"{parser.parse_args().name}.tar"
    if path.exists():
        sys.stderr.write(f"{path.name} exists, and a history is never edited; choose another name\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="fedlog-history-") as folder:
        record(path, Path(folder))
    sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
