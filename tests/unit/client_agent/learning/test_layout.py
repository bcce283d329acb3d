"""Named arrays and flat vectors: every element has one place, and nothing that does not fit is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Layout, Model, ModelError
from client_agent.learning.learner import Parameter

PARAMETERS = {
    "mean": Parameter(np.array([1.0, 2.0]), "averaged"),
    "base.weight": Parameter(np.full((2, 2), 7.0, np.float16), "frozen"),
    "a.b": Parameter(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "scalar": Parameter(np.array(0.5, np.float32)),
    "head": Parameter(np.zeros(3), "local"),
}
LAYOUT = Layout.describe_parameters(PARAMETERS, averaged_scale=0.5)
ARRAYS = {name: parameter.value for name, parameter in PARAMETERS.items()}


def test_the_vector_has_what_trains_and_then_what_is_averaged() -> None:
    """Law 6's vector: frozen and local arrays are not in it, averaged ones are last and scaled."""
    assert (LAYOUT.size, LAYOUT.frozen_size) == (9, 4)
    assert LAYOUT.join(ARRAYS).tolist() == [0, 1, 2, 3, 4, 5, 0.5, 0.5, 1.0]
    assert LAYOUT.join_frozen(ARRAYS).tolist() == [7] * 4
    assert [spec.name for spec in LAYOUT.tensors] == ["mean", "base.weight", "a.b", "scalar"]


def test_a_model_comes_apart_as_it_was_put_together() -> None:
    """Every array is back, in the learner's order, and cannot be written to."""
    found = LAYOUT.split(Model(LAYOUT.join(ARRAYS), LAYOUT.join_frozen(ARRAYS)))
    assert list(found) == ["mean", "base.weight", "a.b", "scalar"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array 'a.b'"),
        ({**ARRAYS, "a.b": np.zeros((3, 2))}, r"shape \(3, 2\), expected \(2, 3\)"),
        ({**ARRAYS, "a.b": "six"}, "no array of numbers"),
    ],
)
def test_what_a_learner_gives_must_fit(arrays: dict[str, object], message: str) -> None:
    """A missing array, another shape or no numbers are named."""
    with pytest.raises(LearnerError, match=message):
        LAYOUT.join(arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"a.b": Parameter(np.zeros((3, 2)))},
        {"a.b": Parameter(np.zeros((2, 3)), "frozen")},
        {"more": Parameter(np.zeros(1))},
        {"a.b": None, "scalar": None},
    ],
)
def test_another_model_is_not_the_task_s(changes: dict[str, Parameter | None]) -> None:
    """The first tensor that differs in name, shape or role is named; another size is not all that counts."""
    other = {name: p for name, p in {**PARAMETERS, **changes}.items() if p is not None}
    with pytest.raises(ModelError, match="same code"):
        LAYOUT.check(other)
    LAYOUT.check({**PARAMETERS, "another head": Parameter(np.zeros(9), "local")})


def test_tensors_in_another_order_are_another_model() -> None:
    """Two layers of one shape that changed places would swap their weights without a word."""
    layers = {"one": Parameter(np.zeros((2, 2))), "two": Parameter(np.zeros((2, 2)))}
    layout = Layout.describe_parameters(layers, averaged_scale=1.0)
    with pytest.raises(ModelError, match=r"'two'.*'one'"):
        layout.check(dict(reversed(layers.items())))


def test_a_vector_of_another_length_is_refused() -> None:
    """Parameters of another size are not squeezed into the model."""
    with pytest.raises(ModelError, match="9 parameters, the version 7"):
        LAYOUT.split(Model(np.zeros(7, np.float32)))
    with pytest.raises(ModelError, match="4 parameters"):
        LAYOUT.split(Model(np.zeros(9, np.float32)))


@pytest.mark.parametrize("value", [np.zeros(3, np.int64), np.zeros(3, np.complex64), np.array(["a"])])
def test_only_floating_numbers_train(value: np.ndarray) -> None:
    """A task of whole or complex numbers is refused when it is created, and one in which nothing trains."""
    with pytest.raises(ModelError, match="floating"):
        Layout.describe_parameters({"w": Parameter(value)}, averaged_scale=1.0)
    with pytest.raises(ModelError, match="nothing in it is trained"):
        Layout.describe_parameters({"w": Parameter(np.zeros(3), "frozen")}, averaged_scale=1.0)


@pytest.mark.parametrize(
    ("name", "parameter", "told"),
    [
        (3, Parameter(np.zeros(2)), "called 3"),
        ("", Parameter(np.zeros(2)), "called ''"),
        ("w" * 513, Parameter(np.zeros(2)), "1 to 512 letters"),
        ("w", Parameter(np.zeros(2), "trianed"), "'w' has the role 'trianed': one of trained, "),  # type: ignore[arg-type]
        ("w", Parameter(np.array([0.0, np.nan])), "'w' starts with NaN"),
        ("w", Parameter(np.array([1e39]), "averaged"), "'w' starts with NaN, infinity or beyond float32"),
    ],
)
def test_what_nobody_could_read_or_train_is_refused(name: Any, parameter: Parameter, told: str) -> None:
    """A learner's slip is told when the task is created, and no record that no reader understands is written."""
    with pytest.raises(ModelError, match=told):
        Layout.describe_parameters({"good": Parameter(np.zeros(2)), name: parameter}, averaged_scale=1.0)
    mask = Parameter(np.array([-np.inf]), "frozen")
    assert Layout.describe_parameters({"good": Parameter(np.zeros(2)), "mask": mask}, averaged_scale=1.0).size == 2
