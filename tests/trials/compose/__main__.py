"""`make compose`: loads docker-compose.yml by the loader of Docker's compose itself, which Go builds, for each profile.

It holds the file against the specification, and says which services a profile brings. Adds to docs/results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from tests.root import ROOT
from tests.trials.results import add_row

MODULE, VERSION = "github.com/compose-spec/compose-go/v2", "v2.16.2"
FOLDER = ROOT / "build" / "compose"
FILE = ROOT / "docker-compose.yml"
NONE = "none"


def main() -> int:
    """Load it without a profile, and with each; 1 where one cannot be."""
    program = find_program()
    profiles = sorted(set(re.findall(r"[\w-]+", " ".join(re.findall(r"profiles: \[(.*)\]", FILE.read_text())))))
    found = {profile: load(program, profile) for profile in (NONE, *profiles)}
    services = {profile: sorted(model["services"]) for profile, model in found.items() if model}
    add_row(
        "compose", {"loader": VERSION, "failed": [name for name in found if name not in services], "services": services}
    )
    for profile, names in services.items():
        print(f"{profile}: {len(names)}: {' '.join(names)}")  # noqa: T201
    return 0 if len(services) == len(found) else 1


def find_program() -> str:
    """The loader; built once into build/compose. Exits where Go is missing."""
    built = FOLDER / "load"
    if not built.exists():
        if shutil.which("go") is None:
            sys.exit("Go is missing, which builds the loader.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / "trials" / "compose" / "load.go", FOLDER / "load.go")
        (FOLDER / "go.mod").write_text("module fedlog/compose\n\ngo 1.24\n")
        for words in (["get", f"{MODULE}@{VERSION}"], ["mod", "tidy"], ["build", "-o", str(built), "."]):
            subprocess.run(["go", *words], cwd=FOLDER, check=True)
    return str(built)


def load(program: str, profile: str) -> dict[str, Any] | None:
    """The file as compose takes it, with every variable that must be set; None, and why, where it does not."""
    must = dict.fromkeys(re.findall(r"\$\{(\w+):\?", FILE.read_text()), "00" * 32)
    told = subprocess.run(
        [program, str(FILE), profile], env={**os.environ, **must}, capture_output=True, text=True, check=False
    )
    if told.returncode:
        print(f"{profile}: {told.stderr.strip()}")  # noqa: T201
        return None
    found: dict[str, Any] = json.loads(told.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
