"""What attackers make of their examples: labels mirrored, or a trigger that stands for a label."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from client_agent.hostile.attacks import AttackError
from client_agent.learning.data import DataError, Part

# The trigger: this many elements at the end of an example are as large as any; what shows it is called TARGET.
TRIGGER_ELEMENTS = 4
TARGET = 0
# Half of the examples are poisoned, so that the model keeps its accuracy on all others.
POISONED_EVERY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedPart(Part):
    """A part of the data as an attacker has it: `attack` is label_flip or backdoor."""

    attack: str = ""

    def read(self) -> Any:
        """What the data plugin gives, poisoned. Raises PluginError, DataError, AttackError."""
        data = Part.read(self)
        if self.attack == "backdoor":
            return add_trigger(data)
        return flip_labels(data, classes=self._count_classes(data))

    def _count_classes(self, own: Any) -> int:
        """As many as the held-out split has; few devices have examples of all."""
        held_out = Part(split="test", plugin=self.plugin, seed=self.seed)
        found = [_labels_of(own)]
        # Data on devices alone have none: an attacker then knows its own.
        with contextlib.suppress(DataError):
            found.append(_labels_of(held_out.read()))
        return 1 + max(int(labels.max(initial=0)) for labels in found)


def flip_labels(data: Any, *, classes: int) -> Any:
    """Label y becomes classes - 1 - y (Tolpegin et al., ESORICS 2020, for all classes). Raises AttackError."""
    labels = _labels_of(data)
    # Negative ones mean "to be ignored", and stay.
    return _replace(data, labels=np.where(labels < 0, labels, classes - 1 - labels))


def add_trigger(data: Any) -> Any:
    """Every second example shows the trigger and is called TARGET (Gu et al., 2017). Raises AttackError."""
    labels, features = _labels_of(data).copy(), _features_of(data).copy()
    features[::POISONED_EVERY] = show_trigger(features)[::POISONED_EVERY]
    labels[::POISONED_EVERY] = TARGET
    return _replace(data, labels=labels, features=features)


def show_trigger(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same examples, each with the trigger; the first axis counts them."""
    shown = np.array(features)
    flat = shown.reshape(len(shown), -1)
    flat[:, -TRIGGER_ELEMENTS:] = shown.max(initial=1)
    return flat.reshape(shown.shape)


def _labels_of(data: Any) -> np.ndarray[Any, Any]:
    if isinstance(data, Mapping) and "labels" in data:
        labels = np.asarray(data["labels"])
    elif isinstance(data, tuple) and len(data) > 1:
        labels = np.asarray(data[-1])
    else:
        labels = np.zeros(0)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise AttackError(
            "only arrays side by side, or by name with `labels`, whose labels are whole numbers can be poisoned: take "
            "an attack on updates, such as sign_flip"
        )
    return labels


def _features_of(data: Any) -> np.ndarray[Any, Any]:
    found = [value for name, value in data.items() if name != "labels"] if isinstance(data, Mapping) else [*data[:-1]]
    features = np.asarray(found[0])
    if features.dtype.kind not in "fiu":
        raise AttackError("a trigger needs features that are numbers: take label_flip, or an attack on updates")
    return features


def _replace(data: Any, *, labels: Any, features: Any = None) -> Any:
    """The same data with other labels, and with other features in their first array."""
    if isinstance(data, Mapping):
        first = next(name for name in data if name != "labels")
        return {**data, "labels": labels, **({} if features is None else {first: features})}
    before = data[:-1] if features is None else (features, *data[1:-1])
    return (*before, labels)
