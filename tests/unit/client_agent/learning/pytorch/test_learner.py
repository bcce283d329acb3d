"""The torch learner at work on a task: which tensors move, which are sent, and what lasts from lease to lease."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Layout, Model, ModelError
from client_agent.learning.opening import TaskLearner, open_learner
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.learner import TorchLearner
from schemas.canonical import encode
from schemas.policy import Policy
from tests import torch_zoo as zoo

ROWS = zoo.make_rows()
FULL = {"batch_size": 1000, "learning_rate": 0.5}


def one_step(module: nn.Module, rate: float = 0.5) -> dict[str, np.ndarray]:
    """What one full batch of plain SGD changes in each parameter that trains."""
    x, y = map(torch.from_numpy, ROWS)
    functional.cross_entropy(module.train()(x), y).backward()
    return {n: (-rate * p.grad).numpy() for n, p in module.named_parameters() if p.grad is not None}


def open_zoo(model: Any, **sections: Any) -> TaskLearner:
    return zoo.open_torch(zoo.torch_policy(model, **{"training": FULL, **sections}))


# --- parameters -----------------------------------------------------------------------------------------------------


def test_one_batch_is_one_gradient() -> None:
    """Guarantee: the delta of a training is what plain torch changes, tensor by tensor."""
    learner = open_zoo(zoo.WithHead)
    torch.manual_seed(0)
    expected = one_step(zoo.WithHead())
    delta = zoo.read_delta(learner, zoo.train_once(learner, ROWS))
    assert delta.keys() == expected.keys()
    for name, change in delta.items():
        np.testing.assert_allclose(change, expected[name], atol=1e-6)


def test_statistics_are_averaged_times_their_scale() -> None:
    """Guarantee: BatchNorm's statistics stand in the vector times the policy's scale, and evaluate as they were."""
    learner = open_zoo(zoo.batch_norm, parameters={"averaged_scale": 0.01})
    start = zoo.find_start(learner)
    torch.manual_seed(0)
    module = zoo.batch_norm()
    one_step(module)
    change = zoo.train_once(learner, ROWS, model=start)
    end = learner.layout.split(Model(start.vector + change.delta, None))
    np.testing.assert_allclose(end["1.running_mean"], module[1].running_mean, atol=1e-5)
    np.testing.assert_allclose(end["1.running_var"], module[1].running_var, atol=1e-5)
    unscaled = Layout(learner.layout.tensors, 1.0).split(Model(change.delta, None))
    np.testing.assert_allclose(unscaled["1.running_mean"], 0.01 * module[1].running_mean, atol=1e-6)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(end[name].copy()))
        loss = functional.cross_entropy(module.eval()(torch.from_numpy(ROWS[0])), torch.from_numpy(ROWS[1]))
    found = learner.evaluate(Model(start.vector + change.delta, None), ROWS)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-4)


def test_a_variance_below_zero_is_repaired() -> None:
    """Guarantee: noise on BatchNorm's variance does not make the model's outputs NaN."""
    learner = open_zoo(zoo.batch_norm)
    vector = zoo.find_start(learner).vector.copy()
    vector[-6:] = -3.0
    assert np.isfinite(zoo.train_once(learner, ROWS, model=Model(vector, None)).delta).all()
    assert learner.evaluate(Model(vector, None), ROWS)["loss"] < 1e6


def test_local_statistics_are_each_devices_own() -> None:
    """Guarantee: FedBN: statistics are in no vector, and come back at the device's next lease, and at no other's."""
    learner = open_zoo(zoo.batch_norm, parameters={"buffers": "local"})
    assert {spec.name for spec in learner.layout.tensors} == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "3.weight",
        "3.bias",
    }
    first = zoo.train_once(learner, ROWS)
    second = zoo.train_once(learner, ROWS, state=first.state)
    other = zoo.train_once(learner, ROWS)
    mean = {
        name: trained.state["local"]["1.running_mean"] for name, trained in (("1", first), ("2", second), ("o", other))
    }
    np.testing.assert_array_equal(mean["1"], mean["o"])
    assert not np.allclose(mean["1"], mean["2"])
    assert second.state["local"]["1.num_batches_tracked"] == 2


def test_a_head_of_its_own_lasts_on_its_device() -> None:
    """Guarantee: a local head trains, is not sent, and goes on from where the device left it."""
    learner = open_zoo(zoo.WithHead, parameters={"local": ["head.*"]})
    assert [spec.name for spec in learner.layout.tensors] == ["body.weight", "body.bias"]
    first = zoo.train_once(learner, ROWS)
    start = learner.parameters["head.weight"].value
    assert not np.allclose(first.state["local"]["head.weight"], start)
    second = zoo.train_once(learner, ROWS, state=first.state)
    assert second.metrics["loss"] < first.metrics["loss"]
    assert not np.allclose(second.state["local"]["head.weight"], first.state["local"]["head.weight"])


def test_frozen_weights_do_not_move_by_a_bit() -> None:
    """Guarantee: what is frozen is in no vector and no noise reaches it, under every optimizer (FAULT C)."""
    adapters = {"trained": ["lora_*"]}
    for training in (FULL, {"optimizer": "adamw", "weight_decay": 0.5, "batch_size": 4, "epochs": 3}):
        learner = open_zoo(zoo.adapted, parameters=adapters, training=training)
        start = zoo.find_start(learner)
        assert (learner.layout.size, learner.layout.frozen_size) == (
            2 * 4 + 6 * 2 + 2 * 6 + 3 * 2,
            4 * 6 + 6 + 6 * 3 + 3,
        )
        before = learner.layout.split(start)
        change = zoo.train_once(learner, ROWS, model=start)
        after = learner.layout.split(Model(start.vector + change.delta, start.frozen))
        moved = {name for name in before if not np.array_equal(before[name], after[name])}
        assert moved <= {"0.lora_a", "0.lora_b", "2.lora_a", "2.lora_b"}
        assert "0.lora_b" in moved
        # A second device of the process starts from the same backbone.
        again = zoo.train_once(learner, ROWS, model=start)
        np.testing.assert_array_equal(change.delta, again.delta)


def move_everything(model: nn.Module, data: Any, context: Any) -> None:
    """A loop that does not keep to what it may train."""
    del data, context
    for parameter in model.parameters():
        parameter.data.add_(1.0)


def test_a_loop_that_moves_frozen_weights_reaches_nobody_else() -> None:
    """Guarantee: frozen weights are the task's again at the next lease, whatever a user's loop did to them."""
    learner = open_zoo(zoo.frozen_backbone, training={"train": f"{__name__}:move_everything"})
    start = zoo.find_start(learner)
    before = learner.evaluate(start, ROWS)
    np.testing.assert_allclose(zoo.train_once(learner, ROWS, model=start).delta, 1.0, atol=1e-6)
    assert learner.evaluate(start, ROWS) == before


def test_tables_that_learn_are_refused_by_name() -> None:
    """Guarantee: a floating buffer that is in no update must not change unseen; the message names two ways out."""
    assert np.isfinite(zoo.train_once(open_zoo(zoo.Tables), ROWS).delta).all()
    moving = {"model_arguments": {"moves": True}}
    with pytest.raises(
        LearnerError, match=r"buffer 'positions' changes .* parameters\.averaged, or in parameters\.local"
    ):
        zoo.train_once(open_zoo(zoo.Tables, **moving), ROWS)
    delta = zoo.train_once(open_zoo(zoo.Tables, **moving, parameters={"averaged": ["positions"]}), ROWS).delta
    np.testing.assert_array_equal(delta[-4:], 0.5)
    local = zoo.train_once(open_zoo(zoo.Tables, **moving, parameters={"local": ["positions"]}), ROWS)
    np.testing.assert_array_equal(local.state["local"]["positions"], np.arange(4) + 0.5)


def test_tied_parameters_are_sent_once() -> None:
    """Guarantee: a shared matrix has one place in the vector and the gradient of both its uses."""
    learner = open_zoo(zoo.Tied)
    torch.manual_seed(0)
    expected = one_step(zoo.Tied())
    assert [spec.name for spec in learner.layout.tensors] == ["inner.weight", "inner.bias", "outer.bias"]
    delta = zoo.read_delta(learner, zoo.train_once(learner, ROWS))
    np.testing.assert_allclose(delta["inner.weight"], expected["inner.weight"], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_stay_on_the_device(dtype: str) -> None:
    """Guarantee: the module computes in its own precision, and what is sent is float32."""
    learner = open_zoo(zoo.in_precision, model_arguments={"dtype": dtype})
    trained = zoo.train_once(learner, ROWS)
    assert trained.delta.dtype == np.float32
    module = zoo.in_precision("float32")
    with torch.no_grad():
        for name, array in learner.layout.split(zoo.find_start(learner)).items():
            dict(module.named_parameters())[name].copy_(torch.from_numpy(array.copy()))
    expected = one_step(module)
    for name, change in zoo.read_delta(learner, trained).items():
        np.testing.assert_allclose(change, expected[name], atol=1e-5 if dtype == "float64" else 0.02)
    assert np.isfinite(learner.evaluate(zoo.find_start(learner), ROWS)["loss"])


def test_rounding_to_half_precision_is_no_update() -> None:
    """Guarantee: a weight that bfloat16 cannot hold, and that training did not touch, has a delta of exactly zero."""
    learner = zoo.open_torch(zoo.torch_policy(coarse_tokens, training=FULL))
    start = zoo.find_start(learner)
    vector = start.vector + np.float32(1e-4)
    tokens = np.array([[1, 2, 1]])
    trained = zoo.train_once(learner, {"input_ids": tokens, "labels": tokens}, model=Model(vector, None))
    table = zoo.read_delta(learner, trained)["table.weight"]
    np.testing.assert_array_equal(table[[0, 3, 4, 5, 6]], 0)
    assert (table[[1, 2]] != 0).any()


def coarse_tokens() -> nn.Module:
    """A model of tokens in bfloat16."""
    return zoo.Tokens().to(torch.bfloat16)


def test_tensors_of_any_number_and_shape() -> None:
    """Guarantee: a parameter without dimensions, names with dots, and ten thousand tensors make one vector."""
    learner = open_zoo(zoo.Scaled)
    assert zoo.read_delta(learner, zoo.train_once(learner, ROWS))["scale"].shape == ()
    assert 1.5 in zoo.find_start(learner).vector
    learner = open_zoo(
        zoo.many,
        model_arguments={"count": 10_000},
        training={"train": f"{__name__}:move_everything"},
    )
    assert learner.layout.size == 10_000
    np.testing.assert_array_equal(zoo.train_once(learner, ROWS).delta, 1.0)
    # One record must hold all of their names.
    assert len(encode(learner.layout.tensors)) < 512 * 1024


def test_another_order_of_equal_layers_is_refused_by_name() -> None:
    """Guarantee: a module with other tensors of the same total size is not taken (FAULT B)."""
    layout = open_zoo(zoo.Swapped).layout
    with pytest.raises(ModelError, match=r"tensor 1 of the model is 'second\.weight' .* here and 'first\.weight'"):
        layout.check(open_zoo(zoo.Swapped, model_arguments={"turned": True}).parameters)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", ["old", "new", "hook"])
def test_parametrized_layers_train(way: str) -> None:
    """Guarantee: weight_norm in both of its ways, and hooks, give plain torch's gradient."""
    learner = open_zoo(zoo.parametrized, model_arguments={"way": way})
    torch.manual_seed(0)
    expected = one_step(zoo.parametrized(way))
    for name, change in zoo.read_delta(learner, zoo.train_once(learner, ROWS)).items():
        np.testing.assert_allclose(change, expected[name], atol=1e-6)


