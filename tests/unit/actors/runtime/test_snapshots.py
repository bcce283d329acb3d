"""Snapshots: what they say is proven by the journal, and whatever is wrong with one costs a longer replay at most."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog

from actors.deciders.decider import digest
from actors.hosts.assembly import assemble
from actors.hosts.metrics import ActorMetrics, PrometheusInstruments
from actors.runtime import actor as actor_module
from actors.runtime import snapshots
from actors.runtime.actor import Actor
from actors.runtime.journal import Journal
from actors.wiring import ROLES
from schemas.canonical import decode, decode_state, encode, encode_state
from schemas.certificates import parse_certified
from schemas.events import LeaseGranted, ModelPublished, StateDigest
from schemas.journal import Batch, Snapshot, WriterClaimed, open_record
from schemas.topics import CHECKINS, ENROLMENTS, ROUNDS, SELECTIONS, SNAPSHOTS
from streams.bodies import BodyReader, store
from streams.log import Draft, LogUnavailable, Record, TopicPartition, WriterFenced, scan
from tests.worlds.builders import policy, role_key
from tests.worlds.federation import Federation, describe_opening, open_actor
from tests.worlds.forging import copy_as_stranger
from tests.worlds.identity.enrolling import enrolment_opened, ordered

ONES = np.ones(4, np.float32)
PRIVATE = {"noise_multiplier": 1.0, "rho_max": 20.0}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Federation:
    """Some rounds with privacy, a digest every few decisions, and something after the newest one."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy(privacy=PRIVATE, rollout={}))
    for _ in range(5):
        world.round_of(dict.fromkeys("abc", ONES))
    world.round_of({"d": ONES})
    for number in range(1, 6):
        world.append(ENROLMENTS.name, ordered(enrolment_opened(number)))
    world.settle()
    return world


def _records(world: Federation, topic: str) -> list[Record]:
    return [*scan(world.log, TopicPartition(topic, world.partition))]


def _manifest(world: Federation, name: str) -> Snapshot:
    newest = [record for record in _records(world, SNAPSHOTS.name) if record.key == name.encode()][-1]
    return decode(parse_certified(newest.value or b"").payload, Snapshot)


def _write(world: Federation, name: str, manifest: Snapshot | bytes) -> None:
    value = role_key(name).signer.certify(manifest if isinstance(manifest, bytes) else encode(manifest))
    world.log.append([Draft(topic=SNAPSHOTS.name, partition=world.partition, key=name.encode(), value=value)])


def _state(world: Federation, manifest: Snapshot) -> bytes:
    reader = BodyReader(world.log, SNAPSHOTS.name, world.partition)
    return snapshots.decompress(reader.fetch(manifest.body), manifest.size)  # type: ignore[arg-type]


def _stored(world: Federation, data: bytes, manifest: Snapshot) -> Snapshot:
    at = TopicPartition(SNAPSHOTS.name, world.partition)
    body = store(world.log, at, data=snapshots.compress(data), upload_id="other", codec="state")
    return msgspec.structs.replace(manifest, body=body, size=len(data))


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_snapshot_gives_what_the_whole_journal_gives(world: Federation, name: str) -> None:
    """State, position and time after opening are the same with and without; only what was folded differs."""
    quick, whole = open_actor(world, name), open_actor(world, name, whole=True)
    assert quick.opened.snapshot is not None
    assert whole.opened.snapshot is None
    assert quick.opened.decisions < actor_module.DIGEST_EVERY < whole.opened.decisions
    assert describe_opening(quick) == describe_opening(whole)


def test_life_goes_on_from_a_snapshot(world: Federation) -> None:
    """Actors that began with snapshots go on with the round that was half full, and the chains stay whole."""
    before = len(world.events(ROUNDS.name, ModelPublished))
    for name in ROLES:
        assert world.start(name).opened.snapshot is not None
    world.round_of(dict.fromkeys("ab", ONES))
    assert len(world.events(ROUNDS.name, ModelPublished)) == before + 1
    for name in ROLES:
        assert describe_opening(open_actor(world, name)) == describe_opening(open_actor(world, name, whole=True))


def test_a_stale_snapshot_only_costs_replay(world: Federation) -> None:
    """A snapshot that an old writer stores late, after a newer one, is used: the rest is replayed."""
    stale = next(record for record in _records(world, SNAPSHOTS.name) if record.key == b"selector")
    newest = open_actor(world, "selector")
    old = decode(parse_certified(stale.value or b"").payload, Snapshot)
    _write(world, "selector", old)
    # What compaction would have taken is still there in memory.
    actor = open_actor(world, "selector")
    assert actor.opened.snapshot is not None
    assert actor.opened.snapshot.written.offset == old.offset
    assert actor.opened.decisions > newest.opened.decisions
    assert describe_opening(actor) == describe_opening(newest)


