"""The tier sealed, end to end over the in-memory log: who can open what, and for how long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET

from actors.effects.sealing.epoch_keys import EpochKeys, EpochKeysUnusable
from ops.audit.findings import Findings
from ops.audit.replay import Anchor, Audit
from schemas.events import (
    CheckinsDeclined,
    EpochDestroyed,
    EpochOpened,
    ModelPublished,
    RoundAbandoned,
    RoundProposed,
    SumStored,
    UpdateAdmitted,
)
from schemas.tensors import encode_update
from schemas.topics import CATALOGUE, ROUNDS, SELECTIONS, UPDATES
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import KEY
from tests.worlds.federation import Federation, find_refusals
from tests.worlds.sealing.federation import SealedFederation, seal_as, sealed_policy

ONES = np.ones(4, np.float32)
THREE = {"a": ONES, "b": ONES * 2, "c": ONES * 3}
KEPT = {"kept_s": 3600.0}


def _replay(world: Federation, keys: EpochKeys) -> Findings:
    anchor = Anchor(operator=KEY.public_key, noise=KEY.find_noise, epochs=keys)
    return Audit(world.log, world.partition, anchor=anchor, full=True).run()


def _read_all(world: Federation) -> bytes:
    """Every byte of every topic."""
    places = [TopicPartition(topic.name, number) for topic in CATALOGUE for number in range(world.log.partitions)]
    return b"".join((record.value or b"") for place in places for record in scan(world.log, place))


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "chunks"])
def test_a_sealed_round_gives_the_version_that_a_plain_one_gives(tmp_path: Path, inline: bool) -> None:
    """The seal stands between body and codec: sum and model are bit for bit those of the plain tier."""
    sealed = SealedFederation(sealed_policy(), tmp_path / "keys")
    sealed.round_of(THREE, inline=inline)
    plain = Federation(sealed_policy(tier="plain"))
    plain.round_of(THREE)
    [theirs], [ours] = plain.events(ROUNDS.name, SumStored), sealed.events(ROUNDS.name, SumStored)
    assert ours.sum_sha256 == theirs.sum_sha256
    versions = [world.events(ROUNDS.name, ModelPublished)[-1] for world in (plain, sealed)]
    assert versions[0].version == 1
    assert versions[0].model.sha256 == versions[1].model.sha256
    assert [event.epoch for event in sealed.events(ROUNDS.name, UpdateAdmitted)] == [0, 0, 0]
    assert not check(sealed.log, sealed.partition, settled=True, sums=sealed.epoch_keys)


def test_no_body_and_no_secret_is_in_any_topic(tmp_path: Path) -> None:
    """Law 7 for sealed tasks: the log has neither what a device sent nor what opens it."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    delta = np.array([0.25, -0.5, 0.125, 1.0], np.float32)
    world.round_of({"a": delta, "b": ONES * 2, "c": ONES * 3})
    everything = _read_all(world)
    assert encode_update(delta, world.rules) not in everything
    assert delta.tobytes() not in everything
    [file] = (tmp_path / "keys").glob("*.key")
    secret = file.read_bytes()
    assert not any(part in everything for part in (secret, secret[:32], secret[32:64], secret[64:]))


def test_replay_is_identical_while_the_key_is_there_and_says_so_once_it_is_gone(tmp_path: Path) -> None:
    """Full replay names each version that nobody can recompute any more, and still checks everything else."""
    world = SealedFederation(sealed_policy(stop={"versions_max": 2}, sealed=KEPT), tmp_path / "keys")
    world.round_of(THREE)
    world.round_of(THREE)
    found = _replay(world, EpochKeys(tmp_path / "keys"))
    assert (found.verdict, found.sums, found.compared) == ("identical", 2, 2)
    world.pass_ms(3_600_000)
    assert [event.reason for event in world.events(ROUNDS.name, EpochDestroyed)] == ["over"]
    assert not world.list_held()
    found = _replay(world, EpochKeys(tmp_path / "keys"))
    assert found.verdict == "identical, as far as it could be checked: 0 of 2 models"
    assert [("task/" in name or "/" in name, "key of epoch 0" in name) for name in found.unchecked] == [
        (True, True)
    ] * 2


