"""A version as files that need nothing of fedlog to be read."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from ops.history.task_view import TaskView, evolve
from ops.operator import models
from ops.operator.model_files import describe_privacy, read_files
from schemas.events import RoundCharged, TensorSpec
from schemas.events.tasks import TensorRole
from streams.memory import MemoryLog
from tests.unit.ops.history.test_projections import MECHANISM
from tests.worlds.builders import model_published, spending
from tests.worlds.ops_journal import PLACE, TASK, created, memory_log, policy

FLAT = np.array([1.5, -2.0, 3.25, 0.0, 1e-9, 7.0], np.float32)
PRIVATE = policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0})


def view(log: MemoryLog, **changes: object) -> TaskView:
    """A task with versions 0 to 2 of rounds 0 and 1, and three charges."""
    found = TaskView(TASK)
    evolve(found, created(**changes))
    for version, round_id in ((0, None), (1, 0), (2, 1)):
        model = models.store(log, FLAT * (version + 1), partition=PLACE)
        evolve(found, model_published(version, round=round_id, model=model))
    for round_id in range(3):
        charge = RoundCharged(
            task=TASK,
            round=round_id,
            mechanism=MECHANISM,
            participations_max=round_id + 1,
            rho_total=(round_id + 1) / 2,
            epsilon=round_id + 4.0,
            delta=1e-5,
        )
        evolve(found, charge)
    return found


def test_the_weights_are_flat_little_endian_float32() -> None:
    """numpy alone reads the file; its digest and the tensors' places are in config.json."""
    log = memory_log()
    files = read_files(log, view(log), version=1)
    raw = files["weights.bin"]
    config = json.loads(files["config.json"])
    assert np.frombuffer(raw, "<f4").tolist() == (FLAT * 2).tolist()
    assert config["sha256"] == hashlib.sha256(raw).hexdigest()
    assert (config["task"], config["version"], config["policy"]["aggregation"]["updates_per_round"]) == (TASK, 1, 3)
    places = {tensor["name"]: (tensor["offset"], tensor["shape"]) for tensor in config["tensors"]}
    assert places == {"weight": (0, [2, 2]), "bias": (4, [2])}


def test_privacy_is_told_up_to_that_version() -> None:
    """Charges of later rounds are not this version's; the last line is what holds for it."""
    text = describe_privacy(view(memory_log(), policy=PRIVATE, spent_before=(spending(3),)), 1)
    assert text.count("\nround ") == 1
    assert "# carries on from before: its busiest device took part 3 times at noise_multiplier 1, rho 1.5" in text
    assert text.splitlines()[-1] == "total: rho 0.5 epsilon 4 delta 1e-05"


def test_the_operators_own_model_has_cost_nothing() -> None:
    """Version 0 has seen no device."""
    assert "nothing was charged" in describe_privacy(view(memory_log(), policy=PRIVATE), 0)


def test_a_first_version_that_carries_on_names_what_was_spent() -> None:
    """A warm start begins with what an earlier task has released: version 0 is not free of its devices."""
    spent = (spending(10, 0.5, task="first"), spending(1, 20.0, task="second"))
    text = describe_privacy(view(memory_log(), policy=PRIVATE, parent="second", spent_before=spent), 0)
    assert text.index("carries on from first") < text.index("carries on from second")
    assert text.splitlines()[-1].startswith("total: rho 20.00125, all of it by the tasks before")


def test_a_task_without_privacy_promises_nothing() -> None:
    """The file says so, instead of being empty."""
    assert "without differential privacy" in describe_privacy(view(memory_log()), 1)


def test_the_whole_model_is_in_the_files() -> None:
    """Frozen tensors come along, and each tensor's entry says file, place and scale, in the learner's order."""
    log = memory_log()
    shapes: dict[str, tuple[int, ...]] = {"mean": (2,), "base": (3,), "head": (2, 2)}
    roles: dict[str, TensorRole] = {"mean": "averaged", "base": "frozen", "head": "trained"}
    tensors = tuple(TensorSpec(name=name, shape=shapes[name], role=role) for name, role in roles.items())
    frozen = models.store(log, np.array([7, 8, 9], np.float32), partition=PLACE)
    rules = policy(parameters={"averaged_scale": 0.5})
    files = read_files(log, view(log, tensors=tensors, frozen=frozen, policy=rules), version=0)
    config = json.loads(files["config.json"])
    raw = {name: np.frombuffer(files[name], "<f4") for name in config["files"]}
    arrays = {
        entry["name"]: raw[entry["file"]][entry["offset"] :][: entry["size"]].reshape(entry["shape"]) / entry["scale"]
        for entry in config["tensors"]
    }
    assert list(arrays) == ["mean", "base", "head"]
    assert arrays["base"].tolist() == [7, 8, 9]
    assert arrays["head"].tolist() == [[1.5, -2.0], [3.25, 0.0]]
    # Behind those that train, and multiplied in the vector.
    assert arrays["mean"].tolist() == (FLAT[4:] * 2).tolist()
    assert config["files"]["frozen.bin"] == hashlib.sha256(files["frozen.bin"]).hexdigest()
