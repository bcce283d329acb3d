"""Schemas for kubeconform, in a folder of their own: Kubernetes', whole in each file, and those of custom resources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "1.37.0"
PACKAGE = f"kubernetes-validate=={KUBERNETES}"
# As that package names the file in which all its schemas look things up.
_SHARED = "/api/_definitions.json#"


def write_schemas(folder: Path, manifests: Iterable[dict[str, Any]], *, crds: Path | None) -> set[str]:
    """A file for each kind of these manifests, `folder/KIND-VERSION.json` in small letters; the kinds without one."""
    known = {**_read_own(folder.parent / "kubernetes"), **_read_custom(crds)}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    missing = set()
    for kind, version in {(each["kind"], each["apiVersion"]) for each in manifests}:
        if (schema := known.get((kind.lower(), version.lower()))) is None:
            missing.add(kind)
        else:
            (folder / f"{kind.lower()}-{version.rpartition('/')[2]}.json").write_text(json.dumps(schema))
    return missing


def close(schema: Any) -> Any:
    """The same, with no field that it does not name: a misspelt one would be dropped by a cluster, in silence."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    found = {key: close(value) for key, value in schema.items()}
    is_open = found.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in found
    if found.get("type") == "object" and isinstance(found.get("properties"), dict) and not is_open:
        found["additionalProperties"] = False
    return found


def _read_own(package: Path) -> dict[tuple[str, str], Any]:
    if not package.exists():
        uv = Path(sys.executable).with_name("uv")
        words = [str(uv), "pip", "install", "--quiet", "--no-deps", "--target", str(package), PACKAGE]
        subprocess.run(words, check=True)
    place = package / "kubernetes_validate" / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    definitions = json.loads((place / "_definitions.json").read_text().replace(_SHARED, "#"))["$defs"]
    found = {}
    for name, definition in definitions.items():
        for about in definition.get("x-kubernetes-group-version-kind", []):
            version = "/".join(filter(None, (about["group"], about["version"])))
            found[about["kind"].lower(), version.lower()] = {"$ref": f"#/$defs/{name}", "$defs": definitions}
    return found


def _read_custom(crds: Path | None) -> dict[tuple[str, str], Any]:
    found = {}
    for path in sorted(crds.glob("*.yaml")) if crds else []:
        for definition in filter(None, yaml.safe_load_all(path.read_text())):
            told = definition["spec"]
            for version in told["versions"]:
                schema = close(version["schema"]["openAPIV3Schema"])
                # What every object has is not told in a definition.
                schema["properties"] |= {"metadata": {"type": "object"}}
                found[told["names"]["kind"].lower(), f"{told['group']}/{version['name']}"] = schema
    return found
