"""A version in the words of MLflow: params, metrics, tags and files.

Tags are what is looked up again: `fedlog.id` and `fedlog.deployment` name a version for good. Of a private task nothing
is said that `published`, the ledger and the scores do not say anyhow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.services.mlflow.entries import Entry
from schemas.canonical import to_plain

ID, DEPLOYMENT, TASK = "fedlog.id", "fedlog.deployment", "fedlog.task"
ROLLED_BACK, ROLLED_BACK_TO = "fedlog.rolled_back", "fedlog.rolled_back_to"
MODEL_GONE = "fedlog.model_gone"
CANDIDATE, CHAMPION = "candidate", "champion"
# MLflow's own limits.
PARAM_LETTERS_MAX, NAME_LETTERS_MAX = 6_000, 250
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\- /]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a metric, as it was at that time."""

    name: str
    value: float
    time_ms: int


def list_params(entry: Entry) -> dict[str, str]:
    """The policy, a field a param, with what its defaults fill in."""
    flat = dict(_flatten("policy", to_plain(entry.created.policy)))
    more = {"parameters": str(entry.created.parameters), "policy_sha256": entry.created.policy_sha256.hex()}
    return {_clean(name): value[:PARAM_LETTERS_MAX] for name, value in (flat | more).items()}


def list_values(entry: Entry) -> list[Value]:
    """The final scores, `accuracy` of all and `accuracy/COHORT` of a cohort; and what the version cost."""
    found = []
    for cohort, final in sorted(entry.scores.items()):
        behind = f"/{cohort}" if cohort else ""
        metrics = {**final.metrics, "samples": float(final.samples)}
        found += [
            Value(name=_clean(name + behind), value=value, time_ms=entry.scored_ms) for name, value in metrics.items()
        ]
    if (charge := entry.charge) is not None:
        cost = {"epsilon": charge.epsilon, "rho": charge.rho_total, "delta": charge.delta}
        found += [Value(name=name, value=value, time_ms=entry.announcement.time_ms) for name, value in cost.items()]
    return found


def list_tags(entry: Entry, deployment: bytes) -> dict[str, str]:
    """What names the version, and where it comes from."""
    # Each version steps from the one before it, whatever its updates were trained from.
    data = entry.data
    base = data.version - 1 if data.version else None
    tags: dict[str, Any] = {
        ID: entry.id,
        DEPLOYMENT: deployment.hex(),
        TASK: data.task,
        "fedlog.version": data.version,
        "fedlog.sha256": data.model.sha256,
        "fedlog.base": base,
        "fedlog.parent": entry.created.parent,
        "fedlog.round": data.round,
        "fedlog.members": data.members,
        "fedlog.members_root": data.members_root,
        "fedlog.journal": f"{data.journal.topic}[{data.journal.partition}]",
        "fedlog.journal_seq": data.journal.seq,
        "fedlog.journal_head": data.journal.head,
        "fedlog.policy_sha256": entry.created.policy_sha256.hex(),
    }
    if (charge := entry.charge) is not None:
        # Beside the metrics, so that they show in a list of versions.
        tags |= {"fedlog.epsilon": f"{charge.epsilon:.6g}", "fedlog.delta": f"{charge.delta:g}"}
        tags |= {"fedlog.rho": f"{charge.rho_total:.7g}"}
    return {name: str(value) for name, value in tags.items() if value is not None}


def describe_model(task: str, deployment: bytes) -> str:
    """What the page of a registered model says on top."""
    return f"Task {task} of the fedlog deployment {deployment.hex()}: each version as it was published in the log."


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(f"{name}.{key}", inner)
    # A param cannot be empty.
    elif value not in ("", None, [], {}, ()):
        yield name, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _clean(name: str) -> str:
    """A name that MLflow takes: a learner of somebody's own may call its metrics anything."""
    parts = [part for part in _NOT_IN_NAMES.sub("_", name).split("/") if part.strip(". ")]
    return "/".join(parts)[:NAME_LETTERS_MAX] or "unnamed"
