"""Snapshots in stories drawn at random: however an actor came back, it is the fold of its whole journal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.runtime import actor as actor_module
from actors.wiring import ROLES
from ops.audit.replay import Audit
from schemas.events import StateDigest
from tests.property.test_stories import ACTORS, POLICIES, STEPS, played
from tests.worlds.builders import ANCHOR
from tests.worlds.federation import Federation, describe_opening, open_actor


@settings(max_examples=40)
@given(steps=STEPS, rules=st.sampled_from(sorted(POLICIES)), every=st.integers(1, 9))
def test_a_snapshot_gives_what_the_whole_journal_gives(
    steps: list[tuple[str, tuple[Any, ...]]], rules: str, every: int
) -> None:
    """Law 1, with restarts from snapshots at any point: state and position are those of a replay of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actor_module, "DIGEST_EVERY", every)
        world = Federation(POLICIES[rules])
        played(world, [*steps, ("cycle", (1.0,))])
        for name in ACTORS:
            quick, whole = open_actor(world, name, whole=False), open_actor(world, name, whole=True)
            assert describe_opening(quick) == describe_opening(whole), name
            assert (quick.opened.snapshot is not None) == bool(world.events(ROLES[name].journal, StateDigest)), name
        assert Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run().verdict == "identical"
