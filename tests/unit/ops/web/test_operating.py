"""What a server changes in a task's name: a fork with another budget has that, and all else as it was."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ops.web.operating import _allow_more
from schemas.policy import PolicyError
from tests.worlds.builders import policy


def make_created(**tables: Any) -> Any:
    """As much of a creation as is looked at."""
    return SimpleNamespace(task="digits", policy=policy(**tables))


def test_another_budget_changes_the_budget_alone() -> None:
    """Noise, clipping and rounds stay: what was spent was spent under them."""
    created = make_created(privacy={"noise_multiplier": 1.1, "rho_max": 9.0})
    allowed = _allow_more(created, 18.0)
    assert allowed.privacy is not None
    assert allowed.privacy.rho_max == 18.0
    privacy = msgspec.structs.replace(allowed.privacy, rho_max=9.0)
    assert msgspec.structs.replace(allowed, privacy=privacy) == created.policy


@pytest.mark.parametrize("rho_max", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_budget_is_refused(rho_max: float) -> None:
    """As it would be in a file."""
    with pytest.raises(PolicyError):
        _allow_more(make_created(privacy={"noise_multiplier": 1.1, "rho_max": 9.0}), rho_max)


def test_a_task_without_privacy_has_no_budget() -> None:
    """It is told so, and not given one."""
    with pytest.raises(PolicyError, match="has no budget"):
        _allow_more(make_created(), 4.0)
