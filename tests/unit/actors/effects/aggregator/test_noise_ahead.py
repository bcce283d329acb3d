"""Noise that is drawn while a round is being charged is that of its proposal, to the bit, or is thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from msgspec.structs import replace

from actors.deciders.arithmetic import noise
from actors.effects.aggregator.noise_ahead import NoiseAhead
from actors.keys import NoiseKey
from schemas.events import RoundProposed
from tests.worlds.builders import NOISE, mechanism, private_policy, round_proposed

D = 50
PROPOSED = round_proposed(mechanism=mechanism(private_policy()))


@pytest.fixture(name="ahead")
def _make_ahead() -> Iterator[NoiseAhead]:
    with ThreadPoolExecutor(1) as threads:
        ahead = NoiseAhead(NOISE)
        ahead.use_threads(threads)
        yield ahead


def _is_right(ahead: NoiseAhead, proposed: RoundProposed) -> bool:
    drawn = ahead.draw(proposed, parameters=D)
    is_right = np.array_equal(drawn, noise.draw(NOISE.secret, proposed, parameters=D))
    # As a release does, which adds the sum to it.
    drawn += 1
    return is_right


def test_what_is_drawn_ahead_is_the_noise_of_the_round(ahead: NoiseAhead) -> None:
    """Law 7: the same bits, whether a thread has drawn them before the charge, or a replay draws them much later."""
    ahead.begin(PROPOSED, parameters=D)
    assert _is_right(ahead, PROPOSED)
    assert _is_right(ahead, PROPOSED)


def test_it_serves_its_own_proposal_alone(ahead: NoiseAhead) -> None:
    """Law 7: a round that was proposed with another member, weight or mechanism has noise of its own."""
    for other in (replace(PROPOSED, members_root=bytes(32)), replace(PROPOSED, weight_sum=7)):
        ahead.begin(PROPOSED, parameters=D)
        assert _is_right(ahead, other)


def test_a_round_that_is_given_up_makes_room(ahead: NoiseAhead) -> None:
    """Of rounds that wait for their charge one has its vector in memory, and another once that is gone."""
    later = replace(PROPOSED, round=PROPOSED.round + 1)
    ahead.begin(PROPOSED, parameters=D)
    ahead.begin(later, parameters=D)
    assert _list_begun(ahead) == [PROPOSED]
    ahead.drop(later.task, later.round)
    assert _list_begun(ahead) == [PROPOSED]
    ahead.drop(PROPOSED.task, PROPOSED.round)
    ahead.begin(later, parameters=D)
    assert _list_begun(ahead) == [later]


def test_nothing_is_drawn_for_another_key() -> None:
    """A mechanism names its key: with another one there is no noise for it, as at the release."""
    with ThreadPoolExecutor(1) as threads:
        ahead = NoiseAhead(NoiseKey(bytes(32)))
        ahead.use_threads(threads)
        ahead.begin(PROPOSED, parameters=D)
        ahead.begin(replace(PROPOSED, mechanism=None), parameters=D)
    assert _list_begun(ahead) == []


def _list_begun(ahead: NoiseAhead) -> list[RoundProposed]:
    return [] if ahead._begun is None else [ahead._begun[0]]
