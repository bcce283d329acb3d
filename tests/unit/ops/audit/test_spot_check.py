"""One version is recomputed alone, and a body or a sum that is another is found."""

from __future__ import annotations

import pytest

from ops.audit.replay import Anchor
from ops.audit.spot_check import check_version
from tests.gallery import DONE, MAIN, paint
from tests.worlds.builders import KEY

ANCHOR = Anchor(operator=KEY.public_key, noise=KEY.find_noise)


@pytest.mark.parametrize(("task", "version"), [(MAIN, 1), (MAIN, 12), (DONE, 6)])
def test_an_honest_version_is_identical(task: str, version: int) -> None:
    """With privacy and without, the first version and a later one: one sum, one model, nothing left unchecked."""
    found = check_version(paint().log, task, version=version, anchor=ANCHOR)
    assert (found.differences, found.unchecked) == ([], [])
    assert (found.sums, found.models, found.compared, found.versions) == (1, 1, 1, 1)


def test_another_key_draws_other_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was published under the operator's noise is not what another key's noise would have made of the sum."""
    release = "ops.audit.recomputing.compute_release"
    from ops.audit.recomputing import compute_release

    def compute_other(*arguments: object, **named: object) -> object:
        released = compute_release(*arguments, **named)  # type: ignore[arg-type]
        released.model[0] += 1
        return released

    monkeypatch.setattr(release, compute_other)
    found = check_version(paint().log, MAIN, version=5, anchor=ANCHOR)
    assert [finding.task for finding in found.differences] == [MAIN]
    assert "the round gives another model" in str(found.differences[0])


def test_without_the_key_nothing_is_claimed() -> None:
    """A private version cannot be compared by whoever cannot draw its noise, and that is said."""
    found = check_version(paint().log, MAIN, version=5, anchor=Anchor(operator=KEY.public_key))
    assert found.compared == 0
    assert found.unchecked == [f"{MAIN}/5 (needs the operator's key)"]


def test_the_operators_own_model_has_nothing_to_compare() -> None:
    """Version 0 comes of no round."""
    found = check_version(paint().log, MAIN, version=0, anchor=ANCHOR)
    assert (found.compared, found.versions, found.differences) == (0, 0, [])
