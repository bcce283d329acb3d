"""What is in the files of one version: pure functions of what the log says in public.

Equal facts give equal bytes, so that it does not matter who writes a file, when, or how often. Only one file has more
in it later: config.json, when scores of its version come in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.archive.naming import FROZEN_BESIDE
from ops.archive.reading import PublicTask
from ops.operator.model_files import WEIGHTS, describe_configuration
from schemas.canonical import to_plain
from schemas.events import RoundCharged, TaskCreated
from schemas.identifiers import Version

# As long as a digest: what config.json takes can be compared before anything was fetched.
UNKNOWN = "?" * 64


@dataclass(frozen=True, slots=True)
class Digests:
    """Of the files beside config.json, in hex. `weights` None: the log had them no more; `frozen`: there are none."""

    weights: str | None
    frozen: str | None = None

    def to_files(self) -> dict[str, str]:
        """By the names that config.json has for them."""
        named = {WEIGHTS: self.weights, FROZEN_BESIDE: self.frozen}
        return {name: digest for name, digest in named.items() if digest is not None}


def write_configuration(task: PublicTask, version: Version, *, digests: Digests) -> bytes:
    """The content of config.json, of a version that is ready."""
    created, release = task.created, task.releases[version]
    assert created is not None
    statement = json.loads(release.record)
    # Announced before it in the same partition, so that every reader has it by then.
    before = task.releases.get(version - 1)
    content = {
        **describe_configuration(created, release.published, digests=digests.to_files(), frozen=FROZEN_BESIDE),
        "published_at": statement["time"],
        "members_root": statement["data"]["members_root"],
        "members": release.published.members,
        "lineage": {
            "parent": created.parent,
            "first_model_sha256": created.model.sha256.hex(),
            "previous_sha256": None if before is None else before.published.model.sha256.hex(),
            "sources": {name: digest.hex() for name, digest in created.sources.items()},
        },
        "deployment": created.deployment.hex(),
        "journal": statement["data"]["journal"],
        # The signed record itself, so that whoever has the operator's public key needs no log to believe this file.
        "announcement": release.record,
        # Last, because scores come when the version has long been there.
        "evaluations": task.evaluations.get(version, []),
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def read_configuration(data: bytes) -> dict[str, Any] | None:
    """What a config.json says; None for bytes that are none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(found, dict) and isinstance(found.get("files"), dict)
    return found if is_one and isinstance(found.get("evaluations"), list) else None


def find_digests(configuration: Mapping[str, Any]) -> Digests:
    """The digests that a config.json names."""
    files = configuration["files"]
    return Digests(files.get(WEIGHTS), files.get(FROZEN_BESIDE))


def is_ahead(there: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a config.json that stands there says all that ours would, and perhaps more."""
    # Both are in the order of the log: whoever has read more has the same scores and others behind them.
    theirs, mine = there["evaluations"], ours["evaluations"]
    has_weights = there["sha256"] is not None or ours["sha256"] is None
    return has_weights and len(theirs) >= len(mine) and theirs[: len(mine)] == mine


def write_privacy(task: PublicTask, version: Version) -> bytes:
    """The content of privacy.log: one JSON line on the guarantee, and one on each charge up to this version."""
    assert task.created is not None
    charges = [_describe_charge(charge) for charge in task.list_charges(version)]
    lines = [_describe_guarantee(task.created, version), *charges]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _describe_guarantee(created: TaskCreated, version: Version) -> dict[str, Any]:
    privacy = created.policy.privacy
    told: dict[str, Any] = {"task": created.task, "version": version, "privacy": privacy is not None}
    if privacy is None:
        return told
    return {
        **told,
        "unit": "one device",
        "adjacency": "its updates replaced by zero vectors",
        "rho_max": privacy.rho_max,
        "spent_before": [to_plain(spent) for spent in created.spent_before],
    }


def _describe_charge(charge: RoundCharged) -> dict[str, Any]:
    return {name: value for name, value in to_plain(charge).items() if name not in ("type", "task")}
