"""What the chart has to know of the code: actors, topics with their settings, principals with rights and quotas.

Helm reads no Python, so that this is written into the chart by `make helm`, and a test compares.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from actors.wiring import ROLES
from ops.doors.rights import RIGHTS, Quota, list_grants
from schemas.topics import CATALOGUE
from streams.kafka.access import Grant
from tests.root import ROOT

CHART = ROOT / "ops" / "helm" / "fedlog"
RENDERED = ROOT / "ops" / "helm" / "rendered"
# Values file -> rendered manifests.
CASES = ("one-node", "three-zones", "existing-kafka")
# A public key that nobody has the other half of.
OPERATOR = "00" * 32
_KINDS = {"TOPIC": "topic", "GROUP": "group", "TRANSACTIONAL_ID": "transactionalId", "CLUSTER": "cluster"}
_OPERATIONS = {
    "READ": "Read",
    "WRITE": "Write",
    "DELETE": "Delete",
    "DESCRIBE": "Describe",
    "DESCRIBE_CONFIGS": "DescribeConfigs",
}


def make_files() -> dict[str, str]:
    """The files of the chart that follow from the code, by their path in it."""
    catalogue = {
        "roles": list(ROLES),
        "topics": [{"name": topic.name, "config": topic.config} for topic in CATALOGUE],
        "users": [_make_user(principal) for principal in RIGHTS],
    }
    head = "# Written by `make helm` from actors.wiring, schemas.topics and ops.doors.rights.\n"
    return {
        "files/catalogue.yaml": head + yaml.safe_dump(catalogue, sort_keys=False, width=120),
        "files/alerts.yml": (ROOT / "ops" / "alerts.yml").read_text(),
    }


def compute_digest(case: str) -> str:
    """Of all that makes the manifests of a case; whoever changes the chart has to render it again."""
    told = hashlib.sha256()
    values = CHART / f"values-{case}.yaml"
    for path in sorted([*list_sources(), values]):
        told.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return told.hexdigest()


def list_sources() -> list[Path]:
    """Every file of the chart but the values of cases."""
    return [path for path in CHART.rglob("*") if path.is_file() and not path.name.startswith("values-")]


def _make_user(principal: str) -> dict[str, Any]:
    found: defaultdict[tuple[str, str, bool], list[str]] = defaultdict(list)
    # Without a prefix, which the chart puts before: a deployment may have its own.
    for grant in list_grants(principal, prefix=""):
        found[(grant.kind, grant.name, grant.is_prefix)].append(_OPERATIONS[grant.operation])
    acls = [
        _make_rule(Grant(principal, *key[:2], "", is_prefix=key[2]), operations=names) for key, names in found.items()
    ]
    return {"name": principal, "acls": acls, "quotas": _make_quotas(RIGHTS[principal].quota)}


def _make_rule(about: Grant, *, operations: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {"type": _KINDS[about.kind]}
    if about.kind != "CLUSTER":
        rule |= {"name": about.name, "patternType": "prefix" if about.is_prefix else "literal"}
    return rule | {"operations": operations}


def _make_quotas(quota: Quota) -> dict[str, int]:
    given = {
        "producerByteRate": quota.produce_bytes_s,
        "consumerByteRate": quota.fetch_bytes_s,
        "requestPercentage": quota.request_percent,
    }
    return {name: round(value) for name, value in given.items() if value is not None}
