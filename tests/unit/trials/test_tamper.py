"""Whatever is changed in an exported log is found, by `fedlog verify`, by a checkpoint, or by the full replay."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from pathlib import Path

import pytest

from schemas.events import JournalEvent
from schemas.topics import JOURNALS
from tests.judges.lawcheck import check, counts
from tests.trials.tamper.bench import Bench, command
from tests.trials.tamper.mutations import MUTATIONS
from tests.worlds.story import Story, told

SEED = int(os.environ.get("TAMPER_SEED") or secrets.randbelow(2**31))
COUNT = 17 * len(MUTATIONS)
REPLAY_EVERY = 5  # no divisor of the number of kinds, which take turns


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The story's export, on which all changes are tried."""
    return Bench(tmp_path_factory.mktemp("tamper"), seed=SEED, replay_every=REPLAY_EVERY)


def test_every_change_is_found(bench: Bench) -> None:
    """A few hundred random changes, a new seed each time; none is missed and none ends in a traceback."""
    tries = [(number, bench.tried(number)) for number in range(COUNT)]
    missed = [f"{tried.kind}: {tried.what} {tried.told}\n  {command(SEED, n)}" for n, tried in tries if not tried.by]
    assert missed == [], "\n".join(missed)
    kinds = Counter(tried.kind for _, tried in tries)
    assert kinds == dict.fromkeys(MUTATIONS, COUNT // len(MUTATIONS))
    assert {tried.by for _, tried in tries} == {"files", "verify", "checkpoint", "replay", "count"}


def test_a_change_is_repeated_by_its_number(bench: Bench, tmp_path: Path) -> None:
    """Another process with the same seed makes the same change of the same bytes."""
    again = Bench(tmp_path, seed=SEED)
    for number in range(len(MUTATIONS)):
        assert again.drawn(number) == bench.drawn(number)


@pytest.fixture(scope="module")
def story() -> Story:
    """The federation whose log is exported."""
    return told()


def test_the_story_keeps_the_laws(story: Story) -> None:
    """What is tampered with was right before, and holds zombies and aborted records too."""
    assert check(story.log, story.partition, settled=True, defects=True) == []
    assert counts(story.log, [story.partition])["zombies"] == 1


def test_the_story_tells_of_everything(story: Story) -> None:
    """Every kind of event that honest actors can cause is in its journals."""
    met = {type(event).__name__ for topic in JOURNALS for event in story.events(topic.name)}
    out_of_reach = {"BudgetExhausted"}  # nothing is proposed that the cap on participations has not let through
    # The story is the same each time, and encryption draws what no seed gives: `test_turning` tells that one.
    out_of_reach |= {"EpochOpened", "EpochDestroyed", "MaskKeyOffered", "CosignatureHeard"}
    # Nor does a random seed: `test_watched` tells of members that are compared.
    out_of_reach |= {"MembersCompared", "DeviceQuarantined"}
    assert {kind.__name__ for kind in JournalEvent.__args__} - met == out_of_reach
