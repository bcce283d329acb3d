"""One version of a task as files that need nothing of fedlog to be read: weights, configuration, privacy record.

Called by `fedlog model export`, which writes them into a folder.
"""

from __future__ import annotations

import hashlib
import json
from math import prod
from typing import Any

from ops.history.task_view import TaskView
from ops.operator import models
from ops.operator.errors import VersionUnknown
from schemas.canonical import to_plain
from schemas.events import ModelPublished, RoundCharged, TaskCreated
from schemas.identifiers import Version
from schemas.policy import Spending, compute_rho
from schemas.topics import LEDGER, partition_of
from streams.log import EventLog


def read_files(log: EventLog, view: TaskView, *, version: Version) -> dict[str, bytes]:
    """weights.bin (flat little-endian float32), config.json and privacy.log of a version: name -> content.

    Raises VersionUnknown, ModelGone, BodyError.
    """
    # The choice checks the number, so that an API cannot ask for a version that is not there.
    published = view.published[models.choose_version(view, version)]
    if view.created is None:
        raise VersionUnknown(f"The creation of {view.task!r} cannot be read, and without it no version of it.")
    weights = models.read(log, published.model, parameters=view.created.parameters).astype("<f4").tobytes()
    configuration = describe_configuration(view.created, published, sha256=hashlib.sha256(weights).hexdigest())
    return {
        "weights.bin": weights,
        "config.json": (json.dumps(configuration, indent=2) + "\n").encode(),
        "privacy.log": describe_privacy(view, version).encode(),
    }


def describe_configuration(created: TaskCreated, published: ModelPublished, *, sha256: str) -> dict[str, Any]:
    """The content of config.json; `sha256` is that of weights.bin."""
    # Offsets count elements, not bytes, so that numpy can slice the flat vector with them.
    offset, tensors = 0, []
    for spec in created.tensors:
        size = prod(spec.shape)
        tensors.append({"name": spec.name, "shape": list(spec.shape), "offset": offset, "size": size})
        offset += size
    return {
        "task": created.task,
        "version": published.version,
        "round": published.round,
        "parameters": created.parameters,
        "dtype": "float32",
        "byte_order": "little",
        "sha256": sha256,
        "tensors": tensors,
        "policy": to_plain(created.policy),
        "policy_sha256": created.policy_sha256.hex(),
    }


def describe_privacy(view: TaskView, version: Version) -> str:
    """The content of privacy.log: every charge of the ledger up to that version's round, and the guarantee after it."""
    assert view.created is not None
    privacy = view.created.policy.privacy
    title = f"# {view.task}, version {version}"
    if privacy is None:
        return f"{title}: trained without differential privacy; no guarantee is given.\n"
    head = [
        title,
        "# unit: one device; adjacency: its updates replaced by zero vectors; central model, zCDP",
        f"# budget: rho_max {privacy.rho_max:g}",
        *map(_describe_spent, view.created.spent_before),
        f"# source: topic {LEDGER.name}, partition {partition_of(view.task, view.created.partitions)}",
    ]
    last_round = view.published[version].round
    # Version 0 is the operator's own model, of no round, and has cost nothing.
    charges = [] if last_round is None else [charge for charge in view.charges if charge.round <= last_round]
    return "\n".join([*head, *map(_describe_charge, charges), _describe_total(view.created, charges)]) + "\n"


def _describe_charge(charge: RoundCharged) -> str:
    mechanism = charge.mechanism
    return (
        f"round {charge.round}: noise_multiplier {mechanism.noise_multiplier:g} sigma {mechanism.sigma} "
        f"clip_steps {mechanism.clip_steps} sampler {mechanism.sampler} "
        f"participations_max {charge.participations_max} "
        f"rho {charge.rho_total:.7g} epsilon {charge.epsilon:.6g} delta {charge.delta:g}"
    )


def _describe_spent(spent: Spending) -> str:
    return (
        f"# carries on from {spent.task}: its busiest device took part {spent.participations} times at "
        f"noise_multiplier {spent.noise_multiplier:g}, rho {float(compute_rho([spent])):.7g}"
    )


def _describe_total(created: TaskCreated, charges: list[RoundCharged]) -> str:
    if charges:
        # The ledger's rho is a total already, so the last charge speaks for all before it.
        last = charges[-1]
        return f"total: rho {last.rho_total:.7g} epsilon {last.epsilon:.6g} delta {last.delta:g}"
    if created.spent_before:
        spent = float(compute_rho(created.spent_before))
        return f"total: rho {spent:.7g}, all of it by the tasks before; a warm start begins with what they released"
    return "total: nothing was charged; this version has seen no device's data"
