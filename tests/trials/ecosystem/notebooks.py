"""The notebooks of docs/examples, executed as a reader executes them; called by `__main__`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from tests.root import ROOT
from tests.trials.results import add_row

PATIENCE_S = 1_200.0


def try_all(only: str) -> Iterator[tuple[str, bool]]:
    """Execute each whose name holds `only`, add a row for it, and give its name and whether all its cells did well."""
    for path in sorted((ROOT / "docs" / "examples").glob("*.ipynb")):
        if only not in (name := f"notebook-{path.stem}"):
            continue
        begun_s = time.monotonic()
        # By the verb of the project, which makes the environment of Jupyter beside this one.
        done = subprocess.run(["make", "notebook", f"FILE={path}"], cwd=ROOT, timeout=PATIENCE_S, check=False)
        is_right = done.returncode == 0
        add_row("ecosystem", {"app": name, "right": is_right, "seconds": round(time.monotonic() - begun_s, 1)})
        yield name, is_right
