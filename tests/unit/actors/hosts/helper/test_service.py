"""The tier masked, end to end over the in-memory log: what helpers answer for, and what becomes of a round without."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from actors.deciders.arithmetic import noise
from actors.deciders.arithmetic.sums import RunningSum, sum_digest
from actors.hosts.helper.store import EPOCHS
from ops.audit.findings import Findings
from ops.audit.replay import Anchor, Audit
from schemas.events import (
    EpochDestroyed,
    EpochOpened,
    MaskKeyOpened,
    MasksRefused,
    MasksSummed,
    ModelPublished,
    RoundAbandoned,
    RoundBound,
    RoundProposed,
    SumStored,
    UpdateAdmitted,
)
from schemas.journal import JournalPosition
from schemas.leases import read_lease
from schemas.masking.ring import RING
from schemas.masking.statements import HelperSaid, sign_said
from schemas.tensors import Grid, encode_update, read_update
from schemas.tensors.clipping import clip_scale
from schemas.topics import BODIES, CATALOGUE, MASKS, ROUNDS, UPDATES
from streams.bodies import store
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import KEY, batch
from tests.worlds.federation import describe_opening, open_actor
from tests.worlds.masking.federation import MaskedFederation, masked_policy
from tests.worlds.ops_journal import journalled

ONES = np.ones(4, np.float32)
# The last is beyond the clip of 8.
THREE = {"a": ONES, "b": ONES * -2.5, "c": ONES * 12}


@pytest.fixture
def world(tmp_path: Path) -> MaskedFederation:
    """Two helpers, three devices a round."""
    return MaskedFederation(masked_policy(tmp_path), tmp_path)


def _replay(world: MaskedFederation) -> Findings:
    """By somebody who has none of the helpers' keys."""
    return Audit(world.log, world.partition, anchor=Anchor(operator=KEY.public_key, noise=None), full=True).run()


def _sum_plainly(world: MaskedFederation, deltas: dict[str, np.ndarray], *, weight: int = 15) -> Grid:
    """What the aggregator of a plain task adds up of the same updates, under the same weights."""
    running = RunningSum(4)
    for delta in deltas.values():
        quanta = read_update(encode_update(np.asarray(delta, np.float32), world.rules), world.rules, parameters=4)
        running.add(quanta, weight=weight, scale=clip_scale(quanta, world.rules.clipping.steps))
    return running.total()


def _versions(world: MaskedFederation) -> list[int]:
    return [event.version for event in world.events(ROUNDS.name, ModelPublished)]


@pytest.mark.parametrize("helpers", [1, 2])
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "chunks"])
def test_a_masked_round_gives_the_sum_that_a_plain_one_gives(tmp_path: Path, inline: bool, helpers: int) -> None:
    """Masks come off to the last bit: the sum is that of the plain tier, clipped by the device as a server clips."""
    world = MaskedFederation(masked_policy(tmp_path, helpers=helpers), tmp_path)
    world.round_of(THREE, inline=inline)
    [stored] = world.events(ROUNDS.name, SumStored)
    assert stored.sum_sha256 == sum_digest(_sum_plainly(world, THREE))
    assert _versions(world) == [0, 1]
    assert [event.weight for event in world.events(ROUNDS.name, UpdateAdmitted)] == [15, 15, 15]
    assert not check(world.log, world.partition, settled=True)


def test_no_update_and_no_secret_is_in_any_topic(world: MaskedFederation) -> None:
    """Law 7 for masked tasks: the log has neither what a device learned nor what opens it."""
    delta = np.array([0.25, -0.5, 0.125, 1.0], np.float32)
    world.round_of({"a": delta, "b": ONES * 2, "c": ONES * 3})
    places = [TopicPartition(topic.name, number) for topic in CATALOGUE for number in range(world.log.partitions)]
    everything = b"".join((record.value or b"") for place in places for record in scan(world.log, place))
    plain = encode_update(delta, world.rules)
    grid = read_update(plain, world.rules, parameters=4).grid()
    secrets = [file.read_bytes() for file in world.folder.glob(f"*/{EPOCHS}/*.key")]
    assert len(secrets) == 2
    for hidden in (plain, delta.tobytes(), grid.astype("<i4").tobytes(), grid.astype("<u4").tobytes(), *secrets):
        assert hidden not in everything