# --- state -----------------------------------------------------------------------------------------------------------


def test_every_training_starts_from_the_same_module() -> None:
    """Guarantee: whatever a module counts or remembers ends with the lease, also for other devices (FAULT G)."""
    learner = open_zoo(zoo.Stateful)
    deltas = [zoo.train_once(learner, ROWS).delta for _ in range(4)]
    assert np.abs(deltas[0]).max() > 0
    for delta in deltas[1:]:
        np.testing.assert_array_equal(delta, deltas[0])
    # Several passes within one lease do count.
    several = open_zoo(zoo.Stateful, training={**FULL, "epochs": 3})
    assert np.abs(zoo.train_once(several, ROWS).delta).max() > 0


def test_counters_that_last_are_the_devices_own() -> None:
    """Guarantee: a buffer of whole numbers is in no vector, and goes on counting on its device alone."""
    learner = open_zoo(zoo.Counting, training={**FULL, "epochs": 2})
    first = zoo.train_once(learner, ROWS)
    assert first.state["local"]["steps"] == 2
    assert zoo.train_once(learner, ROWS, state=first.state).state["local"]["steps"] == 4
    assert zoo.train_once(learner, ROWS).state["local"]["steps"] == 2
    learner.evaluate(zoo.find_start(learner), ROWS)
    assert zoo.train_once(learner, ROWS).state["local"]["steps"] == 2


