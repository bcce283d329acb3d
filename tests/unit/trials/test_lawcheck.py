"""The law check sees what it is there for: a clean log passes, and each planted violation is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.canonical import encode
from schemas.events import (
    CheckinsDeclined,
    InputsDropped,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundCharged,
    RoundProposed,
    SumStored,
    Tick,
    UpdateAdmitted,
    UpdatesDeclined,
)
from schemas.journal import Batch, WriterClaimed, open_record
from schemas.tensors import pack, unpack
from schemas.topics import ANSWERS, BODIES, CATALOGUE, CHECKINS, LEDGER, MODELS, PUBLISHED, ROUNDS, SELECTIONS, UPDATES
from streams.log import Bounds, TopicPartition
from tests.judges.lawcheck import check, check_book, counts
from tests.judges.logbook import read
from tests.judges.models import secret_faults
from tests.places import PARTITIONS
from tests.worlds.builders import KEY, NOISE, policy
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import journalled

Change = Callable[[Any], list[Any]]


@pytest.fixture
def world() -> Federation:
    """Two charged versions, a restart, junk, a repeat, a refusal, an expired lease: a bit of everything."""
    rules = policy(
        privacy={"noise_multiplier": 1.0, "rho_max": 12.0},
        selection={"lease_s": 60.0, "devices_expected": 100, "battery_min_percent": 1},
        stop={"versions_max": 100},
    )
    world = Federation(rules)
    ones = np.ones(4, np.float32)
    world.round_of({"a": ones, "b": ones * 2, "c": ones * 9})
    world.device("a").submit(ones, world.rules)
    world.append(UPDATES.name, b"junk")
    world.append(CHECKINS.name, b"junk")
    world.append(CHECKINS.name, encode(Tick()))
    for _ in range(3):
        world.device("e").check_in(battery_percent=0)
    world.settle()
    world.device("e").check_in()
    world.settle()
    world.start("aggregator")
    world.start("selector")
    world.device("z").check_in()
    world.settle()
    world.pass_ms(70_000)
    world.device("z").submit(ones, world.rules)
    world.round_of({"a": ones, "d": ones})
    world.device("f").check_in()
    world.device("f").check_in()
    world.settle()
    world.device("f").submit(np.array([np.nan] * 4, np.float32), world.rules)
    world.settle()
    world.settle()
    return world


def test_a_clean_log_passes(world: Federation) -> None:
    """No violation over a story with restarts, junk, repeats, refusals and expired leases; claims are counted."""
    assert check(world.log, world.partition, settled=True) == []
    found = counts(world.log, [world.partition])
    assert (found["claims"], found["zombies"], found["ModelPublished"]) == (7, 0, 3)


def test_what_is_under_way_is_no_violation(world: Federation) -> None:
    """Inputs above the position are not asked for until everybody is idle; then they are."""
    world.append(UPDATES.name, b"junk")
    world.device("g").check_in()
    assert check(world.log, world.partition, settled=False) == []
    found = check(world.log, world.partition, settled=True)
    assert any("junk" in fault for fault in found)
    assert any("have no other outcome" in fault for fault in found)


class Working:
    """The world's log, in which a whole round goes by whenever somebody asks where a topic ends."""

    def __init__(self, world: Federation) -> None:
        self._world, self._is_asked = world, False

    def bounds(self, at: TopicPartition) -> Bounds:
        if not self._is_asked:
            self._is_asked = True
            self._world.round_of(dict.fromkeys("abd", np.ones(4, np.float32)))
            self._is_asked = False
        return self._world.log.bounds(at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.log, name)


def test_what_goes_on_meanwhile_is_no_violation(world: Federation) -> None:
    """Ends of topics are read one after the other: what the first cannot show yet is not held against the last."""
    versions = len(world.events(ROUNDS.name, ModelPublished))
    assert check(Working(world), world.partition, settled=False) == []  # type: ignore[arg-type]
    assert len(world.events(ROUNDS.name, ModelPublished)) >= versions + len(CATALOGUE) - 1
    assert check(world.log, world.partition, settled=True) == []