@pytest.mark.parametrize("what", ["another lease", "another device", "no seal", "another task's key"])
def test_a_sealed_body_counts_under_its_own_lease_alone(tmp_path: Path, what: str) -> None:
    """A body that is moved, whoever moves it, opens nowhere: its update is refused, and the round goes on."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    other = SealedFederation(sealed_policy(), tmp_path / "other", task="other")
    [own, theirs] = world.check_in("a", "b")
    [strange] = other.check_in("a")
    body = encode_update(ONES, world.rules)
    sent = {
        "another lease": seal_as(theirs, world.created, body),
        "another device": seal_as(theirs, world.created, body),
        "no seal": body,
        "another task's key": seal_as(strange, other.created, body),
    }[what]
    mover = world.device("a")
    mover.submit_body(sent, codec="float32", lease=own, inline=what != "another device")
    world.settle()
    assert find_refusals(world) == ["not_opened"]


def test_the_same_bytes_under_two_leases_are_measured_for_each(tmp_path: Path) -> None:
    """That a body opened under its own lease proves nothing for another that names the same place in the log."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    [own, theirs] = world.check_in("a", "b")
    sent = seal_as(own, world.created, encode_update(ONES, world.rules))
    for name, lease in (("a", own), ("b", theirs)):
        world.device(name).submit_body(sent, codec="float32", lease=lease, inline=False)
    world.settle()
    assert [event.device for event in world.events(ROUNDS.name, UpdateAdmitted)] == [world.device("a").id]
    assert find_refusals(world) == ["not_opened"]


def test_with_privacy_a_body_that_opens_nowhere_counts_as_zero(tmp_path: Path) -> None:
    """Law 9: with privacy nothing about a body refuses, neither that nobody can open it."""
    rules = sealed_policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0}, stop={"versions_max": 9})
    world = SealedFederation(rules, tmp_path / "keys")
    [own] = world.check_in("a")
    world.device("a").submit_body(b"no seal", codec="float32", lease=own)
    world.settle()
    assert [event.zeroed for event in world.events(ROUNDS.name, UpdateAdmitted)] == ["not_opened"]


def test_metrics_travel_inside_and_journals_hold_their_sums(tmp_path: Path) -> None:
    """What one device reports stands nowhere in the log; the sums of a round stand beside its sum."""
    rules = sealed_policy(evaluation={"report": ["loss"]}, sealed=KEPT)
    world = SealedFederation(rules, tmp_path / "keys")
    world.check_in(*THREE)
    for number, (name, delta) in enumerate(THREE.items()):
        world.submit(name, delta, metrics=(65_536 * (number + 1),))
        # A restart in the middle of a round opens again what has been opened before.
        world.start("aggregator")
    world.settle()
    assert [event.metrics for event in world.events(ROUNDS.name, UpdateAdmitted)] == [(), (), ()]
    assert world.events(ROUNDS.name, RoundProposed)[0].metrics is None
    [stored] = world.events(ROUNDS.name, SumStored)
    assert (stored.metrics.sums, stored.metrics.samples) == ((6 * 7 * 65_536,), 21)
    assert _replay(world, EpochKeys(tmp_path / "keys")).verdict == "identical"