def test_the_rate_follows_the_version() -> None:
    """Guarantee: the schedule's factor is that of the version that the lease names."""
    learner = open_zoo(zoo.linear, schedule={"rule": "step", "step_versions": 2, "decay": 0.5})
    deltas = [zoo.train_once(learner, ROWS, version=version).delta for version in (0, 1, 2, 5)]
    for delta, factor in zip(deltas, (1, 1, 0.5, 0.25), strict=True):
        np.testing.assert_allclose(delta, deltas[0] * factor, atol=1e-6)


# --- before anybody trains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"loss_arguments": {"smooth": 0.1}}}, "loss_arguments of 'cross_entropy'"),
        ({"training": {"loss": "nowhere:loss"}}, "'nowhere:loss'"),
        ({"training": {"train": "nowhere:train"}}, "'nowhere:train'"),
        ({"training": {"collate": "nowhere:collate"}}, "'nowhere:collate'"),
        ({"evaluation": {"evaluate": "nowhere:evaluate"}}, "'nowhere:evaluate'"),
        ({"evaluation": {"metrics": ["nowhere:metric"]}}, "'nowhere:metric'"),
        ({"parameters": {"trained": ["nothing"]}}, "matches none of weight, bias"),
        ({"model_arguments": {"wheels": 4}}, "wheels"),
        ({"training": {"optimizer_arguments": {"lr": "x"}}}, "optimizer_arguments of 'sgd'"),
        ({"training": {"optimizer": "torch.optim:RMSprop", "optimizer_arguments": {"alfa": 1}}}, "alfa"),
        ({"training": {"loss_arguments": {"weight": ["a", "b"]}}}, "loss_arguments of 'cross_entropy'"),
    ],
)
def test_what_a_policy_names_is_looked_up_when_the_task_is_made(sections: dict[str, Any], message: str) -> None:
    """Guarantee: a wrong name or argument is the operator's error at `task create`, not one of every device."""
    with pytest.raises(PluginError, match=message):
        zoo.open_torch(zoo.torch_policy(zoo.linear, **sections))


