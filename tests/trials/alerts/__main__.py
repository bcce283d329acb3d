"""`make alerts`: promtool checks the rules and runs their tests; Debian's, or else Go builds one.

Prometheus' module excludes others, so that `go install` refuses it; a module of our own that asks for it may build it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.root import ROOT
from tests.trials.alerts.programs import find_program

MODULE, VERSION = "github.com/prometheus/prometheus", "v0.307.3"
FOLDER = ROOT / "build" / "promtool"


def find_promtool() -> str:
    """The program; built once into build/promtool. Exits where neither it nor Go is there."""
    if (found := find_program("promtool", package="prometheus")) is not None:
        return found
    built = FOLDER / "promtool"
    if not built.exists():
        if shutil.which("go") is None:
            sys.exit("promtool is missing: install Prometheus (apt install prometheus), or Go to build it with.")
        _build(built)
    return str(built)


def _build(target: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "go.mod").write_text("module fedlog/promtool\n\ngo 1.24\n")
    (FOLDER / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{MODULE}/cmd/promtool"\n')
    for words in (
        ["get", f"{MODULE}@{VERSION}"],
        ["mod", "tidy"],
        ["build", "-o", str(target), f"{MODULE}/cmd/promtool"],
    ):
        subprocess.run(["go", *words], cwd=FOLDER, check=True)


def write_queries(path: Path) -> None:
    """The queries of all dashboards as rules, so that promtool parses them; `$task` stands for any name."""
    boards = [json.loads(board.read_text()) for board in sorted((ROOT / "ops" / "dashboards").glob("*.json"))]
    queries = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))


def main() -> None:
    """Exit with promtool's code where anything fails."""
    promtool, queries = find_promtool(), FOLDER / "dashboards.json"
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_queries(queries)
    for words in (
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "rules", str(queries)],
    ):
        ended = subprocess.run([promtool, *words], cwd=ROOT / "ops", check=False)
        if ended.returncode:
            sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