def test_a_key_serves_for_its_versions_and_goes_after_the_last_lease(tmp_path: Path) -> None:
    """Epochs turn by version, and the key before lives until no lease and no round can need it."""
    rules = sealed_policy(sealed={"epoch_versions": 1}, selection={"lease_s": 60.0})
    world = SealedFederation(rules, tmp_path / "keys")
    [late] = world.check_in("late")
    world.round_of(THREE)
    assert [event.epoch for event in world.events(ROUNDS.name, EpochOpened)] == [0, 1]
    assert world.list_held() == [0, 1]
    # Still good under the key before, for as long as its lease lasts.
    world.pass_ms(30_000)
    sent = seal_as(late, world.created, encode_update(ONES, rules))
    world.device("late").submit_body(sent, codec="float32", lease=late)
    world.settle()
    assert world.events(ROUNDS.name, UpdateAdmitted)[-1].epoch == 0
    # It is in an open round, whose sum may have to be made again from the bodies.
    world.pass_ms(600_000)
    assert world.list_held() == [0, 1]
    world.start("aggregator")
    world.round_of({"a": ONES, "b": ONES})
    assert [event.epoch for event in world.events(ROUNDS.name, EpochDestroyed)] == [0]
    assert world.list_held() == [1, 2]
    assert not check(world.log, world.partition, settled=True, sums=world.epoch_keys)


def test_an_update_after_its_epoch_is_refused(tmp_path: Path) -> None:
    """A selector that goes on leasing under a key that is over keeps nothing alive by that."""
    world = SealedFederation(sealed_policy(sealed={"epoch_versions": 1}), tmp_path / "keys")
    [late] = world.check_in("late")
    world.round_of(THREE)
    world.pass_ms(600_000)
    assert world.list_held() == [1]
    sent = seal_as(late, world.created, encode_update(ONES, world.rules))
    world.device("late").submit_body(sent, codec="float32", lease=late)
    world.settle()
    assert find_refusals(world) == ["expired"]


def test_a_lost_key_abandons_its_rounds_and_the_task_goes_on(tmp_path: Path) -> None:
    """Without the key nothing is waited for: the round says why it is given up, and another key takes over."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    world.round_of({"a": ONES, "b": ONES})
    [lost] = world.check_in("c")
    for file in (tmp_path / "keys").glob("*.key"):
        file.unlink()
    world.start("aggregator")
    world.settle()
    [abandoned] = world.events(ROUNDS.name, RoundAbandoned)
    assert (abandoned.reason, abandoned.members) == ("epoch_lost", 2)
    assert [event.reason for event in world.events(ROUNDS.name, EpochDestroyed)] == ["lost"]
    sent = seal_as(lost, world.created, encode_update(ONES, world.rules))
    world.device("c").submit_body(sent, codec="float32", lease=lost)
    world.settle()
    assert find_refusals(world) == ["epoch_over"]
    # Whoever was in the round that is gone may be in the next one.
    world.round_of({"a": ONES, "b": ONES, "d": ONES})
    assert world.events(ROUNDS.name, ModelPublished)[-1].version == 1
    assert not check(world.log, world.partition, settled=True, sums=world.epoch_keys)


def test_a_key_that_vanishes_under_way_refuses_and_opens_the_next(tmp_path: Path) -> None:
    """An aggregator that has not opened a body yet finds out at the first, and never waits."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    world.check_in("a")
    keys = world.actors["aggregator"]._effects._turning.keys
    keys.destroy(world.created, 0)
    world.submit("a", ONES)
    world.settle()
    assert find_refusals(world) == ["epoch_over"]
    assert [event.epoch for event in world.events(ROUNDS.name, EpochOpened)] == [0, 1]


def test_no_lease_without_a_key(tmp_path: Path) -> None:
    """A sealed task whose aggregator has opened no epoch yet grants nothing, and asks devices to come again."""
    world = SealedFederation(sealed_policy(), tmp_path / "keys")
    selector = world.actors["selector"].state.tasks[world.task]
    selector.epochs.clear()
    world.device("a").check_in()
    world.settle()
    [declined] = world.events(SELECTIONS.name, CheckinsDeclined)
    assert declined.counts == {"no_model": 1}


def test_a_death_between_file_and_journal_finds_the_same_key(tmp_path: Path) -> None:
    """The file is there before the event: the next life of the aggregator opens the epoch with it, and no second."""
    keys = EpochKeys(tmp_path / "keys")
    world = SealedFederation(sealed_policy(), tmp_path / "early")
    first = keys.make(world.created, 0).public_key
    assert EpochKeys(tmp_path / "keys").make(world.created, 0).public_key == first
    assert len(list((tmp_path / "keys").glob("*.key"))) == 1