def _without(*kinds: type) -> Change:
    return lambda event: [] if isinstance(event, kinds) else [event]


def _twice(kind: type) -> Change:
    return lambda event: [event, event] if isinstance(event, kind) else [event]


def _with(kind: type, **changes: Any) -> Change:
    return lambda event: [msgspec.structs.replace(event, **changes)] if isinstance(event, kind) else [event]


def _unnoticed(kind: type) -> Change:
    return lambda event: [] if isinstance(event, Noticed) and isinstance(event.fact, kind) else [event]


PLANTED: dict[str, tuple[str, Change, str]] = {
    "an outcome lost": (ROUNDS.name, _without(UpdateAdmitted), "has 0 outcomes"),
    "an outcome twice": (ROUNDS.name, _twice(UpdateAdmitted), "has 2 outcomes"),
    "a repeat uncounted": (ROUNDS.name, _without(UpdatesDeclined), "0 counted, of 1 inputs"),
    "a repeat miscounted": (ROUNDS.name, _with(UpdatesDeclined, counts={"expired": 1}), "expired of task"),
    "a decline uncounted": (SELECTIONS.name, _without(CheckinsDeclined), "have no other outcome"),
    "a decline for no task": (SELECTIONS.name, _with(CheckinsDeclined, task="elsewhere"), "of task elsewhere"),
    "counted in two events": (SELECTIONS.name, _twice(CheckinsDeclined), "in two events of one record"),
    "admitted twice": (ROUNDS.name, _twice(UpdateAdmitted), "is twice in round"),
    "junk uncounted": (ROUNDS.name, _without(InputsDropped), "is counted as []"),
    "junk miscounted": (SELECTIONS.name, _with(InputsDropped, count=7), "checkins: junk"),
    "a lease lost": (SELECTIONS.name, _without(LeaseGranted), "the selector did not grant"),
    "a lease twice": (SELECTIONS.name, _twice(LeaseGranted), "a lease id twice"),
    "a slot not freed": (SELECTIONS.name, _without(LeaseClosed), "closed as used 0 times"),
    "a version skipped": (ROUNDS.name, _with(ModelPublished, version=5), "version 5 after version"),
    "a version unannounced": (ROUNDS.name, _twice(ModelPublished), "published: "),
    "another root": (ROUNDS.name, _with(RoundProposed, members_root=bytes(32)), "does not commit"),
    "another size": (ROUNDS.name, _with(RoundProposed, members=2), "K = 3"),
    "another weight": (ROUNDS.name, _with(UpdateAdmitted, weight=5), "weight 5"),
    "another clip": (ROUNDS.name, _with(UpdateAdmitted, clip_scale=7, zeroed=None), "members_root"),
    "another sum": (ROUNDS.name, _with(SumStored, sum_sha256=bytes(32)), "the bodies give another sum"),
    "too few participations": (ROUNDS.name, _with(RoundProposed, participations_max=0), "participations_max 0"),
    "no charge": (LEDGER.name, _without(RoundCharged), "was not charged before"),
    "charge not noticed": (ROUNDS.name, _unnoticed(RoundCharged), "was not charged before"),
    "charged too little": (LEDGER.name, _with(RoundCharged, rho_total=0.1), "the admissions cost"),
    "charged too much": (LEDGER.name, _with(RoundCharged, rho_total=13.0), "above rho_max"),
    "admitted late": (ROUNDS.name, _with(UpdateAdmitted, deadline_ms=1), "another version or deadline"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_each_planted_violation_is_named(case: str, world: Federation) -> None:
    """A journal that is on its chain and breaks one law in one place gives that law's line."""
    topic, change, expected = PLANTED[case]
    _rewrite(world, topic, change)
    found = check(world.log, world.partition, settled=True)
    assert any(expected in fault for fault in found), found


def test_a_lease_beyond_a_synchronous_cohort_is_named() -> None:
    """A round with all its leases grants no other; the leases of the next round are no more than its own."""
    world = Federation(
        policy(
            selection={"concurrency": 3, "devices_expected": 3}, staleness={"max_versions": 0}, stop={"versions_max": 9}
        )
    )
    for _ in range(2):
        world.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
    assert check(world.log, world.partition, settled=True) == []
    _rewrite(world, SELECTIONS.name, _twice(LeaseGranted))
    assert any("of a synchronous round of 3" in fault for fault in check(world.log, world.partition, settled=True))


def test_a_record_off_the_chain_is_named(world: Federation) -> None:
    """Law 4: a record with a changed byte is nobody's, and the one after it is named with its offset."""
    entries = world.log._partitions[TopicPartition(ROUNDS.name, world.partition)].entries
    [first, *_] = [entry for entry in entries if entry.record and b"RoundProposed" in (entry.record.value or b"")]
    value = first.record.value.replace(b"RoundProposed/1", b"RoundProposed/9")
    first.record = replace(first.record, value=value)
    [after, *_] = [entry.record.offset for entry in entries[entries.index(first) + 1 :] if entry.record]
    assert any(f"@{after}: off the chain" in fault for fault in check(world.log, world.partition, settled=True))


def test_a_zombie_is_skipped_and_counted(world: Federation) -> None:
    """Law 4: a batch under an older claim is nobody's, and no violation."""
    at = TopicPartition(ROUNDS.name, world.partition)
    entries = world.log._partitions[at].entries
    old = next(e.record.value for e in entries if e.record and b"Batch/1" in (e.record.value or b""))
    world.append(ROUNDS.name, old)
    assert check(world.log, world.partition, settled=True) == []
    assert counts(world.log, [world.partition])["zombies"] == 1


def test_published_twice_is_named(world: Federation) -> None:
    """Law 5: one CloudEvent a version."""
    entries = world.log._partitions[TopicPartition(PUBLISHED.name, world.partition)].entries
    world.append(PUBLISHED.name, next(entry.record.value for entry in entries if entry.record))
    assert any(fault.startswith("published: ") for fault in check(world.log, world.partition, settled=True))


def test_what_a_stranger_leaves_is_no_violation(world: Federation) -> None:
    """What nobody signed in `published` and `answers` is nobody's word, whatever its bytes are."""
    for value in (b"", b"junk", b"[1]", b"9" * 5_000, b"[" * 5_000, b'{"id":"digits/0"}'):
        world.append(PUBLISHED.name, value)
        world.append(ANSWERS.name, value)
    assert check(world.log, world.partition, settled=True) == []


@pytest.mark.parametrize(("before", "after"), [(b'"seq":', b'"seq":1'), (b'"signature":"', b'"signature":"00')])
def test_an_announcement_that_vouches_for_something_else_is_named(
    world: Federation, before: bytes, after: bytes
) -> None:
    """Law 5: the head is that of the batch with the version, and the signature is over these bytes."""
    entries = world.log._partitions[TopicPartition(PUBLISHED.name, world.partition)].entries
    entry = next(entry for entry in entries if entry.record)
    entry.record = replace(entry.record, value=(entry.record.value or b"").replace(before, after))
    assert any(fault.startswith("published: ") for fault in check(world.log, world.partition, settled=True))


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "adagrad", "yogi"])
@pytest.mark.parametrize("is_private", [False, True])
def test_a_model_that_its_bodies_do_not_give_is_named(rule: str, is_private: bool) -> None:
    """Law 6: another model under a published version is seen, by one bit where the noise can be drawn again.

    Without the key a private model's noise is seen to be missing, or far too large.
    """
    privacy = {"privacy": {"noise_multiplier": 1.0, "rho_max": 9.0}} if is_private else {}
    world = Federation(policy(optimizer={"rule": rule}, **privacy))
    for number in range(3):
        world.round_of({name: np.full(4, 0.5 + number, np.float32) for name in "abc"})
    assert _with_key(world) == check(world.log, world.partition, settled=True) == []
    last = world.events(ROUNDS.name, ModelPublished)[-1].model
    [entry] = [e for e in _entries(world, MODELS.name) if e.record and e.record.offset == last.offsets[0]]
    right = unpack(entry.record.value, "float32", count=4)
    entry.record = replace(entry.record, value=pack(np.nextafter(right, np.float32(np.inf))))
    assert ["published is" in fault for fault in _with_key(world)] == [True]
    entry.record = replace(entry.record, value=pack(np.full(4, 1e6, np.float32)))
    found = check(world.log, world.partition, settled=True)
    # Adam divides by what noise has touched, so that with privacy nothing can be said from outside.
    assert bool(found) is not (rule in ("adam", "adagrad", "yogi") and is_private), found
    assert all("published is" in fault or "its noise is" in fault for fault in found)


