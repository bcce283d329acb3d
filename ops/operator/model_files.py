"""One version of a task as files that need nothing of fedlog to be read: tensors, configuration, privacy record.

Called by `fedlog model export`, which writes them into a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from client_agent.learning.layout import Layout, Model
from ops.history.task_view import TaskView
from ops.operator import models
from ops.operator.errors import VersionUnknown
from schemas.canonical import to_plain
from schemas.events import ModelPublished, RoundCharged, Subject, TaskCreated, TensorSpec
from schemas.identifiers import Version
from schemas.policy import Spending, compute_rho
from schemas.topics import LEDGER, partition_of
from streams.log import EventLog

WEIGHTS, FROZEN = "weights.bin", "frozen.bin"
_VERBS = {"train": "trained", "measure": "measured"}


def read_files(log: EventLog, view: TaskView, *, version: Version, form: str = "bin") -> dict[str, bytes]:
    """weights.bin (flat little-endian float32), config.json and privacy.log of a version: name -> content.

    In another `form` of `weight_files` one file holds all tensors by name instead.
    frozen.bin too where tensors are frozen; what is local never left its device. Raises VersionUnknown, ModelGone,
    BodyError.
    """
    # The choice checks the number, so that an API cannot ask for a version that is not there.
    published = view.published[models.choose_version(view, version)]
    created = view.created
    if created is None:
        raise VersionUnknown(f"The creation of {view.task!r} cannot be read, and without it no version of it.")
    files = {WEIGHTS: models.read(log, published.model, parameters=created.parameters).astype("<f4").tobytes()}
    # Of a measure task it belongs to the model that was measured, and not to the answer.
    if created.frozen is not None and created.subject is None:
        # With each version again: a reader has the whole model, and needs no second export.
        frozen = models.read(log, created.frozen, parameters=Layout(created.tensors).frozen_size)
        files[FROZEN] = frozen.astype("<f4").tobytes()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    configuration = describe_configuration(created, published, digests=digests)
    if form != "bin":
        files = _convert(created, files, form=form)
        configuration |= _describe_file(configuration, files)
    return {
        **files,
        "config.json": (json.dumps(configuration, indent=2) + "\n").encode(),
        "privacy.log": describe_privacy(view, version).encode(),
    }


def _convert(created: TaskCreated, files: dict[str, bytes], *, form: str) -> dict[str, bytes]:
    """All tensors by their names in one file of a format of others."""
    from ops.operator.weight_files import write_weights

    vector, frozen = (np.frombuffer(files.get(name, b""), "<f4").astype(np.float32) for name in (WEIGHTS, FROZEN))
    arrays = Layout(created.tensors, created.policy.parameters.averaged_scale).split(Model(vector, frozen))
    return {f"model.{form}": write_weights(arrays, form)}


def _describe_file(configuration: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """What config.json says otherwise where one file holds all tensors, in their own unit."""
    [(name, content)] = files.items()
    tensors = [
        {"name": place["name"], "shape": place["shape"], "role": place["role"], "file": name, "scale": 1.0}
        for place in configuration["tensors"]
        if place["role"] != "reported"
    ]
    return {"files": {name: hashlib.sha256(content).hexdigest()}, "tensors": tensors}


def describe_configuration(
    created: TaskCreated, published: ModelPublished, *, digests: Mapping[str, str], frozen: str = FROZEN
) -> dict[str, Any]:
    """The content of config.json; `digests` are those of the files that hold the tensors, as far as there are any.

    `frozen` is the file of those that no version changes.
    """
    layout, scale = Layout(created.tensors), created.policy.parameters.averaged_scale
    places = {
        **_list_places(WEIGHTS, (*layout.vector_tensors, *layout.reported_tensors), averaged_scale=scale),
        **_list_places(frozen, layout.frozen_tensors, averaged_scale=scale),
    }
    return {
        "task": created.task,
        "version": published.version,
        "round": published.round,
        "kind": created.policy.kind,
        "measured": _describe_subject(created.subject) if created.subject else None,
        "parameters": created.parameters,
        "dtype": "float32",
        "byte_order": "little",
        "sha256": digests.get(WEIGHTS),
        "files": dict(digests),
        # What the signed announcement in `published` names: the digest of the same numbers as they stand in the log.
        "published_sha256": published.model.sha256.hex(),
        # In the order of the learner, which need not be that of the files.
        "tensors": [places[spec.name] for spec in created.tensors],
        "policy": to_plain(created.policy),
        "policy_sha256": created.policy_sha256.hex(),
    }


def _describe_subject(subject: Subject) -> dict[str, Any]:
    return {"task": subject.task, "version": subject.version}


def _list_places(file: str, specs: Iterable[TensorSpec], *, averaged_scale: float) -> dict[str, dict[str, Any]]:
    """Where each tensor stands in a file, and what its numbers there have to be divided by."""
    # Offsets count elements, not bytes, so that numpy can slice the flat vector with them.
    offset, places = 0, {}
    for spec in specs:
        places[spec.name] = {
            "name": spec.name,
            "shape": list(spec.shape),
            "role": spec.role,
            "file": file,
            "offset": offset,
            "size": spec.size,
            "scale": averaged_scale if spec.role == "averaged" else 1.0,
        }
        offset += spec.size
    return places


def describe_privacy(view: TaskView, version: Version) -> str:
    """The content of privacy.log: every charge of the ledger up to that version's round, and the guarantee after it."""
    assert view.created is not None
    privacy = view.created.policy.privacy
    title = f"# {view.task}, version {version}"
    if privacy is None:
        return f"{title}: {_VERBS[view.created.policy.kind]} without differential privacy; no guarantee is given.\n"
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
