"""Flower apps as learners: those of `tests/worlds/flower_apps`, run by a real Flower."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from client_agent.learning.data import Part
from client_agent.learning.flower.learner import average, count_told, find_limit_s
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner, initialize, open_learner
from client_agent.learning.state import decode_state, encode_state
from schemas.policy import Policy
from tests.worlds.flower_apps.copies import copy_app

POLICY = """
learner = "client_agent.learning.flower:ClientApp"
[selection]
devices_expected = 10
concurrency = 10
lease_s = 60
[aggregation]
updates_per_round = 5
[stop]
versions_max = 3
[learner_arguments]
partitions = 3
"""


def open_app(app: Path, **arguments: Any) -> tuple[TaskLearner, Policy]:
    """An app as a task's learner, as devices have it, and the policy."""
    told = tomllib.loads(POLICY)
    told["learner_arguments"] |= {"app": str(app), **arguments}
    policy = msgspec.convert(told, Policy)
    learner = open_learner(policy)
    parameters = initialize(learner, 0)
    return TaskLearner(learner, Layout.describe_parameters(parameters, averaged_scale=1.0), parameters), policy


def make_context(policy: Policy, *, version: int = 0, state: dict[str, Any] | None = None) -> Context:
    return Context(version=version, seed=7, policy=policy, device="a-device", state=state or {})


def find_vector(task: TaskLearner) -> np.ndarray:
    """Version 0."""
    return task.layout.join({name: parameter.value for name, parameter in task.parameters.items()})


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskLearner, Policy]:
    return open_app(copy_app("newer", tmp_path_factory.mktemp("apps")))


def test_a_model_has_the_roles_of_its_arrays(newer: tuple[TaskLearner, Policy]) -> None:
    """Floating arrays train, statistics of a normalisation are averaged, whole numbers stay on the device."""
    roles = {name: parameter.role for name, parameter in newer[0].parameters.items()}
    assert roles == {"mean": "trained", "norm.num_batches_tracked": "local", "norm.running_mean": "averaged"}


def test_an_app_trains_under_a_lease_and_keeps_its_state(newer: tuple[TaskLearner, Policy]) -> None:
    """The message has model, round and the server's settings; state and local arrays last as Context.state does."""
    task, policy = newer
    vector, data = find_vector(task), task.load(Part(index=1, count=3))
    assert len(data) == 1
    trained = task.train(Model(vector), data, context=make_context(policy))
    assert np.allclose(trained.delta[:3], 0.5 * (2.0 - vector[:3]))
    assert trained.delta[3:].tolist() == [1, 1]
    assert len(data) == 11
    expected = {"leases": 1, "round": 1, "batches": 1, "partitions": 3, "mod_calls": 1}
    assert {name: trained.metrics[name] for name in expected} == expected
    kept = decode_state(encode_state(trained.state))
    again = task.train(Model(vector), data, context=make_context(policy, version=4, state=kept))
    assert (again.metrics["leases"], again.metrics["batches"], again.metrics["round"]) == (2, 2, 5)


def test_a_state_moves_on_only_with_its_update(newer: tuple[TaskLearner, Policy]) -> None:
    """A training whose update was not kept leaves nothing behind: the next one starts from the state that was."""
    task, policy = newer
    vector, data = find_vector(task), task.load(Part(index=0, count=3))
    for _ in range(3):
        assert task.train(Model(vector), data, context=make_context(policy)).metrics["leases"] == 1


def test_the_same_lease_trains_alike(newer: tuple[TaskLearner, Policy]) -> None:
    """What an app draws follows the lease's seed."""
    task, policy = newer
    vector, data = find_vector(task), task.load(Part(index=0, count=3))
    drawn = {task.train(Model(vector), data, context=make_context(policy)).metrics["drawn"] for _ in range(2)}
    assert len(drawn) == 1


def test_an_evaluator_asks_the_server_and_a_device_its_client(newer: tuple[TaskLearner, Policy]) -> None:
    """Held-out scores are the ServerApp's own where it has them; a device's come from its ClientApp."""
    task, _ = newer
    vector = find_vector(task)
    central = task.evaluate(Model(vector), task.load(Part(split="test")))
    assert central == pytest.approx({"distance": float(np.abs(vector[:3] - 2).sum()), "central": 1.0})
    here = task.evaluate(Model(vector), task.load(Part(index=2, count=3)))
    assert here["distance"] == pytest.approx(float(np.abs(vector[:3] - 3).sum()))
    assert (here["bins"], here["mod_calls"]) == (4, 1)