def _with_key(world: Federation) -> list[str]:
    return check_book(world.log, read(world.log, world.partition, noise_key=NOISE.secret), settled=True)


def test_a_body_that_retention_took_is_no_fault_but_a_wrong_one_is(world: Federation) -> None:
    """Law 6: a sum is recomputed as far as its bodies live; bodies below the beginning are not asked for."""
    at = TopicPartition(BODIES.name, world.partition)
    for name in "pqr":
        world.device(name).check_in()
    world.settle()
    for name in "pqr":
        world.device(name).submit(np.ones(4, np.float32), world.rules, inline=False)
    world.settle()
    entries = _entries(world, BODIES.name)
    entries[0].record = replace(entries[0].record, value=b"other bytes")
    assert any("body cannot be read" in fault for fault in check(world.log, world.partition, settled=True))
    world.log.delete_records(at, world.log.bounds(at).end)
    assert check(world.log, world.partition, settled=True) == []


@pytest.mark.parametrize("shown", [bytes, lambda secret: secret.hex().encode()])
def test_a_secret_in_any_topic_is_named(world: Federation, shown: Callable[[bytes], bytes]) -> None:
    """Law 7: keys and examples are found in any topic, as bytes or in hex, inside of other bytes."""
    secrets = {"the operator's key": KEY.secret}
    assert list(secret_faults(world.log, range(PARTITIONS), secrets)) == []
    world.append(PUBLISHED.name, b"{" + shown(KEY.secret) + b"}")
    assert list(secret_faults(world.log, range(PARTITIONS), secrets)) == [
        f"published[{world.partition}] holds the operator's key"
    ]


def _entries(world: Federation, topic: str) -> list[Any]:
    return world.log._partitions[TopicPartition(topic, world.partition)].entries


def _rewrite(world: Federation, topic: str, change: Change) -> None:
    """Change the events of a journal and tie the chain anew, as a writer with a fault would have written it."""
    head = bytes(32)
    for entry in world.log._partitions[TopicPartition(topic, world.partition)].entries:
        if entry.record is None:
            continue
        item: Any = open_record(entry.record.value)
        if isinstance(item, Batch):
            decisions = [
                msgspec.structs.replace(decision, events=tuple(e for event in decision.events for e in change(event)))
                for decision in item.decisions
            ]
            kept = tuple(decision for decision in decisions if decision.events)
            item = msgspec.structs.replace(item, prev=head, decisions=kept)
        data = journalled(item, topic, world.partition)
        entry.record = replace(entry.record, value=data)
        digest = hashlib.sha256(data).digest()
        is_claim = isinstance(item, WriterClaimed)
        head = hashlib.sha256(hashlib.sha256(head).digest() + digest).digest() if is_claim else digest
