"""Local training and evaluation: it learns, FedProx is its formula, and models keep to the flat vector."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from client_agent.learning import opening
from client_agent.learning.data import Part, TooFewClasses
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Layout, Model, ModelError
from client_agent.learning.learner import Array, Arrays, Context, Parameter
from client_agent.learning.opening import (
    DataTrainer,
    TaskLearner,
    choose_accelerator,
    count_examples,
    initialize,
    open_learner,
    open_task_learner,
    require_accelerator,
)
from client_agent.learning.plugins import PluginError
from schemas.policy import Policy, Training
from tests import torch_zoo as zoo
from tests.learners import FlatLearner, PairLearner, evaluate, initial, train
from tests.worlds.builders import task_created
from tests.worlds.device_world import policy

DIGITS = "client_agent.learning.examples:digits"


def with_model(name: str, **arguments: float) -> Policy:
    return msgspec.structs.replace(policy(), model=f"client_agent.learning.models:{name}", model_arguments=arguments)


def test_a_device_without_examples_changes_nothing() -> None:
    """Guarantee: where the policy lets it train, its update is zero, whatever its learner would make of no rows."""
    task = with_model("softmax_regression")
    _, flat = initial(task)
    own = zoo.open_torch(task).make_trainer(Part(index=0, count=3, plugin=f"{__name__}:give_nothing"))
    made = own.train(Model(flat), Context(version=0, seed=1, policy=task, state={"kept": 1}))
    assert (own.sample_count, made.delta.any(), made.metrics, made.state) == (0, False, {}, {"kept": 1})


def test_a_device_of_one_class_trains() -> None:
    """Guarantee: labels that are all alike are data like any other."""
    task = with_model("softmax_regression")
    _, flat = initial(task)
    own = zoo.open_torch(task).make_trainer(Part(index=0, count=3, plugin=f"{__name__}:give_sevens"))
    assert own.train(Model(flat), Context(version=0, seed=1, policy=task)).delta.any()


class Forgetful(list[float]):
    """Data that lose their length, as a file of a disk that is gone does."""

    is_gone = False

    def __len__(self) -> int:
        if self.is_gone:
            raise OSError("the disk is gone")
        return super().__len__()


def test_data_that_lose_their_length_end_no_device() -> None:
    """Guarantee: a check-in says that there are none, and a training under a lease fails with the reason."""
    data = Forgetful([1.0, 2.0])
    own = DataTrainer(TaskLearner(FlatLearner(2), Layout(()), {}), data)
    assert own.sample_count == 2
    data.is_gone = True
    assert own.sample_count == 0
    with pytest.raises(LearnerError, match="the disk is gone"):
        own.train(Model(np.zeros(2, np.float32)), Context(version=0, seed=1, policy=policy()))


def give_nothing(part: Part) -> Any:
    """A share without rows."""
    return np.zeros((0, 64), np.float32), np.zeros(0, np.int64)


def give_sevens(part: Part) -> Any:
    """A share of one class."""
    return np.random.default_rng(part.index).random((9, 64), np.float32), np.full(9, 7)


def test_training_learns_digits() -> None:
    """Guarantee: a few local passes lower the loss on held-out digits, for every model that comes along."""
    x, y = Part(plugin=DIGITS, count=1).read()
    test = Part(plugin=DIGITS, split="test").read()
    for name, arguments in (("softmax_regression", {}), ("simple_cnn", {"side": 8, "width": 4})):
        task = with_model(name, **arguments)
        _, flat = initial(task)
        before = evaluate(task, flat, *test)
        for seed in range(3):
            flat += train(task, flat, x, y, seed=seed)
        after = evaluate(task, flat, *test)
        assert after["loss"] < before["loss"], name
        assert after["accuracy"] > 0.3, name


def test_a_training_repeats_by_its_seed() -> None:
    """Guarantee: same model, data and seed give the same delta; another seed another one; the model stays as it was."""
    x, y = Part(plugin=DIGITS, count=20).read()
    task = policy()
    _, flat = initial(task, seed=3)
    kept = flat.copy()
    first, other = train(task, flat, x, y, seed=1), train(task, flat, x, y, seed=2)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, train(task, flat, x, y, seed=1))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(flat, kept)


def test_one_step_is_the_gradient() -> None:
    """Guarantee: one full batch of FedAvg is minus learning rate times the gradient of softmax regression."""
    x, y = Part(plugin=DIGITS, count=20).read()
    task = msgspec.structs.replace(policy(), training=Training(batch_size=4096, learning_rate=0.5))
    flat = np.random.default_rng(0).normal(0, 0.1, 650).astype(np.float32)
    weight, bias = flat[:640].reshape(10, 64), flat[640:]
    logits = x @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (chances - np.eye(10)[y]) / len(y)
    expected = -0.5 * np.concatenate([(error.T @ x).reshape(-1), error.sum(axis=0)])
    np.testing.assert_allclose(train(task, flat, x, y, seed=0), expected, atol=1e-6)


def test_fedprox_is_its_formula() -> None:
    """Guarantee: the second FedProx step adds -learning rate * mu * (w1 - w0) to FedAvg's (Li et al. 2020, eq. 2)."""
    x, y = Part(plugin=DIGITS, count=20).read()
    _, flat = initial(policy())

    def after(epochs: int, algorithm: str, mu: float) -> np.ndarray:
        how = Training(algorithm=algorithm, epochs=epochs, batch_size=4096, learning_rate=0.5, proximal_mu=mu)  # type: ignore[arg-type]
        return train(msgspec.structs.replace(policy(), training=how), flat, x, y, seed=0)

    step = after(1, "fedavg", 0.0)
    np.testing.assert_array_equal(after(1, "fedprox", 0.7), step)
    np.testing.assert_allclose(after(2, "fedprox", 0.7) - after(2, "fedavg", 0.7), -0.5 * 0.7 * step, atol=1e-6)


