"""What is in production, and who gets it: a fold of what a rollout has signed, the same for every reader."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.announcements.reading import Announcement, read_announcement
from schemas.canonical import MalformedError
from schemas.identifiers import BodyRef
from schemas.rollouts import Standing, Standings, choose, evolve
from schemas.rollouts.standing import draw_place
from schemas.topics import partition_of
from tests.worlds.builders import TASK, body_ref, trust
from tests.worlds.published.announcing import announce_version
from tests.worlds.releasing.public_log import announced

DEVICES = [f"device-{number}" for number in range(2_000)]


def model(version: int) -> BodyRef:
    """The body of a version."""
    return body_ref(f"model {version}", "models")


def follow(*records: bytes) -> Standing:
    """What a reader knows after these records."""
    standing = Standing()
    for record in records:
        said = read_announcement(record, trust())
        assert said is not None
        standing = evolve(standing, said)
    return standing


def canary(version: int, *, seq: int, share: float = 0.5, **said: Any) -> bytes:
    """A canary that starts or grows."""
    return announced("canary", version, seq=seq, share=share, model=model(version), **said)


def promoted(version: int, *, seq: int, **said: Any) -> bytes:
    """A promotion."""
    return announced("promoted", version, seq=seq, model=model(version), **said)


def rolled_back(version: int, *, to: int | None, seq: int, **said: Any) -> bytes:
    """A rollback."""
    back = None if to is None else model(to)
    return announced("rolledback", version, seq=seq, to=to, model=back, reason="gate", **said)


def assert_nothing(record: bytes) -> None:
    """It is no announcement, and a reader of the topic passes over it."""
    with pytest.raises(MalformedError):
        read_announcement(record, trust())
    standings = Standings(trust(), partitions=8)
    assert standings.take(record, partition=partition_of(TASK, 8), at_ms=0) is None
    assert standings.find(TASK) == Standing()


def test_nothing_is_in_production_before_a_promotion() -> None:
    """A device outside of the first canary runs nothing yet, and is told so."""
    standing = follow(canary(3, seq=1, share=0.25))
    chosen = {choose(TASK, device, cohort="", standing=standing) for device in DEVICES}
    assert chosen == {None, 3}


def test_a_canary_is_a_share_of_the_devices_in_its_cohorts() -> None:
    """As many as the policy says, and nobody of another cohort; all others keep what is promoted."""
    standing = follow(promoted(1, seq=1), canary(3, seq=2, share=0.05, cohorts=["a"]))
    runs = [choose(TASK, device, cohort="a", standing=standing) for device in DEVICES]
    assert 60 <= runs.count(3) <= 140
    assert {choose(TASK, device, cohort="b", standing=standing) for device in DEVICES} == {1}


def test_whoever_is_in_a_canary_stays_in_it_as_it_grows() -> None:
    """A device does not go back and forth between versions."""
    small = follow(promoted(1, seq=1), canary(3, seq=2, share=0.1))
    large = follow(promoted(1, seq=1), canary(3, seq=2, share=0.1), canary(3, seq=3, share=0.6))
    for device in DEVICES:
        if choose(TASK, device, cohort="", standing=small) == 3:
            assert choose(TASK, device, cohort="", standing=large) == 3


def test_a_share_of_one_is_everybody() -> None:
    """No rounding keeps a device out of a canary that is for all."""
    standing = follow(canary(3, seq=1, share=1.0))
    assert {choose(TASK, device, cohort="x", standing=standing) for device in DEVICES} == {3}


@pytest.mark.parametrize(
    ("version", "device", "place"),
    [(0, "a", 0.3762654544985231), (7, "device-1", 0.07640694742896781), (123_456, "0f" * 16, 0.6599337709526893)],
)
def test_every_language_finds_the_same_place(version: int, device: str, place: float) -> None:
    """The fraction is exact in 53 bits: a client in another language chooses as this one does."""
    assert draw_place(TASK, version, device=device) == place


def test_others_try_the_next_version() -> None:
    """Who tries what is new is drawn anew for each version, so that it is not always the same people."""
    first, second = ({d for d in DEVICES if draw_place(TASK, version, device=d) < 0.2} for version in (3, 4))
    assert len(first & second) < 0.5 * len(first)


def test_a_rollback_of_a_candidate_leaves_what_is_promoted() -> None:
    """Every device that was in the canary gets the version that the rollback names."""
    standing = follow(promoted(1, seq=1), canary(3, seq=2, share=0.5), rolled_back(3, to=1, seq=3))
    assert {choose(TASK, device, cohort="", standing=standing) for device in DEVICES} == {1}
    assert (standing.candidate, standing.find_model(1), standing.find_model(3)) == (None, model(1), None)


def test_a_rollback_of_what_is_promoted_leads_to_the_version_before() -> None:
    """Also to nothing, where there was none before."""
    back = follow(promoted(1, seq=1), promoted(3, seq=2), rolled_back(3, to=1, seq=3))
    assert (back.promoted, back.find_model(1)) == (1, model(1))
    assert follow(promoted(3, seq=1), rolled_back(3, to=None, seq=2)).promoted is None


def test_what_was_promoted_once_is_remembered() -> None:
    """An archive keeps it for ever."""
    assert follow(promoted(1, seq=1), promoted(3, seq=2), rolled_back(3, to=1, seq=3)).ever == {1, 3}


def test_a_copy_of_an_old_announcement_changes_nothing() -> None:
    """Whoever may write into the topic can put a signed record there again, also one of the last batch."""
    last = [rolled_back(3, to=1, seq=3), canary(4, seq=3, number=1)]
    standing = follow(promoted(1, seq=1), canary(3, seq=2), *last)
    assert standing.candidate == 4
    for old in (promoted(1, seq=1), canary(3, seq=2), *last):
        said = read_announcement(old, trust())
        assert isinstance(said, Announcement)
        assert evolve(standing, said) == standing


def test_the_records_alone_lead_to_the_same() -> None:
    """Whoever is given the records that a standing rests on, and no other, stands at the same."""
    for records in (
        [promoted(1, seq=1)],
        [canary(3, seq=1)],
        [promoted(1, seq=1), canary(3, seq=2), canary(3, seq=3, share=0.7)],
        [promoted(1, seq=1), canary(3, seq=2), rolled_back(3, to=1, seq=3), canary(4, seq=4)],
        [promoted(1, seq=1), promoted(2, seq=2), rolled_back(2, to=1, seq=3)],
    ):
        whole = follow(*records)
        again = follow(*(record.encode() for record in whole.records))
        assert len(whole.records) <= 2
        for name in ("promoted", "candidate", "share", "cohorts", "models", "seq"):
            assert getattr(again, name) == getattr(whole, name)


def test_a_copy_in_another_partition_is_nothing() -> None:
    """There it could come before what it is older than."""
    standings = Standings(trust(), partitions=8)
    home = partition_of(TASK, 8)
    assert standings.take(promoted(1, seq=1), partition=(home + 1) % 8, at_ms=0) is None
    assert standings.find(TASK).promoted is None
    assert standings.take(promoted(1, seq=1), partition=home, at_ms=0) == TASK
    assert standings.find(TASK).promoted == 1


def test_a_halt_leaves_every_device_what_it_has() -> None:
    """Nothing is decided any more, and so nothing changes in anybody's hands."""
    before = follow(promoted(1, seq=1), canary(3, seq=2))
    said = read_announcement(announced("halted", None, seq=3, reason="asked"), trust())
    assert said is not None
    after = evolve(before, said)
    assert (after.promoted, after.candidate, after.share) == (1, 3, 0.5)


@pytest.mark.parametrize("role", ["aggregator", "evaluator", "privacy"])
def test_nobody_else_promotes(role: str) -> None:
    """A key of another role says nothing about what is in production."""
    assert_nothing(announced("promoted", 3, seq=1, role=role))


@pytest.mark.parametrize(
    "said", [{"share": 2.0}, {"share": "x"}, {"task": "../x"}, {"cohorts": "a"}, {"cohorts": ["/"]}], ids=str
)
def test_what_cannot_be_read_is_nothing(said: dict[str, Any]) -> None:
    """Whoever may write there ends no reader."""
    assert_nothing(announced("canary", 3, seq=1, **said))


def test_a_version_is_no_announcement_of_a_rollout() -> None:
    """Both stand in one topic, and a version that is published changes nothing in production."""
    standings = Standings(trust(), partitions=8)
    assert standings.take(announce_version(1), partition=partition_of(TASK, 8), at_ms=0) is None
