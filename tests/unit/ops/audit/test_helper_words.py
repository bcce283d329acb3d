"""What helpers have signed of the journal that they were shown: whoever shows others another one is caught by it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ops.audit.verification import Verification
from schemas.events import ModelPublished, RoundBound
from schemas.topics import LEDGER, MASKS, PUBLISHED, ROUNDS, SELECTIONS
from streams.log import TopicPartition
from tests.worlds.builders import KEY
from tests.worlds.forging import forge_event
from tests.worlds.masking.federation import MaskedFederation, masked_policy

ONES = np.ones(4, np.float32)


@pytest.fixture
def world(tmp_path: Path) -> MaskedFederation:
    """Two rounds, of which two helpers each have said what they saw."""
    world = MaskedFederation(masked_policy(tmp_path), tmp_path)
    for _ in range(2):
        world.round_of(dict.fromkeys("abc", ONES))
    return world


def _check(world: MaskedFederation, *numbers: int) -> tuple[list[str], int]:
    """What is found by those who know these helpers, and how many of their words were compared."""
    keys = [world.stores[number].public_key for number in numbers]
    check = Verification(world.log, world.partition, operator=KEY.public_key, helpers=keys)
    found = [str(fault) for fault in check.check()]
    return found, check.words.total()


def _drop(world: MaskedFederation, topic: str, *numbers: int) -> None:
    entries = world.log._partitions[TopicPartition(topic, world.partition)].entries
    for number in numbers:
        entries[number].record = None


def test_helpers_vouch_for_the_journal_that_all_see(world: MaskedFederation) -> None:
    """Each says, for every round and version, up to where it has read, and with what head."""
    # For two rounds and three versions each.
    assert _check(world, 0, 1) == ([], 10)
    assert _check(world) == ([], 0)
    assert all(event.seen.seq > 0 for event in world.said(RoundBound))


def test_another_journal_than_the_helpers_saw_is_found(world: MaskedFederation) -> None:
    """With the operator's and every writer's key: a model that was swapped for all others stands against helpers."""
    body = world.events(ROUNDS.name, ModelPublished)[-1].model
    forge_event(
        world,
        ROUNDS.name,
        ModelPublished,
        change=lambda event: msgspec.structs.replace(event, model=msgspec.structs.replace(body, sha256=bytes(32))),
    )
    # Whoever forges a journal drops what vouches for the true one; the helpers' words are not his to drop or sign.
    for topic in (PUBLISHED.name, SELECTIONS.name, LEDGER.name):
        world.log._partitions[TopicPartition(topic, world.partition)].entries.clear()
    found, words = _check(world, 0)
    assert words == 5
    assert [fault for fault in found if "was shown" in fault and "rewritten" in fault]
    assert not [fault for fault in _check(world)[0] if MASKS.name in fault]


def test_a_journal_that_was_cut_is_found(world: MaskedFederation) -> None:
    """The newest round of a helper reaches further than the journal does."""
    entries = world.log._partitions[TopicPartition(ROUNDS.name, world.partition)].entries
    del entries[-12:]
    found, _ = _check(world, 1)
    assert [fault for fault in found if "its tail is cut off" in fault and "was shown" in fault]


@pytest.mark.parametrize("number", [2, 3])
def test_a_word_that_was_dropped_is_missed(world: MaskedFederation, number: int) -> None:
    """Each word names the one before: from between them none can be taken away."""
    _drop(world, MASKS.name, number)
    found, _ = _check(world, 0, 1)
    assert len([fault for fault in found if "had said more before this" in fault]) == 1


def test_a_helper_that_was_put_back_is_no_fault_of_the_log(world: MaskedFederation, tmp_path: Path) -> None:
    """It goes on from an old word, refuses, and its words are checked all the same."""
    world.stop_helper(1)
    shutil.copytree(world.folder / "1", tmp_path / "copy")
    world.start_helper(1)
    world.round_of(dict.fromkeys("abc", ONES))
    world.stop_helper(1)
    shutil.rmtree(world.folder / "1")
    shutil.copytree(tmp_path / "copy", world.folder / "1")
    world.start_helper(1)
    world.round_of(dict.fromkeys("abc", ONES))
    assert _check(world, 0, 1) == ([], 15)


def test_nobody_signs_for_a_helper(world: MaskedFederation) -> None:
    """What another key has signed, or what is changed, is none of its words."""
    entry = world.log._partitions[TopicPartition(MASKS.name, world.partition)].entries[-1]
    assert entry.record is not None
    entry.record = replace(entry.record, value=(entry.record.value or b"")[:-1] + b"\0")
    assert _check(world, 0, 1)[1] <= 10
    keys = [bytes(32)]
    check = Verification(world.log, world.partition, operator=KEY.public_key, helpers=keys)
    assert ([*check.check()], check.words.total()) == ([], 0)