def test_momentum_counts() -> None:
    """Guarantee: the policy's momentum reaches the optimizer."""
    x, y = Part(plugin=DIGITS, count=20).read()
    _, flat = initial(policy())
    plain = msgspec.structs.replace(policy(), training=Training(epochs=3, momentum=0.0))
    heavy = msgspec.structs.replace(policy(), training=Training(epochs=3, momentum=0.9))
    assert np.linalg.norm(train(heavy, flat, x, y, seed=0)) > np.linalg.norm(train(plain, flat, x, y, seed=0))


def test_columns_are_no_examples() -> None:
    """Guarantee: a learner may hand on columns as a data plugin gives them, and a device still tells its examples."""
    x, y = np.zeros((7, 2)), np.zeros(7)
    assert [count_examples(data) for data in ((x, y), {"x": x, "labels": y}, [x, y], x, (), {})] == [7, 7, 2, 7, 0, 0]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "CPU", "cuda:1; rm", "", "meta"])
def test_an_accelerator_has_a_known_name(name: str) -> None:
    """Guarantee: a misspelt --accelerator is refused before anything starts."""
    with pytest.raises(PluginError, match="must be cpu, cuda"):
        choose_accelerator(name)


def test_the_machine_chooses_where_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: the choice reaches the torch learner, and one that this machine lacks fails when it is opened."""
    monkeypatch.setattr(opening, "_machine", opening._Machine())
    choose_accelerator("cuda:99")
    with pytest.raises(PluginError, match=r"'cuda:99': torch [\d.+a-z]+ cannot use it here"):
        open_learner(with_model("softmax_regression"))
    choose_accelerator("cpu")
    assert open_learner(with_model("softmax_regression"))


def test_a_run_asks_for_its_accelerator_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: one that is not here is told before anything is started; a learner of one's own is not asked."""
    monkeypatch.setattr(opening, "_machine", opening._Machine())
    with pytest.raises(PluginError, match=r"'cuda:99': torch [\d.+a-z]+ cannot use it here"):
        require_accelerator("cuda:99", with_model("softmax_regression"))
    require_accelerator("cuda:99", msgspec.structs.replace(policy(), learner="tests.learners:FlatLearner"))
    require_accelerator("cpu", with_model("softmax_regression"))


