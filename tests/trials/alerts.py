"""`make alerts`: promtool checks the rules and runs their tests; without promtool on the PATH Go builds one.

Prometheus' module excludes others, so that `go install` refuses it; a module of our own that asks for it may build it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.root import ROOT

MODULE, VERSION = "github.com/prometheus/prometheus", "v0.307.3"
FOLDER = ROOT / "build" / "promtool"


def find_promtool() -> str:
    """The program; built once into build/promtool. Exits where neither it nor Go is there."""
    if (found := shutil.which("promtool")) is not None:
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


def main() -> None:
    """Exit with promtool's code where anything fails."""
    promtool = find_promtool()
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        ended = subprocess.run([promtool, *words], cwd=ROOT / "ops", check=False)
        if ended.returncode:
            sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
