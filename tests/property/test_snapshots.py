"""Snapshots in stories drawn at random: however an actor came back, it is the fold of its whole journal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.hosts.assembly import assemble
from actors.runtime import actor as actor_module
from actors.runtime.actor import Actor
from actors.wiring import ROLES
from ops.audit.replay import Audit
from schemas.canonical import encode
from schemas.events import StateDigest
from tests.property.test_stories import ACTORS, POLICIES, STEPS, played
from tests.worlds.builders import KEY
from tests.worlds.federation import Federation


def opened(world: Federation, name: str, *, whole: bool) -> Actor[Any]:
    """The next process, with or without snapshots."""
    actor = assemble(name, world.partition, log=world.log, key=KEY)
    actor.open(whole=whole)
    return actor


def standing(actor: Actor[Any]) -> tuple[object, ...]:
    """All that an actor knows once it is open."""
    journals = {topic: journal.position for topic, journal in actor._inputs.journals.items()}
    inputs = actor._inputs
    times = (inputs.time_ms, inputs.written_ms)
    return (
        encode(actor.state),
        times,
        actor._inputs.position.offsets,
        journals,
        actor._digests.undigested,
        actor._journal.seq,
    )


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
            quick, whole = opened(world, name, whole=False), opened(world, name, whole=True)
            assert standing(quick) == standing(whole), name
            assert (quick.opened.snapshot is not None) == bool(world.events(ROLES[name].journal, StateDigest)), name
        assert Audit(world.log, world.partition, key=KEY, full=True, to=None).run().verdict == "identical"
