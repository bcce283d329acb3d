"""Which model stands under a version's number: each helper co-signs one for ever, and no lease leads to any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from client_agent.answers import find_seal_objection
from ops.audit.verification import Verification
from schemas.events import (
    CosignatureHeard,
    Declined,
    Granted,
    MasksRefused,
    ModelCosigned,
    ModelPublished,
    ModelRefused,
    TaskHalted,
)
from schemas.leases import read_lease
from schemas.masking.statements import digest_said
from schemas.topics import MASKS, ROUNDS
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import KEY
from tests.worlds.forging import forge_event
from tests.worlds.masking.federation import MaskedFederation, masked_policy

THREE = dict.fromkeys("abc", np.ones(4, np.float32))
HOUR_MS = 3_600_000


def _make(folder: Path, *, staleness: int = 4) -> MaskedFederation:
    rules = masked_policy(
        folder, staleness={"max_versions": staleness}, stop={"versions_max": 9, "idle_s": 10 * HOUR_MS / 1000}
    )
    return MaskedFederation(rules, folder)


class Died(Exception):
    """The helper is dead."""


def _publish_without(world: MaskedFederation, number: int) -> None:
    """A version is published, and this helper dies before it can say anything of it."""

    def die(step: str) -> None:
        if step == "shown":
            raise Died

    world.start_helper(number, die)
    with pytest.raises(Died):
        world.round_of(THREE)
    world.stop_helper(number)
    world.settle()


def _ask(world: MaskedFederation, name: str) -> Granted | Declined:
    world.device(name).check_in()
    world.settle()
    answer = world.device(name).answers()[-1]
    assert isinstance(answer, Granted | Declined)
    return answer


def _object(world: MaskedFederation, granted: Granted) -> str | None:
    """What a device of this task says against the answer."""
    return find_seal_objection(world.created, granted, lease=read_lease(granted.sealed), pinned=frozenset())


def test_each_helper_cosigns_each_version_once(tmp_path: Path) -> None:
    """One word a helper and version, with the checkpoint behind it; every lease brings all of them, and holds."""
    world = _make(tmp_path)
    for _ in range(3):
        world.round_of(THREE)
    published = {event.version: event.model.sha256 for event in world.events(ROUNDS.name, ModelPublished)}
    words = world.said(ModelCosigned)
    assert sorted((word.helper, word.version) for word in words) == [(j, v) for j in (0, 1) for v in range(4)]
    assert {word.version: word.model_sha256 for word in words} == published
    assert all(word.seen.seq > 0 for word in words if word.version)
    [granted] = world.check_in("a")
    assert read_lease(granted.sealed).version == 3
    assert _object(world, granted) is None
    heard = len(world.events(ROUNDS.name, CosignatureHeard))
    # Said again, as by a helper that is not sure whether it was heard, it is nothing new.
    for record in [*scan(world.log, TopicPartition(MASKS.name, world.partition))]:
        world.append(MASKS.name, record.value or b"")
    world.settle()
    assert heard == len(world.events(ROUNDS.name, CosignatureHeard)) == 8
    assert not check(world.log, world.partition, settled=True)


@pytest.mark.parametrize("staleness", [0, 4])
def test_a_helper_that_is_away_delays_what_is_trained_from_a_new_version(tmp_path: Path, staleness: int) -> None:
    """For an hour: devices are told why where they have to wait, go on from what is co-signed, and nothing is lost."""
    world = _make(tmp_path, staleness=staleness)
    _publish_without(world, 1)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]
    answer = _ask(world, "d")
    if staleness == 0:
        assert isinstance(answer, Declined)
        assert answer.reason == "not_cosigned"
    else:
        assert isinstance(answer, Granted)
        assert read_lease(answer.sealed).version == 0
        assert _object(world, answer) is None
    world.pass_ms(HOUR_MS)
    assert world.events(ROUNDS.name, TaskHalted) == []
    world.start_helper(1)
    world.settle()
    answer = _ask(world, "e")
    assert isinstance(answer, Granted)
    assert (read_lease(answer.sealed).version, _object(world, answer)) == (1, None)
    world.round_of(dict.fromkeys("fgh", np.ones(4, np.float32)))
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1, 2]
    assert not check(world.log, world.partition, settled=True)


def test_a_lease_in_flight_is_answered_with_the_words_of_its_own_version(tmp_path: Path) -> None:
    """A device that asks again while others have gone on gets its lease with what was co-signed of that model."""
    world = _make(tmp_path)
    [first] = world.check_in("slow")
    world.round_of(THREE)
    again = _ask(world, "slow")
    assert isinstance(again, Granted)
    assert (again.sealed, again.cosigned) == (first.sealed, first.cosigned)
    assert _object(world, again) is None


def test_an_aggregator_that_shows_two_models_gets_one_cosigned(tmp_path: Path) -> None:
    """Another journal under the same keys: a helper says no to the second model, and keeps that it did."""
    world = _make(tmp_path)
    world.round_of(THREE)
    world.stop_helper(1)
    [first, *_] = world.events(ROUNDS.name, ModelPublished)
    other = msgspec.structs.replace(first.model, sha256=b"\x05" * 32)
    forge_event(world, ROUNDS.name, ModelPublished, change=lambda event: msgspec.structs.replace(event, model=other))
    for _ in range(2):
        helper = world.start_helper(1)
        while helper.step(0.0):
            pass
    [refused] = world.said(ModelRefused)
    assert (refused.helper, refused.version, refused.model_sha256) == (1, 0, other.sha256)
    assert refused.reason == "another"
    # In its own journal, and not in the topic alone.
    assert digest_said(world.stores[1].said[-1]) == _digest_last(world)
    assert {word.model_sha256 for word in world.said(ModelCosigned) if word.version == 0} == {first.model.sha256}
    keys = [world.stores[1].public_key]
    verification = Verification(world.log, world.partition, operator=KEY.public_key, helpers=keys)
    found = [str(fault) for fault in verification.check()]
    assert [fault for fault in found if "version 0 of" in fault and "rewritten" in fault]


def _digest_last(world: MaskedFederation) -> bytes:
    return digest_said([*scan(world.log, TopicPartition(MASKS.name, world.partition))][-1].value or b"")


def test_a_helper_that_was_put_back_cosigns_nothing(tmp_path: Path) -> None:
    """An old copy does not know what it has co-signed: it says so, and no lease leads to a version from then on."""
    world = _make(tmp_path, staleness=0)
    shutil.copytree(world.folder / "1", tmp_path / "copy")
    _publish_without(world, 1)
    shutil.rmtree(world.folder / "1")
    shutil.copytree(tmp_path / "copy", world.folder / "1")
    for _ in range(2):
        world.start_helper(1)
        world.settle()
    assert {event.reason for event in world.said(MasksRefused)} <= {"store_behind"}
    assert {(e.helper, e.version, e.reason) for e in world.said(ModelRefused)} == {(1, 1, "store_behind")}
    answer = _ask(world, "d")
    assert isinstance(answer, Declined)
    assert answer.reason == "not_cosigned"
    assert not check(world.log, world.partition, settled=True)
