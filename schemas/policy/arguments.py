"""Arguments of the losses and optimizers that come with fedlog: which there are, and what each may be.

Looked at where a policy is checked, and so by the operator, by actors and by devices alike, without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from schemas.policy.learning import Argument, Arguments
from schemas.policy.sections import Policy


@dataclass(frozen=True, slots=True)
class Kind:
    """What an argument may be; `meaning` in the words of a message."""

    meaning: str
    holds: Callable[[Argument], bool]


def _is_whole(value: Argument, *, low: int) -> bool:
    # In Python a truth is a whole number too, and torch would take it for one.
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 1 << 31


def _is_number(value: Argument, *, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_weights(value: Argument) -> bool:
    listed = isinstance(value, tuple) and all(_is_number(each, low=0, high=1e9) for each in value)
    # A mean divides by their sum.
    return listed and isinstance(value, tuple) and any(each != 0 for each in value)


def _is_betas(value: Argument) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_number(b, low=0, high=0.999_999) for b in value)


_TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
_LABEL = Kind("a whole number within 31 bits", partial(_is_whole, low=-(1 << 31)))
_CLASS = Kind("a class, from 0 on", partial(_is_whole, low=0))
_SHARE = Kind("a number from 0 to 1", partial(_is_number, low=0, high=1))
_POSITIVE = Kind("a number from 1e-12 to 1e9", partial(_is_number, low=1e-12, high=1e9))
_WEIGHTS = Kind("a list of numbers from 0 to 1e9, not all 0", _is_weights)
_BETAS = Kind("two numbers from 0 to 0.999999", _is_betas)
_MEAN = Kind("'mean': a loss is the mean over its batch; leave it out", lambda value: value == "mean")
_ADAM = {"betas": _BETAS, "eps": _POSITIVE, "amsgrad": _TRUTH, "maximize": _TRUTH}

LOSS_ARGUMENTS: Mapping[str, Mapping[str, Kind]] = {
    "cross_entropy": {"weight": _WEIGHTS, "ignore_index": _LABEL, "label_smoothing": _SHARE, "reduction": _MEAN},
    "nll": {"weight": _WEIGHTS, "ignore_index": _LABEL, "reduction": _MEAN},
    "bce": {"weight": _WEIGHTS, "pos_weight": _WEIGHTS, "reduction": _MEAN},
    "mse": {"reduction": _MEAN},
    "huber": {"delta": _POSITIVE, "reduction": _MEAN},
    "ctc": {"blank": _CLASS, "zero_infinity": _TRUTH, "reduction": _MEAN},
}
# Without torch's switches for speed: how a machine computes is never the log's choice.
OPTIMIZER_ARGUMENTS: Mapping[str, Mapping[str, Kind]] = {
    "sgd": {"dampening": _SHARE, "nesterov": _TRUTH, "maximize": _TRUTH},
    "adam": _ADAM,
    "adamw": _ADAM,
}
# Twice in one table, the second would overrule the first, the rate even at every version of a schedule.
_OWN_FIELDS = {"lr": "learning_rate", "momentum": "momentum", "weight_decay": "weight_decay"}


def find_argument_problems(policy: Policy) -> Iterator[str]:
    """What a loss or optimizer of fedlog's cannot be called with; code of one's own reads what it likes."""
    training = policy.training
    if policy.learner or not policy.model:
        return
    yield from _find_problems("loss", training.loss, arguments=training.loss_arguments, known=LOSS_ARGUMENTS)
    if training.train:
        return
    yield from _find_problems(
        "optimizer", training.optimizer, arguments=training.optimizer_arguments, known=OPTIMIZER_ARGUMENTS
    )
    is_nesterov = training.optimizer == "sgd" and training.optimizer_arguments.get("nesterov") is True
    if is_nesterov and (training.momentum == 0 or training.optimizer_arguments.get("dampening", 0)):
        yield (
            "training.optimizer_arguments.nesterov = true: it needs training.momentum above 0, which is "
            f"{training.momentum:g}, and no dampening"
        )


def _find_problems(
    field: str, name: str, *, arguments: Arguments, known: Mapping[str, Mapping[str, Kind]]
) -> Iterator[str]:
    if name not in known:
        return
    for argument, value in arguments.items():
        where = f"training.{field}_arguments.{argument}"
        if field == "optimizer" and argument in _OWN_FIELDS:
            yield f"{where}: set training.{_OWN_FIELDS[argument]} for it"
        elif (kind := known[name].get(argument)) is None:
            yield f"{where}: {name!r} takes {', '.join(each for each in known[name] if each != 'reduction') or 'none'}"
        elif not kind.holds(value):
            yield f"{where} = {value!r:.80}: must be {kind.meaning}"
