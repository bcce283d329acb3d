"""The models that come with fedlog."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

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