def test_only_what_changed_on_a_device_is_kept() -> None:
    """Guarantee: local arrays that no training touches, such as masks, do not lie in every outbox."""
    learner = zoo.open_torch(zoo.torch_policy(zoo.batch_norm, parameters={"buffers": "local", "local": ["0.bias"]}))
    assert set(learner.local) == {"0.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
    trained = zoo.train_once(learner, zoo.make_rows())
    # A bias in front of BatchNorm has no gradient but rounding.
    assert trained.state["local"].keys() >= {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    idle = zoo.open_torch(zoo.torch_policy(zoo.Counting, training={"train": f"{__name__}:train_nothing"}))
    assert zoo.train_once(idle, zoo.make_rows(), state={"local": {"steps": np.array(3)}}).state["local"] == {"steps": 3}
    assert zoo.train_once(idle, zoo.make_rows()).state == {}


def train_nothing(model: object, data: object, context: object) -> None:
    """A loop that leaves everything as it is."""
    del model, data, context


class InPlace(PairLearner):
    """Changes what it was given, and answers nothing."""

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """One array that trains, and one of each device's own."""
        return {**super().initialize(seed), "own": Parameter(np.zeros(2), "local")}

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """Adds one to what is the device's own."""
        del data, context
        own = start["own"]
        own += 1.0
        return {}, {}

    def evaluate(self, parameters: Arrays, data: Any) -> dict[str, Any]:
        """A number that no float holds."""
        del parameters, data
        return {"loss": 10**400}


class Diverging(InPlace):
    """What is its own grows out of bounds."""

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """Nothing but NaN for what is the device's own."""
        del data, context
        return {"own": start["own"] * np.nan}, {}


def test_a_local_array_that_becomes_nan_is_not_kept() -> None:
    """Guarantee: such a training is given up by name, so that the device keeps the last good one."""
    parameters = initialize(Diverging(), 0)
    learner = TaskLearner(Diverging(), Layout.describe_parameters(parameters, averaged_scale=1.0), parameters)
    context = Context(version=0, seed=1, policy=policy(), state={"local": {"own": np.ones(2)}})
    with pytest.raises(LearnerError, match="NaN in 'own', which is this device's own; nothing is sent"):
        learner.train(Model(np.zeros(6, np.float32)), [0], context=context)
    # A mask that holds NaN from the start is what its author wants.
    context = Context(version=0, seed=1, policy=policy(), state={"local": {"own": np.full(2, np.nan)}})
    assert learner.train(Model(np.zeros(6, np.float32)), [0], context=context).state


def open_in_place() -> TaskLearner:
    parameters = initialize(InPlace(), 0)
    return TaskLearner(InPlace(), Layout.describe_parameters(parameters, averaged_scale=1.0), parameters)


@pytest.mark.parametrize("state", [{}, {"local": {"own": np.ones(2)}}])
def test_what_is_local_cannot_be_changed_in_place(state: dict[str, Any]) -> None:
    """Guarantee: one device's own arrays reach no other device of its process, and move only with a kept update."""
    learner = open_in_place()
    with pytest.raises(LearnerError, match="read-only"):
        learner.train(
            Model(np.zeros(6, np.float32)), [0], context=Context(version=0, seed=1, policy=policy(), state=state)
        )
    np.testing.assert_array_equal(learner.local["own"], 0.0)


def test_a_score_that_is_no_float_is_told() -> None:
    """Guarantee: what an evaluation gives ends no evaluator of other tasks."""
    with pytest.raises(LearnerError, match="the result of evaluation: OverflowError"):
        open_in_place().evaluate(Model(np.zeros(6, np.float32)), [0])


def test_a_task_whose_arguments_make_no_model_is_refused_on_a_device() -> None:
    """Guarantee: where the log names them, a device or evaluator is told which, and nothing is made."""
    created = task_created(with_model("resnet18", groups=0))
    with pytest.raises(ModelError, match=r"model_arguments\.groups = 0"):
        open_task_learner(created)


@pytest.mark.parametrize(("least", "trains"), [(1, True), (2, False)])
def test_a_device_of_one_class_trains_or_is_passed_over_by_policy(least: int, trains: bool) -> None:
    """Guarantee: one class is data and no error; the policy says which, and the device says why."""
    parameters = initialize(FlatLearner(6), 0)
    learner = TaskLearner(FlatLearner(6), Layout.describe_parameters(parameters, averaged_scale=1.0), parameters)
    trainer = DataTrainer(learner, (np.zeros((3, 2)), np.array([4, 4, 4])))
    context = Context(version=0, seed=1, policy=policy(training=Training(classes_min=least)))
    if trains:
        assert trainer.train(Model(np.zeros(6, np.float32)), context).delta.size == 6
        return
    with pytest.raises(TooFewClasses, match=r"1 classes, and training\.classes_min = 2"):
        trainer.train(Model(np.zeros(6, np.float32)), context)
