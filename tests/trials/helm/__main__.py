"""`make helm`: renders the chart with real helm, and validates what comes of it with kubeconform.

Kubernetes' schemas are those of the package kubernetes-validate. For resources of Strimzi and of Prometheus' operator
CRDS=FOLDER names a folder with their definitions, as their releases have them; without, these are only counted. Both
programs are built by Go where they are not on the PATH. Adds to docs/results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.root import ROOT
from tests.trials.helm.catalogue import CASES, CHART, OPERATOR, RENDERED, compute_digest, make_files
from tests.trials.helm.schemas import KUBERNETES, write_schemas
from tests.trials.results import add_row

PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
}
FOLDER = ROOT / "build" / "helm"


def main() -> int:
    """Write what follows from the code, render, lint, validate; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crds", type=Path, help="folder with definitions of custom resources, YAML")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, and write nothing")
    asked = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    programs = {name: find_program(name) for name in PROGRAMS}
    stale = write(CHART, make_files(), is_check=asked.check)
    for case in CASES:
        head = f"# Rendered by `make helm`.\n# sha256 of the chart: {compute_digest(case)}\n"
        text = head + render(programs["helm"], case)
        stale += write(RENDERED, {f"{case}.yaml": text}, is_check=asked.check)
    lints = [subprocess.run([*command(programs["helm"], "lint", case), "--quiet"], check=False) for case in CASES]
    manifests = [each for case in CASES for each in read_manifests(case)]
    missing = write_schemas(FOLDER / "schemas", manifests, crds=asked.crds)
    summary = validate(programs["kubeconform"], missing)
    row = {
        "kubernetes": KUBERNETES,
        "cases": len(CASES),
        **summary,
        "without_schema": sorted(missing),
        "kinds": dict(sorted(Counter(each["kind"] for each in manifests).items())),
        "lint": max(each.returncode for each in lints),
        "stale": stale,
    }
    add_row("helm", row)
    print(json.dumps(row))  # noqa: T201
    return 1 if summary["invalid"] or summary["errors"] or row["lint"] or (asked.check and stale) else 0


def find_program(name: str) -> str:
    """The program; built once into build/helm. Exits where neither it nor Go is there."""
    if (found := shutil.which(name)) is not None:
        return found
    if not (built := FOLDER / name).exists():
        if shutil.which("go") is None:
            sys.exit(f"{name} is missing: put it on the PATH, or install Go to build it with.")
        subprocess.run(["go", "install", PROGRAMS[name]], env={**os.environ, "GOBIN": str(FOLDER)}, check=True)
    return str(built)


def write(place: Path, files: dict[str, str], *, is_check: bool) -> list[str]:
    """Those that differ, written unless that is only checked."""
    differing = {name: text for name, text in files.items() if read(place / name) != text}
    for name, text in {} if is_check else differing.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return sorted(differing)


def read(path: Path) -> str:
    """What is there, or nothing."""
    return path.read_text() if path.exists() else ""


def command(helm: str, verb: str, case: str) -> list[str]:
    """Helm on the values of a case; what a person must set is set."""
    name = ["fedlog"] if verb == "template" else []
    told = ["--values", str(CHART / f"values-{case}.yaml"), "--set", f"operatorPublicKey={OPERATOR}"]
    return [helm, verb, *name, str(CHART), *told]


def render(helm: str, case: str) -> str:
    """The manifests of a case, in helm's order."""
    words = [*command(helm, "template", case), "--namespace", "fedlog", "--kube-version", KUBERNETES]
    text = subprocess.run(words, capture_output=True, text=True, check=False)
    if text.returncode:
        sys.exit(text.stderr)
    lines = (line.rstrip() for line in text.stdout.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def read_manifests(case: str) -> list[dict[str, Any]]:
    """All objects of a case."""
    return [each for each in yaml.safe_load_all((RENDERED / f"{case}.yaml").read_text()) if each]


def validate(kubeconform: str, missing: set[str]) -> dict[str, int]:
    """What kubeconform says of all cases, strictly; a kind without a schema is skipped, and counted."""
    place = f"{FOLDER}/schemas/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json"
    words = [kubeconform, "-strict", "-summary", "-output", "json", "-schema-location", place]
    words += ["-skip", ",".join(sorted(missing))] if missing else []
    told = subprocess.run([*words, str(RENDERED)], capture_output=True, text=True, check=False)
    found = json.loads(told.stdout)
    for each in found.get("resources") or []:
        print(f"{each['filename']}: {each['kind']} {each['name']}: {each['status']}: {each['msg']}")  # noqa: T201
    return {name: int(found["summary"][name]) for name in ("valid", "invalid", "errors", "skipped")}


if __name__ == "__main__":
    sys.exit(main())