def test_replay_needs_no_helper(world: MaskedFederation) -> None:
    """Mask sums are events and bodies: whoever holds no key of a helper recomputes every sum and model."""
    world.round_of(THREE)
    world.round_of(THREE)
    for number in range(2):
        world.stop_helper(number)
    found = _replay(world)
    assert (found.verdict, found.sums, found.compared) == ("identical", 2, 2)


def test_a_helper_that_is_away_delays_a_round(world: MaskedFederation) -> None:
    """Its input is in the log: it answers when it is back, and until then nothing is given up."""
    world.check_in("a", "b", "c")
    world.stop_helper(1)
    for name, delta in THREE.items():
        world.submit(name, delta)
    world.settle()
    world.pass_ms(3_600_000)
    assert _versions(world) == [0]
    assert world.events(ROUNDS.name, RoundAbandoned) == []
    world.start_helper(1)
    world.settle()
    assert _versions(world) == [0, 1]


def test_a_private_round_is_answered_for_once_it_is_charged(tmp_path: Path) -> None:
    """With privacy the ledger comes first; the noise is the aggregator's, and a replay with its key draws it again."""
    rules = masked_policy(
        tmp_path,
        masked={"noise": "aggregator"},
        privacy={"noise_multiplier": 1.0, "rho_max": 9.0},
        stop={"versions_max": 9},
    )
    world = MaskedFederation(rules, tmp_path)
    world.check_in("a", "b", "c")
    budget = world.actors.pop("privacy")
    for name, delta in THREE.items():
        world.submit(name, delta)
    world.settle()
    assert world.said(RoundBound) == []
    world.actors["privacy"] = budget
    world.settle()
    assert _versions(world) == [0, 1]
    [stored] = world.events(ROUNDS.name, SumStored)
    assert stored.sum_sha256 == sum_digest(_sum_plainly(world, THREE))
    anchor = Anchor(operator=KEY.public_key, noise=KEY.find_noise)
    found = Audit(world.log, world.partition, anchor=anchor, full=True).run()
    assert (found.verdict, found.sums, found.compared, found.charges) == ("identical", 1, 1, 1)
    assert not check(world.log, world.partition, settled=True)


def test_helpers_draw_the_noise_and_nobody_has_the_sum(tmp_path: Path) -> None:
    """Each the whole of it: what the aggregator unmasks has both draws on it, and a replay needs nobody's key."""
    rules = masked_policy(
        tmp_path,
        masked={"noise": "helpers"},
        privacy={"noise_multiplier": 1.0, "rho_max": 9.0},
        stop={"versions_max": 9},
    )
    world = MaskedFederation(rules, tmp_path)
    world.round_of(THREE)
    world.round_of(THREE)
    assert _versions(world) == [0, 1, 2]
    plain, proposals = _sum_plainly(world, THREE), world.events(ROUNDS.name, RoundProposed)
    for stored, proposed in zip(world.events(ROUNDS.name, SumStored), proposals, strict=True):
        draws = [noise.draw(kept.noise_key, proposed, parameters=4) for kept in world.stores.values()]
        assert all(draw.any() for draw in draws)
        assert (draws[0] != draws[1]).any()
        assert stored.sum_sha256 == sum_digest(plain + sum(draws))
        assert stored.sum_sha256 not in {sum_digest(plain), sum_digest(plain + draws[0]), sum_digest(plain + draws[1])}
    found = _replay(world)
    assert (found.verdict, found.sums, found.compared, found.charges) == ("identical", 2, 2, 2)
    assert not check(world.log, world.partition, settled=True)


def test_an_aggregator_opens_with_what_it_had_heard(world: MaskedFederation) -> None:
    """Masks and keys are state: with one helper's answer and not the other's, any opening knows the same."""
    world.check_in("a", "b", "c")
    world.stop_helper(1)
    for name, delta in THREE.items():
        world.submit(name, delta)
    world.settle()
    old = world.actors["aggregator"]
    [pending] = old.state.tasks[world.task].pending
    assert [*pending.masks] == [0]
    assert describe_opening(open_actor(world, "aggregator")) == describe_opening(
        open_actor(world, "aggregator", whole=True)
    )
    world.start("aggregator")
    world.start_helper(1)
    world.settle()
    assert _versions(world) == [0, 1]


class Died(Exception):
    """The helper is dead."""


def _die_at(step: str, time: int = 1) -> Callable[[str], None]:
    seen: list[str] = []

    def note(what: str) -> None:
        seen.append(what)
        if seen.count(step) == time and what == step:
            raise Died

    return note