def built_in(**sections: Any) -> Policy:
    return zoo.policy(model="client_agent.learning.models:softmax_regression", **sections)


def test_the_size_of_a_model_that_comes_along_is_known_without_memory() -> None:
    """Guarantee: arguments from the log take no memory that the task's tensors do not; local ones are not counted."""
    huge = built_in(model_arguments={"inputs": 1 << 24, "classes": 1 << 16})
    assert TorchLearner(huge).count_elements() == (1 << 40) + (1 << 16)
    sizes = {"side": 1 << 24, "channels": 1 << 24, "width": 1 << 24}
    beyond = zoo.policy(model="client_agent.learning.models:simple_cnn", model_arguments=sizes)
    with pytest.raises(ModelError, match="too large"):
        TorchLearner(beyond).count_elements()
    assert TorchLearner(built_in(parameters={"local": ["1.bias"]})).count_elements() == 640
    assert TorchLearner(zoo.torch_policy(zoo.linear)).count_elements() is None


def test_a_learner_needs_a_model_that_is_made() -> None:
    """Guarantee: training before the model is made is an error with words."""
    with pytest.raises(LearnerError, match="not initialized"):
        open_learner(built_in()).evaluate({}, ROWS)


def test_an_accelerator_that_is_not_there_is_refused() -> None:
    """Guarantee: a device says at its start that it cannot compute as it was told to."""
    with pytest.raises(PluginError, match="choose accelerator cpu"):
        TorchLearner(built_in(), accelerator="cuda:99")


def test_versions_of_other_tensors_are_refused() -> None:
    """Guarantee: arrays that the module does not have, or lacks, are named."""
    learner = open_zoo(zoo.linear).learner
    weight, bias = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)
    with pytest.raises(ModelError, match="no tensor 'other'"):
        learner.evaluate({"weight": weight, "bias": bias, "other": bias}, ROWS)
    with pytest.raises(ModelError, match="the version has no tensor 'bias'"):
        learner.evaluate({"weight": weight}, ROWS)


def without_values() -> nn.Module:
    """A constant that was made without memory, as a model that was loaded half-way has it."""
    module = zoo.linear()
    module.register_buffer("constant", torch.empty(2, device="meta"), persistent=False)
    return module


def test_what_no_accelerator_can_hold_is_not_blamed_on_one() -> None:
    """Guarantee: on the CPU nobody is told to take the CPU."""
    with pytest.raises(PluginError, match="cannot be moved to cpu") as caught:
        zoo.open_torch(zoo.torch_policy(without_values))
    assert "--accelerator" not in str(caught.value)
