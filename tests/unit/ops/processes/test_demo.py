"""The demo's JSON: what a script reads of the proof."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from ops.processes.demo import Demo
from ops.settings import resolve


@pytest.mark.parametrize("unchecked", [[], ["digits/1 (needs the operator's key)"]])
def test_the_demo_tells_what_its_replay_did_not_check(unchecked: list[str]) -> None:
    """The verdict is the replay's own, and whatever was not compared stands beside it."""
    verdict = "identical" if not unchecked else "identical, as far as it could be checked: 0 of 1 models"
    demo = Demo(resolve({}), keep=False, view=MagicMock())
    report = demo._report(MagicMock(refused={}), {"replay": verdict, "unchecked": unchecked}, seconds=1.0)
    assert (report["replay"], report["unchecked"]) == (verdict, unchecked)