def test_a_task_that_ends_destroys_its_keys(tmp_path: Path) -> None:
    """After the last round no lease counts, so that nothing keeps a key."""
    world = SealedFederation(sealed_policy(stop={"versions_max": 1}), tmp_path / "keys")
    world.round_of(THREE)
    assert not world.list_held()
    assert not list((tmp_path / "keys").glob("*.key"))
    destroyed = world.events(ROUNDS.name, EpochDestroyed)
    assert [(event.epoch, event.reason) for event in destroyed] == [(0, "over")]


def test_a_plain_task_knows_no_epochs() -> None:
    """The tier plain has the leases, updates and states that it had."""
    world = Federation(sealed_policy(tier="plain"))
    world.round_of(THREE)
    assert world.device("a").granted().epoch_key is UNSET
    assert world.actors["aggregator"].state.tasks[world.task].epochs is UNSET
    assert not world.events(ROUNDS.name, EpochOpened)
    assert list(scan(world.log, TopicPartition(UPDATES.name, world.partition)))


def test_a_key_is_destroyed_where_it_lies(tmp_path: Path) -> None:
    """Guarantee: a key that is due to go is not called destroyed while its folder is away."""
    world = SealedFederation(sealed_policy(sealed={"epoch_versions": 1}, stop={"versions_max": 9}), tmp_path / "keys")
    world.round_of(THREE)
    (tmp_path / "keys").rename(tmp_path / "away")
    with pytest.raises(EpochKeysUnusable):
        world.pass_ms(3_600_000)
    assert not world.events(ROUNDS.name, EpochDestroyed)
    (tmp_path / "away").rename(tmp_path / "keys")
    world.start("aggregator")
    world.pass_ms(1)
    destroyed = world.events(ROUNDS.name, EpochDestroyed)
    assert [event.epoch for event in destroyed if event.reason == "over"][:1] == [0]
    assert not {event.epoch for event in destroyed} & {*world.list_held()}


def test_a_death_between_file_and_journal_loses_no_key(tmp_path: Path) -> None:
    """Guarantee: a key that went when its time had come is over, whenever its deleter died, and is not called lost."""
    world = SealedFederation(sealed_policy(sealed={"epoch_versions": 1}, stop={"versions_max": 9}), tmp_path / "keys")
    world.round_of(THREE)
    EpochKeys(tmp_path / "keys").destroy(world.created, 0)
    # The tick by which it was deleted is in no batch, so that the next life begins at an earlier time.
    world.start("aggregator")
    assert not world.events(ROUNDS.name, EpochDestroyed)
    world.round_of(THREE)
    world.pass_ms(200_000)
    destroyed = world.events(ROUNDS.name, EpochDestroyed)
    assert (destroyed[0].epoch, destroyed[0].reason) == (0, "over")
    assert "lost" not in {event.reason for event in destroyed}
    assert not world.events(ROUNDS.name, RoundAbandoned)


def test_another_folder_is_said_and_takes_no_round_along(tmp_path: Path) -> None:
    """Guarantee: who is told of a wrong folder says so, and neither gives up a round nor calls a key destroyed."""
    world = SealedFederation(sealed_policy(stop={"versions_max": 9}), tmp_path / "keys")
    world.check_in(*THREE)
    world.submit("a", ONES)
    world.settle()
    before = world.journal(ROUNDS.name)
    world.epoch_keys = tmp_path / "another"
    with pytest.raises(EpochKeysUnusable, match="never held the key of epoch 0"):
        world.start("aggregator")
    assert world.journal(ROUNDS.name) == before
    world.epoch_keys = tmp_path / "keys"
    world.start("aggregator")
    for name in ("b", "c"):
        world.submit(name, ONES)
    world.settle()
    assert not world.events(ROUNDS.name, RoundAbandoned)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]