def test_an_opening_without_a_snapshot_leaves_one(world: Federation) -> None:
    """The digests that a replay passes are as good as those written: only the first opening is a long one."""
    before = _manifest(world, "aggregator")
    _write(world, "aggregator", b"no manifest")
    open_actor(world, "aggregator").work()
    assert _manifest(world, "aggregator").offset == before.offset
    assert open_actor(world, "aggregator").opened.snapshot is not None


def test_an_opening_that_passed_no_digest_stores_nothing(world: Federation) -> None:
    """A restart costs no snapshot of its own."""
    before = _records(world, SNAPSHOTS.name)
    open_actor(world, "selector").work()
    assert _records(world, SNAPSHOTS.name) == before


def test_a_digest_of_an_earlier_form_leaves_no_snapshot(world: Federation) -> None:
    """What the journal could not prove to the next opening is not stored by this one."""
    actor = assemble("selector", world.partition, log=world.log, key=role_key("selector"))
    actor._decider = dataclasses.replace(actor._decider, earlier=(lambda state: state,))

    digests = actor._digests

    def in_a_new_form(_: object) -> StateDigest:
        digests.undigested, digests.canonical = 0, b"the same state in a new form"
        return StateDigest(decisions=1, sha256=hashlib.sha256(digests.canonical).digest())

    digests.take = in_a_new_form  # type: ignore[method-assign]
    before = len(_records(world, SNAPSHOTS.name))
    actor.open(whole=True)
    actor.work()
    assert len(_records(world, SNAPSHOTS.name)) == before


def test_the_newest_digest_of_a_run_is_kept(world: Federation) -> None:
    """Several digests in one commit close a record each, and the snapshot is that of the last."""
    for number in range(11):
        world.device(f"n{number}").check_in()
    world.settle()
    ending = [record.offset for record in _records(world, SELECTIONS.name) if _digests(record)]
    assert _manifest(world, "selector").offset == ending[-1]
    actor = open_actor(world, "selector")
    assert actor.opened.snapshot is not None
    assert describe_opening(actor) == describe_opening(open_actor(world, "selector", whole=True))


def _digests(record: Record) -> bool:
    batch: Any = open_record(record.value or b"")
    events = [event for decision in getattr(batch, "decisions", ()) for event in decision.events]
    assert not any(isinstance(event, StateDigest) for event in events[:-1])
    return bool(events) and isinstance(events[-1], StateDigest)


def test_gauges_follow_a_snapshot(world: Federation) -> None:
    """What Prometheus shows after an opening does not depend on how the state came back."""
    for name in ("aggregator", "privacy"):
        shown = []
        for whole in (False, True):
            instruments = PrometheusInstruments()
            open_actor(world, name, whole=whole, observers=[ActorMetrics(ROLES[name], instruments)])
            shown.append(
                {
                    sample.name: sample.value
                    for metric in instruments.registry.collect()
                    for sample in metric.samples
                    if sample.name in SHOWN and sample.labels == {"task": world.task}
                }
            )
        assert shown[0] == shown[1]
        assert len(shown[0]) >= 2


PRIVACY = ("epsilon_spent", "rho_spent", "rho_left")
SHOWN = {"fedlog_version", "fedlog_buffer_fill", *(f"fedlog_privacy_{name}" for name in PRIVACY)}


# --- one that does not ----------------------------------------------------------------------------------------------


def _replaced(**changes: Any) -> Callable[[Federation, Snapshot], Snapshot]:
    return lambda _, manifest: msgspec.structs.replace(manifest, **changes)


def _altered(world: Federation, manifest: Snapshot) -> Snapshot:
    state = decode_state(_state(world, manifest), type(world.actors["selector"].state))
    state.tasks[world.task].devices.take_part("a", 7)
    return _stored(world, encode_state(state), manifest)


def _without_chunk(world: Federation, manifest: Snapshot) -> Snapshot:
    world.log.delete_records(TopicPartition(SNAPSHOTS.name, world.partition), manifest.body.offsets[0] + 1)
    return manifest


def _other_chunk(world: Federation, manifest: Snapshot) -> Snapshot:
    elsewhere = _stored(world, _state(world, manifest) + b"\x00", manifest).body
    return msgspec.structs.replace(manifest, body=msgspec.structs.replace(manifest.body, offsets=elsewhere.offsets))


