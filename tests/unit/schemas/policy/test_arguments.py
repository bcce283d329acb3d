"""Arguments of fedlog's own losses and optimizers: what cannot be called is refused, in words, without torch."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.policy import PolicyError, check_policy
from schemas.policy.arguments import LOSS_ARGUMENTS, OPTIMIZER_ARGUMENTS
from schemas.policy.learning import LOSSES, OPTIMIZERS
from tests.worlds.builders import policy

LOSS: list[tuple[str, str, Any]] = [
    ("cross_entropy", "label_smoothing", -1.0),
    ("cross_entropy", "label_smoothing", "much"),
    ("cross_entropy", "weight", 3),
    ("cross_entropy", "weight", ("a", "b")),
    ("cross_entropy", "weight", ()),
    ("cross_entropy", "weight", (0.0, 0.0)),
    ("cross_entropy", "weight", (-1.0, 1.0)),
    ("nll", "ignore_index", 1 << 62),
    ("nll", "ignore_index", 0.5),
    ("nll", "ignore_index", True),
    ("bce", "pos_weight", 2.0),
    ("huber", "delta", 0),
    ("huber", "delta", "wide"),
    ("ctc", "blank", -1),
    ("ctc", "zero_infinity", 1),
    ("mse", "reduction", "none"),
]
OPTIMIZER: list[tuple[str, str, Any]] = [
    ("sgd", "dampening", -1),
    ("sgd", "nesterov", "yes"),
    ("adam", "betas", 0.5),
    ("adam", "betas", (0.5, 1.0)),
    ("adam", "betas", (0.5, 0.5, 0.5)),
    ("adam", "betas", ("a", "b")),
    ("adam", "eps", -1),
    ("adamw", "eps", 0),
    ("adamw", "amsgrad", 3),
]


@pytest.mark.parametrize(("name", "argument", "value"), LOSS, ids=repr)
def test_a_loss_takes_what_it_can_use(name: str, argument: str, value: Any) -> None:
    """The line names the field, the value and what would hold."""
    with pytest.raises(PolicyError, match=rf"training\.loss_arguments\.{argument} = .*: must be "):
        check_policy(policy(training={"loss": name, "loss_arguments": {argument: value}}))


@pytest.mark.parametrize(("name", "argument", "value"), OPTIMIZER, ids=repr)
def test_an_optimizer_takes_what_it_can_use(name: str, argument: str, value: Any) -> None:
    """The line names the field, the value and what would hold."""
    with pytest.raises(PolicyError, match=rf"training\.optimizer_arguments\.{argument} = .*: must be "):
        check_policy(policy(training={"optimizer": name, "optimizer_arguments": {argument: value}}))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss_arguments": {"size_average": False}}, "'cross_entropy' takes weight, ignore_index, label_smoothing"),
        ({"loss": "mse", "loss_arguments": {"weight": (1.0,)}}, "'mse' takes none"),
        ({"optimizer_arguments": {"lr": 1.0}}, "set training.learning_rate"),
        ({"optimizer": "adam", "optimizer_arguments": {"weight_decay": 1}}, "set training.weight_decay"),
        ({"optimizer": "adam", "optimizer_arguments": {"fused": True}}, "'adam' takes betas, eps, amsgrad, maximize"),
        ({"optimizer_arguments": {"nesterov": True}}, "it needs training.momentum above 0"),
        (
            {"momentum": 0.5, "optimizer_arguments": {"nesterov": True, "dampening": 0.5}},
            "it needs training.momentum above 0",
        ),
    ],
)
def test_an_argument_that_there_is_not_is_refused(training: dict[str, Any], message: str) -> None:
    """A misspelt name, one that would overrule a field of the policy, or one that is the machine's owner's choice."""
    with pytest.raises(PolicyError, match=message):
        check_policy(policy(training=training))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"loss_arguments": {"weight": (0, 2.5), "label_smoothing": 1, "reduction": "mean"}}},
        {"training": {"momentum": 0.5, "optimizer_arguments": {"nesterov": True, "dampening": 0}}},
        {"training": {"optimizer": "adamw", "optimizer_arguments": {"betas": (0, 0.999), "eps": 1e-8}}},
        {"training": {"optimizer": "a:b", "optimizer_arguments": {"lr": "any"}, "loss": "a:b"}},
        {"training": {"train": "a:b", "optimizer_arguments": {"lr": "any"}}},
        {"model": "", "learner": "a:b", "training": {"loss_arguments": {"any": "thing"}}},
    ],
)
def test_what_fits_or_is_read_by_own_code_is_accepted(sections: dict[str, Any]) -> None:
    """Only arguments that fedlog itself hands to torch are looked over."""
    assert check_policy(policy(**sections))


def test_every_loss_and_optimizer_has_its_arguments() -> None:
    """A loss or an optimizer that is added says what it takes."""
    assert set(LOSS_ARGUMENTS) == set(LOSSES)
    assert set(OPTIMIZER_ARGUMENTS) == set(OPTIMIZERS)