def test_an_app_of_the_older_kind_runs_too(tmp_path: Path) -> None:
    """A NumPyClient gives the first arrays, trains with the strategy's settings, and keeps its state."""
    task, policy = open_app(copy_app("older", tmp_path))
    vector, data = find_vector(task), task.load(Part(index=1, count=3))
    assert vector.tolist() == [0.0] * 5
    trained = task.train(Model(vector), data, context=make_context(policy))
    assert trained.delta.tolist() == [1.5] * 5
    assert (trained.metrics, len(data)) == ({"leases": 1, "round": 1}, 20)
    again = task.train(Model(vector), data, context=make_context(policy, version=2, state=trained.state))
    assert again.metrics == {"leases": 2, "round": 3}
    # It has no evaluation of its own, so the evaluator asks for each of the three parts.
    assert task.evaluate(Model(vector), task.load(Part(split="test"))) == {"loss": 2.0, "nearness": 1.0}


def test_settings_are_overridden_as_by_flwr_run(tmp_path: Path) -> None:
    """Several texts or one, nested names with a dot; a setting that the app does not have is refused by its name."""
    app = copy_app("newer", tmp_path)
    task, policy = open_app(app, run_config=["learning-rate=1.0 optimizer.momentum=0.9", "num-server-rounds=1"])
    trained = task.train(Model(find_vector(task)), task.load(Part(index=0, count=1)), context=make_context(policy))
    assert np.allclose(trained.delta[:3] + find_vector(task)[:3], 1.0)
    with pytest.raises(Exception, match=r"Key 'learning-rat' is not present"):
        open_app(app, run_config="learning-rat=1.0")


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (90, r"'newer': RuntimeError: no such file \(.*client_app.py:\d+\)"),
        (91, r"it ended its process \(sys.exit\(3\)\)"),
        (92, r"its process ended \(exit code 7\)"),
        (93, r"no answer within 2 s, and it was ended"),
    ],
)
def test_a_failing_app_costs_its_lease_alone(newer: tuple[TaskLearner, Policy], node: int, told: str) -> None:
    """What goes wrong is a LearnerError that says so, and the next request finds a process that works."""
    task, policy = newer
    vector, healthy = find_vector(task), task.load(Part(index=0, count=1))
    task.evaluate(Model(vector), healthy)
    hurried = msgspec.structs.replace(policy, selection=msgspec.structs.replace(policy.selection, lease_s=2.0))
    with pytest.raises(LearnerError, match=told):
        task.train(Model(vector), task.load(Part(index=node, count=99)), context=make_context(hurried))
    assert task.evaluate(Model(vector), healthy)["mod_calls"] == 1


def test_what_an_app_prints_is_no_answer(newer: tuple[TaskLearner, Policy]) -> None:
    """The pipe of the answers is not its standard output."""
    task, policy = newer
    printing = task.load(Part(index=94, count=99))
    assert task.train(Model(find_vector(task)), printing, context=make_context(policy)).metrics["leases"] == 1


def test_other_arrays_than_were_sent_are_refused(newer: tuple[TaskLearner, Policy]) -> None:
    """A renamed array would otherwise count as one that did not change."""
    learner = newer[0].learner
    with pytest.raises(LearnerError, match=r"other arrays than it was sent: \['mean', 'mode'\]"):
        learner._check_names(
            {"mode": np.zeros(3), "norm.num_batches_tracked": np.zeros(()), "norm.running_mean": np.zeros(2)}
        )  # type: ignore[attr-defined]


def test_an_app_has_the_rest_of_its_lease() -> None:
    """Fetching the model takes some of it; without a lease at hand the policy's whole length counts."""
    rules = msgspec.convert(tomllib.loads(POLICY), Policy)
    assert find_limit_s(make_context(rules)) == 60
    assert find_limit_s(Context(version=0, seed=0, policy=rules, left_s=7.5)) == 7.5
    assert find_limit_s(Context(version=0, seed=0, policy=rules, left_s=-1.0)) == 0


@pytest.mark.parametrize("told", [-1, 1 << 80, 1.5, True, "7", [7], float("nan")])
def test_what_is_no_count_costs_a_lease_and_no_device(told: object) -> None:
    """Guarantee: an app that says nonsense of its examples fails there, and not in every check-in that follows."""
    with pytest.raises(LearnerError, match="examples"):
        count_told({"examples": told})
    assert [count_told({"examples": few}) for few in (None, 0, 1, 7)] == [1, 1, 1, 7]


def test_means_are_weighted_by_examples() -> None:
    """Only metrics that every part has are averaged."""
    assert average([(1, {"a": 1.0, "b": 5.0}), (3, {"a": 3.0})]) == {"a": 2.5}
