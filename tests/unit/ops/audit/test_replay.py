"""Full replay compares with bodies and policy, never a record with itself: each kind of forgery is named.

A forger here is thorough: after changing an event it makes the whole chain anew, so that only recomputation can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from actors.effects.aggregator.bodies import Bodies
from ops.audit.findings import Findings
from ops.audit.replay import Anchor, Audit, Target
from schemas.creations import parse_creation
from schemas.events import (
    JournalEvent,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundCharged,
    RoundProposed,
    SumStored,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.topics import BODIES, LEDGER, MODELS, PUBLISHED, ROUNDS, SELECTIONS, TASKS
from streams.log import LogUnavailable, TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import ANCHOR, KEY, policy, written
from tests.worlds.federation import Federation
from tests.worlds.forging import forge_event

Forge = Callable[[Any], Any]
NOT_STALE = {"max_versions": 1}
PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}


def _world(**sections: dict[str, Any]) -> Federation:
    """Two private rounds with bodies in `bodies`."""
    world = Federation(policy(**{"privacy": PRIVATE, "stop": {"versions_max": 40}, **sections}))
    for turn in range(2):
        for name in "abc":
            world.device(name + str(turn)).check_in()
        world.settle()
        for place, name in enumerate("abc"):
            delta = np.full(4, place + 1.0, np.float32)
            world.device(name + str(turn)).submit(delta, world.rules, inline=False)
        world.settle()
    return world


def _audited(world: Federation) -> Findings:
    return Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()


def _flip(world: Federation, topic: str, *, offset: int, at: int = -1) -> None:
    """Change one byte of a record in place."""
    entry = world.log._partitions[TopicPartition(topic, world.partition)].entries[offset]
    assert entry.record is not None
    data = bytearray(entry.record.value or b"")
    data[at] ^= 1
    entry.record = replace(entry.record, value=bytes(data))


def test_an_honest_log_is_identical() -> None:
    """Every sum and every model of an untouched log is recomputed, and none differs."""
    found = _audited(_world())
    assert (found.verdict, found.sums, found.models, found.charges) == ("identical", 2, 2, 2)


def test_a_schedule_of_the_server_is_recomputed() -> None:
    """Each version is stepped at the rate of its own, and the law check, which computes it anew, agrees."""
    world = _world(server_schedule={"rule": "cosine", "cosine_versions": 3, "warmup_versions": 1}, privacy=None)
    found = _audited(world)
    assert (found.verdict, found.models) == ("identical", 2)
    assert check(world.log, world.partition, settled=True) == []


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "yogi"])
def test_each_optimizer_is_recomputed(rule: str) -> None:
    """The moments, too, come from the rounds alone."""
    found = _audited(_world(optimizer={"rule": rule}))
    assert (found.verdict, found.models) == ("identical", 2)


def test_a_flipped_body_is_named() -> None:
    """One changed byte of an update's body: the replay names the update, the topic and the offset."""
    world = _world()
    _flip(world, BODIES.name, offset=1)
    found = _audited(world)
    assert "bodies" in found.verdict
    assert "@1" in found.verdict


def test_a_flipped_model_is_named() -> None:
    """One changed byte of a published model is named with its version."""
    world = _world()
    _flip(world, MODELS.name, offset=1)
    assert "version 1" in _audited(world).verdict


def test_a_flipped_journal_byte_stops_the_replay() -> None:
    """A record with one changed byte is a stranger's, and the next one of its writer breaks the chain."""
    world = _world()
    batches = world.log._partitions[TopicPartition(ROUNDS.name, world.partition)].entries
    offset = next(i for i, entry in enumerate(batches) if entry.record is not None and i > 3)
    _flip(world, ROUNDS.name, offset=offset, at=40)
    found = [str(one) for one in _audited(world).differences if (one.offset or 0) > offset]
    assert any(fault.startswith(f"rounds[{world.partition}]@") and "what its writer wrote" in fault for fault in found)


def test_an_event_that_cannot_be_folded_is_named() -> None:
    """A bit can make an id another one that is well-formed: the fold then fails there, and the record is named."""
    for topic, kind in ((ROUNDS.name, UpdateAdmitted), (SELECTIONS.name, LeaseGranted)):
        world = _world()
        forge_event(world, topic, kind, change=lambda event: msgspec.structs.replace(event, task="nobodys"))
        offset = next(
            record.offset
            for record in scan(world.log, TopicPartition(topic, world.partition))
            if b"nobodys" in (record.value or b"")
        )
        for full in (False, True):
            found = Audit(world.log, world.partition, anchor=ANCHOR, full=full, to=None).run()
            told = f"{topic}[{world.partition}]@{offset}: task nobodys: {kind.__name__} cannot be"
            assert any(str(difference).startswith(told) for difference in found.differences), found.differences


def test_a_body_in_a_topic_that_holds_none_is_named() -> None:
    """A bit can make the topic of a body another one: that is the record's fault, and no topic is asked for it."""
    for kind, field in ((UpdateAdmitted, "body"), (ModelPublished, "model")):
        world = _world()

        def elsewhere(event: Any, field: str = field) -> Any:
            ref = msgspec.structs.replace(getattr(event, field), topic="bodieb")
            return msgspec.structs.replace(event, **{field: ref})

        forge_event(world, ROUNDS.name, kind, change=elsewhere)
        assert any("bodieb holds no bodies" in difference.what for difference in _audited(world).differences)


def test_a_log_that_fails_is_no_difference() -> None:
    """Only what a record makes our code raise is its fault; a broker that is away is told as such."""
    world = _world()

    def away(self: object, ref: object) -> bytes:
        raise LogUnavailable("nobody answers")

    with patch.object(Bodies, "fetch", away), pytest.raises(LogUnavailable):
        _audited(world)


