"""The models that come with fedlog."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from client_agent.learning.layout import ModelError
from client_agent.learning.models import SIZE_MAX
from ops.operator import first_models
from tests.learners import evaluate, initial, train
from tests.worlds.device_world import policy


@pytest.mark.parametrize(
    ("name", "arguments", "pixels", "parameters"),
    [
        ("softmax_regression", {"inputs": 64, "classes": 10}, (64,), 650),
        ("simple_cnn", {"side": 8, "channels": 1, "classes": 10}, (8, 8), 160 + 4_640 + 8_256 + 650),
        ("simple_cnn", {"side": 28, "channels": 1, "classes": 62, "width": 8}, (28, 28), None),
        ("resnet18", {"side": 8, "channels": 1, "classes": 10, "width": 8}, (64,), None),
        ("resnet18", {}, (3, 32, 32), 11_173_962),
    ],
)
def test_models_have_their_shapes(
    name: str, arguments: dict[str, int], pixels: tuple[int, ...], parameters: int | None
) -> None:
    """Guarantee: each model takes flat or square features, gives one score a class, and maps to a flat vector."""
    model = f"client_agent.learning.models:{name}"
    task = msgspec.structs.replace(policy(), model=model, model_arguments=arguments)
    specs, flat = initial(task)
    assert sum(int(np.prod(spec.shape)) for spec in specs) == flat.size
    if parameters is not None:
        assert flat.size == parameters
    x = np.random.default_rng(0).random((2, *pixels), np.float32)
    found = evaluate(task, flat, x, np.array([0, 1]))
    assert np.isfinite(found["loss"])
    assert np.isfinite(train(task, flat, x, np.array([0, 1]), seed=0)).all()


SIZES = {
    "softmax_regression": ("inputs", "classes"),
    "simple_cnn": ("side", "channels", "classes", "width"),
    "resnet18": ("side", "channels", "classes", "width", "groups"),
}


@pytest.mark.parametrize("value", [0, -8, SIZE_MAX + 1, 10**9, 1 << 62, "8", 8.0, True, (8,)], ids=repr)
@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, taken in SIZES.items() for each in taken])
def test_an_argument_that_is_no_size_is_refused(name: str, argument: str, value: Any) -> None:
    """Guarantee: `task create` names the argument, its value and what would hold, before any memory is taken."""
    model = f"client_agent.learning.models:{name}"
    task = msgspec.structs.replace(policy(), model=model, model_arguments={argument: value})
    with pytest.raises(ModelError, match=rf"model_arguments\.{argument} = .*: {name} wants a whole number from 1 to"):
        first_models.make(task)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("softmax_regression", {"wheels": 4}, r"model_arguments\.wheels: softmax_regression takes inputs, classes"),
        ("simple_cnn", {"side": 6}, r"model_arguments\.side = 6: simple_cnn wants a multiple of 4"),
        ("resnet18", {"groups": 7}, r"model_arguments\.width = 64: resnet18 wants a multiple of groups = 7"),
        ("softmax_regression", {"inputs": 1 << 20, "classes": 257}, "has 269484289 parameters, and devices take at"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(name: str, arguments: dict[str, int], message: str) -> None:
    """Guarantee: a name that the model does not take, sizes that do not fit, and a model too large for any device."""
    model = f"client_agent.learning.models:{name}"
    with pytest.raises(ModelError, match=message):
        first_models.make(msgspec.structs.replace(policy(), model=model, model_arguments=arguments))
