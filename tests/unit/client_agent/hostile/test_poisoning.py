"""Poisoned examples: mirrored labels, and a trigger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client_agent.hostile.attacks import AttackError
from client_agent.hostile.poisoning import (
    TARGET,
    TRIGGER_ELEMENTS,
    PoisonedPart,
    add_trigger,
    flip_labels,
    show_trigger,
)
from client_agent.learning.data import Part
from client_agent.learning.examples import digits

X = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
Y = np.array([0, 1, 2, -1])


@pytest.mark.parametrize("data", [(X, Y), {"pixels": X, "labels": Y}])
def test_labels_are_mirrored(data: Any) -> None:
    """Guarantee: y becomes classes - 1 - y in either form of data; what is ignored and the features stay."""
    once = flip_labels(data, classes=3)
    features, labels = once if isinstance(once, tuple) else (once["pixels"], once["labels"])
    assert labels.tolist() == [2, 1, 0, -1]
    assert (features == X).all()
    twice = flip_labels(once, classes=3)
    assert (twice[1] if isinstance(twice, tuple) else twice["labels"]).tolist() == Y.tolist()


@pytest.mark.parametrize("data", [(X, Y), {"pixels": X, "labels": Y}])
def test_a_trigger_stands_for_a_label(data: Any) -> None:
    """Guarantee: every second example shows the trigger and is called the target, the others are as they were."""
    found = add_trigger(data)
    features, labels = found if isinstance(found, tuple) else (found["pixels"], found["labels"])
    assert labels.tolist() == [TARGET, 1, TARGET, -1]
    assert (features[1::2] == X[1::2]).all()
    assert (features[::2, -TRIGGER_ELEMENTS:] == 1).all()
    assert (features[::2, :-TRIGGER_ELEMENTS] == X[::2, :-TRIGGER_ELEMENTS]).all()
    # What the device has is not changed in place.
    assert X[0, -1] < 1
    assert (show_trigger(X)[::2] == features[::2]).all()


@pytest.mark.parametrize("data", [[1, 2], (X,), (X, Y / 2), {"pixels": X}, (X, np.stack([Y, Y], 1))])
def test_what_cannot_be_poisoned_is_said(data: Any) -> None:
    """Guarantee: data without whole labels are refused with an attack that needs none."""
    with pytest.raises(AttackError, match="sign_flip"):
        flip_labels(data, classes=3)


def test_features_that_are_no_numbers_have_no_trigger() -> None:
    """Guarantee: texts are refused by name."""
    with pytest.raises(AttackError, match="label_flip"):
        add_trigger((np.array(["a", "b"]), np.array([0, 1])))


def test_a_device_with_few_classes_mirrors_among_all() -> None:
    """Guarantee: the classes are those of the held-out split, not of what one device happens to have."""
    given = {"index": 3, "count": 40, "plugin": "client_agent.learning.examples:digits"}
    _, labels = PoisonedPart(attack="label_flip", **given).read()
    assert (labels == 9 - digits(Part(**given))[1]).all()
