"""The word that asks for an attack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_agent.hostile.attacks import ATTACKS, Attack, AttackError, parse_attack


@given(st.sampled_from(sorted(ATTACKS)), st.floats(0, 1), st.none() | st.floats(0.01, 0.9))
def test_an_attack_is_read_as_it_is_written(name: str, share: float, strength: float | None) -> None:
    """Guarantee: share and strength are those of the word; without a strength it is the attack's usual one."""
    found = parse_attack(f"{name}:{share!r}" if strength is None else f"{name}:{share!r}:{strength!r}")
    assert found == Attack(name, share, ATTACKS[name].strength if strength is None else strength)
    # The fleet that a run starts is asked with this.
    assert parse_attack(str(found)).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sing_flip:0.2", "did you mean 'sign_flip'"),
        ("worse:0.2", "there are sign_flip, scaling"),
        ("ipm", "expected NAME:SHARE"),
        ("ipm:0.1:1:2", "expected NAME:SHARE"),
        ("ipm:1.1", "from 0 to 1, not '1.1'"),
        ("ipm:nan", "from 0 to 1, not 'nan'"),
        ("ipm:much", "not 'much'"),
        ("ipm:0.2:-1", "times the mean, negated"),
        ("ipm:0.2:inf", "from 0 to 1e+06"),
        ("stale_burst:0.2:1", "from 0 to 0.9"),
        ("stale_burst:0.2:0", "from 0.01 to 0.9"),
    ],
)
def test_a_wrong_word_is_told_what_fits(text: str, said: str) -> None:
    """Guarantee: what cannot be carried out is refused with what can."""
    with pytest.raises(AttackError) as refused:
        parse_attack(text)
    assert said in str(refused.value)


def test_a_test_is_called_one() -> None:
    """Guarantee: whoever reads of an attack reads that it is a test, and of how many devices."""
    told = parse_attack("alie:0.2").describe(8)
    assert told == "TEST UNDER ATTACK: 8 devices are hostile (alie, 1.5)"