def test_what_needs_the_key_is_told_and_not_claimed() -> None:
    """Without the operator's key no private model is recomputed: the verdict says so, and the reason is true."""
    world = _world()
    found = Audit(world.log, world.partition, anchor=Anchor(), full=True, to=None).run()
    assert found.verdict == "identical, as far as it could be checked: 0 of 2 models"
    assert found.unchecked == [f"{world.task}/{version} (needs the operator's key)" for version in (1, 2)]
    assert Audit(world.log, world.partition, anchor=Anchor(), full=False, to=None).run().verdict == "identical"


def test_a_model_that_has_left_is_still_compared() -> None:
    """Retention takes models; one whose digest is that of the model recomputed was compared, without a base none is."""
    world = _world(optimizer={"rule": "sgd"}, retention={"models_kept": 2}, privacy=PRIVATE, staleness=NOT_STALE)
    versions = [event.model.offsets[0] for event in world.events(ROUNDS.name, ModelPublished)]
    world.round_of({f"{name}9": np.ones(4, np.float32) for name in "abc"})
    entries = world.log._partitions[TopicPartition(MODELS.name, world.partition)].entries
    entries[versions[1]].record = None
    assert _audited(world).verdict == "identical"
    entries[versions[0]].record = None
    found = _audited(world)
    assert found.verdict == "identical, as far as it could be checked: 1 of 3 models"
    assert found.unchecked[0] == f"{world.task}/1 (the model before it is no longer in the log)"


def test_a_replay_ends_where_it_is_told() -> None:
    """Nothing behind the version is folded or recomputed, and the verdict claims no more."""
    world = _world()
    whole = _audited(world)
    for version, task in ((0, None), (1, None), (1, world.task)):
        found = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=Target(version, task)).run()
        assert (found.verdict, found.reached) == ("identical, as far as was asked", [f"{world.task}/{version}"])
        assert found.models == version
        assert found.events < whole.events
    beyond = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=Target(9)).run()
    assert (beyond.verdict, beyond.reached, beyond.models) == ("identical", [f"{world.task}/2"], 2)


FORGERIES: dict[str, tuple[str, type[JournalEvent], Forge, str]] = {
    "a weight": (
        ROUNDS.name,
        UpdateAdmitted,
        lambda event: msgspec.structs.replace(event, weight=event.weight * 2),
        "weight",
    ),
    "a staleness": (
        ROUNDS.name,
        UpdateAdmitted,
        lambda event: msgspec.structs.replace(event, staleness=1),
        "staleness",
    ),
    "a clip scale": (
        ROUNDS.name,
        UpdateAdmitted,
        lambda event: msgspec.structs.replace(event, clip_scale=1),
        "clip scale",
    ),
    "a zeroed update": (
        ROUNDS.name,
        UpdateAdmitted,
        lambda event: msgspec.structs.replace(event, clip_scale=0, zeroed="not_finite"),
        "zeroed",
    ),
    "a policy": (
        ROUNDS.name,
        Noticed,
        lambda event: msgspec.structs.replace(event, fact=_cheaper(event.fact)),
        "policy",
    ),
    "the participations": (
        ROUNDS.name,
        RoundProposed,
        lambda event: msgspec.structs.replace(event, participations_max=0),
        "participations_max",
    ),
    "the mechanism": (
        ROUNDS.name,
        RoundProposed,
        lambda event: msgspec.structs.replace(event, mechanism=None),
        "mechanism",
    ),
    "a sum": (ROUNDS.name, SumStored, lambda event: msgspec.structs.replace(event, sum_sha256=bytes(32)), "sum"),
    "a charge": (LEDGER.name, RoundCharged, lambda event: msgspec.structs.replace(event, rho_total=0.1), "ledger"),
    "a version": (
        ROUNDS.name,
        ModelPublished,
        lambda event: msgspec.structs.replace(event, version=event.version + 1),
        "version",
    ),
}


def _cheaper(created: TaskCreated) -> TaskCreated:
    optimizer = msgspec.structs.replace(created.policy.optimizer, learning_rate=2.0)
    return msgspec.structs.replace(created, policy=msgspec.structs.replace(created.policy, optimizer=optimizer))


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_named(name: str) -> None:
    """A journal forged with a valid chain still differs from what policy and bodies give."""
    topic, kind, change, named = FORGERIES[name]
    world = _world()
    forge_event(world, topic, kind, change=change)
    differences = _audited(world).differences
    assert any(named in str(difference) for difference in differences), [str(d) for d in differences]


def test_a_policy_changed_in_tasks_is_named() -> None:
    """The operator's own record and the one that the aggregator noticed must be the same."""
    world = _world()
    entry = world.log._partitions[TopicPartition(TASKS.name, world.partition)].entries[0]
    assert entry.record is not None
    created = parse_creation(entry.record, KEY.public_key)
    assert created is not None
    entry.record = replace(entry.record, value=written(_cheaper(created)))
    assert "tasks" in _audited(world).verdict


def test_a_lost_announcement_is_named() -> None:
    """`published` must hold every version; one that is missing is named."""
    world = _world()
    entries = world.log._partitions[TopicPartition(PUBLISHED.name, world.partition)].entries
    [entry for entry in entries if entry.record is not None][1].record = None
    assert "is not announced" in _audited(world).verdict


def test_another_key_is_not_taken_for_the_operators() -> None:
    """With another operator's key nobody who has written here was certified, and that is said of each topic."""
    world = _world()
    other = type(KEY)(bytes(32))
    anchor = Anchor(operator=other.public_key, noise=other.find_noise)
    differences = Audit(world.log, world.partition, anchor=anchor, full=True).run().differences
    for said in ("a writer that the operator certified", "does not vouch"):
        assert any(said in difference.what for difference in differences)
