"""The project's own test: `python -m pytest` in this folder. It needs no broker and no worker."""

from pathlib import Path

from fedlog.rehearsal import rehearse


def test_the_target_of_the_policy_is_reached():
    """Trained on this machine alone, the model reaches `target_value` within `versions_max` versions."""
    found = rehearse(Path(__file__).with_name("policy.toml"), devices=20)
    assert found.is_on_target, found.curve