def _at_record(kind: Callable[[Any], bool]) -> Callable[[Federation, Snapshot], Snapshot]:
    """The snapshot names the first such record of the journal, with its right digest."""

    def moved(world: Federation, manifest: Snapshot) -> Snapshot:
        record = next(one for one in _records(world, SELECTIONS.name) if kind(open_record(one.value or b"")))
        head = hashlib.sha256(record.value or b"").digest()
        return msgspec.structs.replace(manifest, offset=record.offset, record_sha256=head)

    return moved


def _by_a_stranger(world: Federation, manifest: Snapshot) -> Snapshot:
    copy = copy_as_stranger(world, SELECTIONS.name, manifest.offset)
    return msgspec.structs.replace(manifest, offset=copy.offset, record_sha256=hashlib.sha256(copy.value).digest())


def _plain_batch(record: Any) -> bool:
    return isinstance(record, Batch) and snapshots.closing_digest(record) is None


def _future(_: Federation, manifest: Snapshot) -> bytes:
    return encode({**msgspec.to_builtins(manifest, builtin_types=(bytes,)), "format": 2})


DAMAGES: dict[str, tuple[str, Callable[[Federation, Snapshot], Snapshot | bytes]]] = {
    "manifest cut short": ("", lambda _, manifest: encode(manifest)[:-1]),
    "manifest is junk": ("", lambda *_: b"\xc1"),
    "format of the future": ("Invalid enum value 2", _future),
    "another release": ("another release", _replaced(code=bytes(32))),
    "ahead of the journal": ("no record at offset 9999", _replaced(offset=9_999)),
    "another chain": ("another record", _replaced(record_sha256=bytes(32))),
    "a record without digest": ("does not end in a digest", _at_record(_plain_batch)),
    "a claim": ("no batch under a claim", _at_record(lambda record: isinstance(record, WriterClaimed))),
    "a stranger's record": ("did not sign", _by_a_stranger),
    "a marker": ("no record at offset", lambda _, it: msgspec.structs.replace(it, offset=it.offset + 1)),
    "another state under the digest": ("not that of the digest", _altered),
    "another size": ("declares", lambda _, it: msgspec.structs.replace(it, size=it.size + 1)),
    "a size for no machine": ("at most", _replaced(size=2**62)),
    "a body that is too long for its state": ("malformed ref", _replaced(size=7)),
    "a bomb": ("not that of the digest", lambda world, it: _stored(world, bytes(2**24), it)),
    "chunk missing": ("below the beginning", _without_chunk),
    "chunk of something else": ("other bytes|another size", _other_chunk),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_snapshot_that_does_not_hold_is_not_used(
    world: Federation, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Damaged, foreign, forged or from the future: the log says why, and the journal alone gives the state.

    No state takes memory before the journal has proven it: 98 kB that declared 3 GB took them.
    """
    why, damaged = DAMAGES[damage]
    expected = describe_opening(open_actor(world, "selector", whole=True))
    _write(world, "selector", damaged(world, _manifest(world, "selector")))
    monkeypatch.setattr(snapshots, "decompress", lambda *_: pytest.fail("opened, and not proven"))
    with structlog.testing.capture_logs() as said:
        actor = open_actor(world, "selector")
    assert actor.opened.snapshot is None
    assert describe_opening(actor) == expected
    [refused] = [line for line in said if line["event"] == "snapshot_not_used"]
    assert any(part in refused["why"] for part in why.split("|")), refused["why"]


def test_a_machine_without_the_memory_replays(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a snapshot does not fit into memory the journal alone gives the state."""
    expected = describe_opening(open_actor(world, "selector", whole=True))
    monkeypatch.setattr(snapshots, "decompress", lambda *_: bytes(2**62))
    actor = open_actor(world, "selector")
    assert (actor.opened.snapshot, describe_opening(actor)) == (None, expected)


def test_a_state_that_no_opening_would_take_is_not_stored(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that a reader has is the writer's too."""
    _write(world, "selector", b"no manifest")
    before = len(_records(world, SNAPSHOTS.name))
    monkeypatch.setattr(snapshots, "STATE_BYTES_MAX", 10)
    open_actor(world, "selector").work()
    assert len(_records(world, SNAPSHOTS.name)) == before


def test_no_flipped_byte_of_a_manifest_leads_astray(world: Federation) -> None:
    """Whatever byte of it is wrong, the state is right; where it is used all the same, the byte said nothing."""
    expected = describe_opening(open_actor(world, "selector", whole=True))
    manifest = encode(_manifest(world, "selector"))
    used = 0
    for at in range(len(manifest)):
        _write(world, "selector", manifest[:at] + bytes([manifest[at] ^ 1]) + manifest[at + 1 :])
        actor = open_actor(world, "selector")
        used += actor.opened.snapshot is not None
        assert describe_opening(actor) == expected, at
    assert used <= len("state")  # the name of its codec


def test_a_snapshot_that_cannot_be_stored_stops_nobody(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision stands, the next one is taken, and the older snapshot still serves."""
    before, selector = _manifest(world, "selector"), world.actors["selector"]
    append = world.log.append

    def away(drafts: Any) -> list[int]:
        if drafts[0].topic == SNAPSHOTS.name:
            raise LogUnavailable("no broker")
        return append(drafts)

    monkeypatch.setattr(world.log, "append", away)
    for number in range(9):
        world.device(f"n{number}").check_in()
        world.settle()
    assert _manifest(world, "selector") == before
    reborn = open_actor(world, "selector")
    assert (reborn.opened.snapshot is None, digest(reborn.state)) == (False, digest(selector.state))


# --- zombies --------------------------------------------------------------------------------------------------------


def _zombie(world: Federation) -> Actor[Any]:
    """A selector whose fence fails: the broker takes its commits after another one has claimed."""
    zombie = open_actor(world, "selector")
    zombie._journal._writer = world.log.writer("selector that nobody fences")
    world.start("selector")
    return zombie


def _crowd(world: Federation, actor: Actor[Any]) -> None:
    """Enough check-ins for a digest, to this actor alone."""
    for number in range(8):
        world.device(f"z{number}").check_in()
    at = TopicPartition(CHECKINS.name, world.partition)
    actor.handle([*scan(world.log, at, start=actor.find_expected(CHECKINS.name))])
    actor.work()


def test_a_writer_that_finds_another_claim_before_its_commit_stops(world: Federation) -> None:
    """Law 4: its batch is a zombie's, which no reader takes, and no snapshot of it is ever stored."""
    zombie, before = _zombie(world), _manifest(world, "selector")
    with pytest.raises(WriterFenced, match="another writer has claimed it"):
        _crowd(world, zombie)
    assert _manifest(world, "selector") == before
    assert not any(lease.device.startswith("z") for lease in world.events(SELECTIONS.name, LeaseGranted))


def test_a_snapshot_off_the_chain_is_given_up(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a zombie had stored one: what its successor wrote does not follow from it, so all is replayed."""
    monkeypatch.setattr(Journal, "_require_unclaimed", lambda *_, **__: None)
    zombie, before = _zombie(world), _manifest(world, "selector")
    _crowd(world, zombie)
    assert _manifest(world, "selector") != before
    monkeypatch.undo()
    world.settle()
    expected = describe_opening(world.actors["selector"])
    with structlog.testing.capture_logs() as said:
        actor = open_actor(world, "selector")
    assert [line["event"] for line in said] == ["snapshot_not_used"]
    assert actor.opened.snapshot is None
    assert describe_opening(actor) == expected


def test_a_writer_alone_reads_nothing_back(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its own transactions there is room for a marker only, so that the check costs nothing."""
    selector = world.start("selector")
    monkeypatch.setattr(world.log, "reader", lambda _: pytest.fail("the journal was read"))
    for _ in range(3):
        record = Record(
            CHECKINS.name, world.partition, selector.find_expected(CHECKINS.name), world.now_ms, None, b"\xc1"
        )
        selector.handle([record])


# --- the code that made one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["new below a folder", "changed below a folder", "moved"])
def test_code_in_a_folder_counts_too(tmp_path: Path, change: str) -> None:
    """A snapshot made by other code is not believed, wherever below the deciders or schemas that code stands."""
    package = tmp_path / "deciders"
    (package / "arithmetic").mkdir(parents=True)
    (package / "selector.py").write_text("a = 1\n")
    (package / "arithmetic" / "sums.py").write_text("b = 1\n")
    before = snapshots.digest_sources([package])
    if change == "new below a folder":
        (package / "arithmetic" / "noise.py").write_text("")
    elif change == "changed below a folder":
        (package / "arithmetic" / "sums.py").write_text("b = 2\n")
    else:
        (package / "arithmetic" / "sums.py").rename(package / "sums.py")
    assert snapshots.digest_sources([package]) != before