@pytest.mark.parametrize("step", ["made", "shown", "cosigned", "kept", "said", "bound", "stored"])
@pytest.mark.parametrize("time", [1, 2])
def test_a_helper_may_die_at_each_step(tmp_path: Path, step: str, time: int) -> None:
    """Wherever it dies, the next one goes on from its folder: the same versions, and one answer for each round."""
    world = MaskedFederation(masked_policy(tmp_path, masked={"epoch_versions": 1}), tmp_path)
    world.start_helper(1, _die_at(step, time))
    deaths = 0
    for _ in range(3):
        for name in THREE:
            world.device(name).check_in()
        deaths += _settle_through(world)
        for name, delta in THREE.items():
            world.submit(name, delta)
        deaths += _settle_through(world)
    assert deaths == 1
    assert _versions(world) == [0, 1, 2, 3]
    assert {event.sum_sha256 for event in world.events(ROUNDS.name, SumStored)} == {
        sum_digest(_sum_plainly(world, THREE))
    }
    bound = {(event.helper, event.round): event.proposal for event in world.said(RoundBound)}
    assert len(bound) == 6
    assert {(e.helper, e.round): e.proposal for e in world.said(MasksSummed)} == bound
    assert _replay(world).verdict == "identical"


def _settle_through(world: MaskedFederation) -> int:
    try:
        world.settle()
    except Died:
        world.start_helper(1)
        world.settle()
        return 1
    return 0


def test_other_keys_come_with_the_versions_and_old_ones_go(tmp_path: Path) -> None:
    """An epoch serves for its versions; after its last lease its keys are in no folder any more."""
    world = MaskedFederation(masked_policy(tmp_path, masked={"epoch_versions": 1}), tmp_path)
    for _ in range(3):
        world.round_of(THREE)
    assert [event.epoch for event in world.events(ROUNDS.name, EpochOpened)] == [0, 1, 2, 3]
    assert {event.epoch for event in world.events(ROUNDS.name, UpdateAdmitted)} == {0, 1, 2}
    world.pass_ms(round(world.rules.selection.lease_s * 1000) + 120_000)
    assert [event.epoch for event in world.events(ROUNDS.name, EpochDestroyed)] == [0, 1, 2]
    assert len([*tmp_path.glob(f"*/{EPOCHS}/*.key")]) == 2
    world.round_of(THREE)
    assert _versions(world) == [0, 1, 2, 3, 4]


def test_a_lost_key_abandons_what_needs_it(world: MaskedFederation) -> None:
    """Without the key nobody takes these masks off: the round is given up, says so, and another epoch begins."""
    world.check_in("a", "b", "c")
    world.submit("a", ONES)
    world.settle()
    shutil.rmtree(world.folder / "1" / EPOCHS)
    world.start_helper(1)
    world.settle()
    assert [event.reason for event in world.events(ROUNDS.name, EpochDestroyed)] == ["lost"]
    assert [event.reason for event in world.events(ROUNDS.name, RoundAbandoned)] == ["epoch_lost"]
    world.round_of({"d": ONES, "e": ONES, "f": ONES})
    assert _versions(world) == [0, 1]


def test_a_folder_that_is_behind_its_own_words_answers_no_more(world: MaskedFederation, tmp_path: Path) -> None:
    """An old copy has forgotten what it was bound to: it refuses every round, also after it is started again."""
    shutil.copytree(world.folder / "1", tmp_path / "copy")
    world.round_of(THREE)
    world.stop_helper(1)
    shutil.rmtree(world.folder / "1")
    shutil.copytree(tmp_path / "copy", world.folder / "1")
    for _ in range(2):
        world.start_helper(1)
        world.round_of(THREE)
    assert {event.reason for event in world.said(MasksRefused)} == {"store_behind"}
    assert [event.reason for event in world.events(ROUNDS.name, RoundAbandoned)] == ["masks_refused"] * 2
    assert _versions(world) == [0, 1]


