"""A device's answer to a question: within its bounds, by name and shape, and nothing that was not asked for."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_agent.learning.data import DataError, Part
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Model, ModelError
from client_agent.learning.learner import Context
from client_agent.learning.measuring.answers import open_measurement, open_own_learner, to_shares
from client_agent.local_update import make_update
from client_agent.setting import DeviceSetting
from schemas.events import Subject, TaskCreated
from schemas.leases import read_lease
from schemas.policy import Measure, Policy, Statistic
from schemas.tensors import read_update
from schemas.topics import UPDATES
from schemas.updates import parse_update
from streams.log import TopicPartition, scan
from streams.packing import unpack
from tests.learners import FLAT_LEARNER
from tests.survey import DATA, Survey, measuring_policy, rows_of_device
from tests.worlds.builders import body_ref, task_created
from tests.worlds.device_world import World

MEASURE = Measure(
    plugin="mine:ask",
    statistics={"few": Statistic(bound=2.0), "table": Statistic(bound=1024.0, shape=(2, 2))},
)
TABLE = [[0.0, 1.0], [-512.0, 1024.0]]
PART = Part(index=1, plugin=DATA)


def _context(rules: Policy) -> Context:
    return Context(version=0, seed=1, policy=rules)


def _created(rules: Policy | None = None, **changes: Any) -> TaskCreated:
    rules = rules or measuring_policy()
    return task_created(rules, parameters=2, **changes)


def test_an_answer_is_shares_of_its_bounds() -> None:
    """One vector in the order of the policy, whatever order the plugin gave; what is beyond a bound is cut to it."""
    assert to_shares({"table": TABLE, "few": 1}, MEASURE).tolist() == [0.5, 0.0, 1 / 1024, -0.5, 1.0]
    beyond = {"few": -5.0, "table": [[np.inf, -np.inf], [1e30, 1024.5]]}
    assert to_shares(beyond, MEASURE).tolist() == [-1.0, 1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "NoneType"),
        ([1.0], "list"),
        ({"few": 1.0}, "no ['table']"),
        ({"few": 1.0, "table": TABLE, "name": 3.0}, "gave ['name'], which the policy's [measure.statistics]"),
        ({"few": [1.0], "table": TABLE}, "'few' has shape (1,), the policy asks for ()"),
        ({"few": 1.0, "table": [1.0]}, "'table' has shape (1,)"),
        ({"few": "many", "table": TABLE}, "'few' is no array of numbers"),
        ({"few": "1.5", "table": TABLE}, "'few' is no array of numbers"),
        ({"few": 1j, "table": TABLE}, "'few' is no array of numbers"),
        ({"few": 10**400, "table": TABLE}, "'few' is no array of numbers"),
        (
            {"few": torch.ones((), requires_grad=True), "table": TABLE},
            "'few' is no array of numbers (Can't call numpy()",
        ),
        ({"few": float("nan"), "table": TABLE}, "'few' holds NaN"),
    ],
)
def test_a_bad_answer_is_named(answer: Any, told: str) -> None:
    """What, where, and what was asked for; nothing of it is sent."""
    with pytest.raises(LearnerError) as refused:
        to_shares(answer, MEASURE)
    assert told in str(refused.value)


def test_what_a_question_sees_is_the_measured_version() -> None:
    """Its arrays by name and role; without a version no arrays at all, and the data as their plugin gives them."""
    seen: list[tuple[dict[str, list[float]], Any]] = []

    def ask(parameters: Any, data: Any, *, context: Context, times: float) -> dict[str, Any]:
        seen.append(({name: array.tolist() for name, array in parameters.items()}, data))
        assert (times, context.policy.kind, context.learner) == (3.0, "measure", None)
        return {"examples": 0, "first": [[0]]}

    rules = measuring_policy(measure={"of": "rings", "version": 7, "plugin_arguments": {"times": 3.0}})
    tensors = task_created(parameters=4).tensors
    subject = Subject(task="rings", version=7, tensors=tensors, model=body_ref("copy", "models"))
    for created in (_created(rules, subject=subject), _created(rules)):
        question = open_measurement(created)
        object.__setattr__(question, "plugin", ask)
        question.make_trainer(PART).train(Model(np.arange(4, dtype=np.float32)), _context(rules))
    assert [arrays for arrays, _ in seen] == [{"flat": [0.0, 1.0, 2.0, 3.0]}, {}]
    np.testing.assert_array_equal(seen[0][1][0], rows_of_device(PART)[0])


def test_examples_are_counted_by_rows() -> None:
    """A pair of columns is no pair of examples: the count decides who is eligible."""
    assert open_measurement(_created()).make_trainer(PART).sample_count == 3


def test_no_examples_are_no_error() -> None:
    """As for training: a device without examples says that it has none, and the policy decides whether it is asked."""
    question = open_measurement(_created())
    assert question.make_trainer(Part(plugin=f"{__name__}:nothing")).sample_count == 0
    with pytest.raises(DataError, match="something with a length"):
        question.make_trainer(Part(plugin=f"{__name__}:number"))


def nothing(part: Part) -> Any:
    """Data without rows."""
    del part
    return np.zeros((0, 2)), np.zeros(0)


def number(part: Part) -> Any:
    """Data that are none."""
    del part
    return 7


def test_another_model_than_the_measured_one_is_refused() -> None:
    """The policy's model has the tensors of the version, or no device scores it."""
    learner = {"learner": FLAT_LEARNER, "learner_arguments": {"parameters": 3}}
    rules = measuring_policy(measure={"of": "rings", "version": 0}, **learner)
    subject = Subject(task="rings", version=0, tensors=task_created().tensors, model=body_ref("copy", "models"))
    with pytest.raises(ModelError, match="is it the same code"):
        open_measurement(_created(rules, subject=subject))
    assert open_own_learner(measuring_policy(**learner), None) is not None
    assert open_own_learner(measuring_policy(), None) is None


def test_a_private_answer_that_fails_is_a_zero_vector_of_the_statistics(tmp_path: Path) -> None:
    """Who arrives must not depend on data; the vector is as long as the question, and not as the measured model."""
    rules = measuring_policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0}, measure={"plugin": f"{__name__}:fail"})
    trainer = open_measurement(_created(rules)).make_trainer(PART)
    plain = World().setting(tmp_path)
    setting = DeviceSetting(task=plain.task, identity=plain.identity, folder=tmp_path, trainer=trainer)
    made = make_update(setting, Model(np.ones(650, np.float32)), residual=None, context=_context(rules), size=2)
    assert "zero vector" in made.failure
    assert read_update(made.compressed.body, rules, parameters=2).grid().tolist() == [0, 0]


def fail(*_: Any, **__: Any) -> Any:
    """A plugin with an error."""
    raise ZeroDivisionError("no examples of that kind")


def test_nothing_is_carried_from_one_answer_to_the_next(tmp_path: Path) -> None:
    """Error feedback is off: a device that has the same to say sends the same bytes, coarse as the codec is."""
    world = Survey(measuring_policy(compression={"codec": "int4"}, stop={"versions_max": 3}), task="ages")
    world.answer("ages", tmp_path, until=3)
    sent: dict[str, set[bytes]] = {}
    records = scan(world.log, TopicPartition(UPDATES.name, world.partition))
    for message in chain.from_iterable(map(unpack, records)):
        update = parse_update(message.value or b"")
        assert update.submitted.inline is not None
        sent.setdefault(read_lease(update.submitted.sealed).device, set()).add(update.submitted.inline)
    assert [len(bodies) for bodies in sent.values()] == [1, 1, 1]