def test_an_update_whose_seed_does_not_open_costs_its_round(world: MaskedFederation) -> None:
    """A helper cannot take off a mask that it does not know: it says whose, and the next round goes on without."""
    world.check_in("a", "b", "c")
    sent = world.mask("a", ONES)
    swapped = type(sent)(sent.envelope, sent.seals[::-1])
    world.send(world.device("a"), swapped)
    world.submit("b", ONES)
    world.submit("c", ONES)
    world.settle()
    refused = world.said(MasksRefused)
    assert {event.reason for event in refused} == {"seal"}
    blamed = read_lease(world.device("a").granted().sealed).lease
    assert {event.updates for event in refused} == {(blamed,)}
    assert [event.reason for event in world.events(ROUNDS.name, RoundAbandoned)] == ["masks_refused"]
    world.round_of({"d": ONES, "e": ONES, "f": ONES})
    assert _versions(world) == [0, 1]


@pytest.mark.parametrize("what", ["no seals", "one seal", "short seal", "a word too long", "compressed"])
def test_what_cannot_be_a_masked_update_is_refused_at_the_door(world: MaskedFederation, what: str) -> None:
    """Shape and number are seen by the aggregator, so that such a one costs nobody else anything."""
    world.check_in("a")
    sent = world.mask("a", ONES)
    assert sent.envelope is not None
    envelope, seals = sent.envelope, sent.seals
    match what:
        case "no seals":
            seals = ()
        case "one seal":
            seals = seals[:1]
        case "short seal":
            seals = (seals[0][:-1], seals[1])
        case "a word too long":
            envelope += bytes(4)
        case "compressed":
            envelope = encode_update(ONES, world.rules)
    world.send(world.device("a"), type(sent)(envelope, seals))
    world.settle()
    assert world.events(ROUNDS.name, UpdateAdmitted) == []


def _speak_as(world: MaskedFederation, number: int, event: MasksSummed | MasksRefused) -> None:
    """A helper that lies, with its own key."""
    said = HelperSaid(deployment=world.created.deployment, seq=99, prev=bytes(32), event=event)
    world.append(MASKS.name, sign_said(said, world.stores[number].key))


@pytest.mark.parametrize("lie", ["absent", "too long", "garbage", "elsewhere"])
def test_a_helper_that_lies_costs_the_round_and_stops_nobody(world: MaskedFederation, lie: str) -> None:
    """Whatever a helper stores, the aggregator goes on; what gives no possible sum is no version."""
    world.check_in("a", "b", "c")
    kept, other = world.stores[1], world.helpers.pop(1)
    for name, delta in THREE.items():
        world.submit(name, delta)
    world.settle()
    [honest] = world.said(MasksSummed)
    data = {"garbage": b"\x55\x55\x55\x55" * 4, "too long": bytes(20)}.get(lie, bytes(16))
    at = TopicPartition(UPDATES.name if lie == "elsewhere" else BODIES.name, world.partition)
    ref = store(world.log, at, data=data, upload_id="lie", codec=RING)
    if lie == "absent":
        ref = msgspec.structs.replace(ref, offsets=(ref.offsets[0] + 100,))
    _speak_as(world, 1, msgspec.structs.replace(honest, helper=1, body=ref))
    world.settle()
    other.close()
    assert kept.public_key
    assert [event.reason for event in world.events(ROUNDS.name, RoundAbandoned)] == ["masks_unusable"]
    assert _versions(world) == [0]


def test_a_journal_that_is_off_its_chain_stops_no_helper(world: MaskedFederation) -> None:
    """Its own tasks wait; the process lives on for those of other partitions, whose journals are whole."""
    world.check_in("a", "b", "c")
    broken = batch(JournalPosition(claim=9_999))
    world.append(ROUNDS.name, journalled(broken, ROUNDS.name, world.partition))
    said = len(world.said())
    for _ in range(2):
        assert world.helpers[0].step(0.0) <= 1
    assert [each.is_broken for each in world.helpers[0]._followed.values()] == [True]
    assert len(world.said()) == said


def test_nobody_speaks_for_a_helper(world: MaskedFederation) -> None:
    """What another key signs, or one helper says under the other's number, is dropped."""
    before = len(world.events(ROUNDS.name))
    [opened, _] = world.said(MaskKeyOpened)
    for helper, number in ((1, 0), (0, 1)):
        said = HelperSaid(
            deployment=world.created.deployment,
            seq=0,
            prev=bytes(32),
            event=msgspec.structs.replace(opened, helper=helper, epoch=1),
        )
        world.append(MASKS.name, sign_said(said, world.stores[number].key))
    world.settle()
    assert [type(event).__name__ for event in world.events(ROUNDS.name)[before:]] == ["InputsDropped"]
