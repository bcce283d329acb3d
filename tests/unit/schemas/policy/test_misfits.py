"""What does not fit a policy's tables: every field at fault, where it stands, and what may be meant."""

from __future__ import annotations

import pytest

from schemas.policy import PolicyError, parse

WRONG = """\
model = "client_agent.learning.models:softmax"
shards = [1]
[training]
learing_rate = 0.1
epochs = "5"
[clipping]
norm = true
[staleness]
rule = "steep"
[selection]
concurrency = 10
cohort_shares = { eu = "half" }
[aggregation]
updates_per_round = 3
[stopp]
[stop]
versions_max = 3
"""


def read_problems(text: str, *changes: str) -> list[str]:
    """The lines of the refusal, but the last, which names the page."""
    with pytest.raises(PolicyError) as caught:
        parse(text, changes=changes)
    *problems, page = str(caught.value).splitlines()
    assert "docs/policy.md" in page
    return problems


def test_every_field_at_fault_has_its_line_in_one_refusal() -> None:
    """Guarantee: whoever mends what is named has a policy that fits, and finds each field without searching."""
    assert sorted(read_problems(WRONG)) == [
        "clipping.norm (line 7): expected a number, got true or false",
        "selection.cohort_shares (line 12): expected a number, got a text in quotes, in [...]",
        "selection.devices_expected: missing, and it has no default",
        "shards (line 2): expected a whole number, got a list",
        "staleness.rule (line 9): 'steep' must be one of constant, polynomial, hinge, threshold",
        "stopp (line 15): there is no such field; did you mean stop?",
        "training.epochs (line 5): expected a whole number, got a text in quotes",
        "training.learing_rate (line 4): there is no such field; did you mean learning_rate?",
    ]


def test_a_change_of_an_option_has_no_line() -> None:
    """Guarantee: what `--set` said is named as such a field, and never with the line of another."""
    (problem,) = read_problems(
        WRONG.partition("shards")[0]
        + """
[selection]
devices_expected = 10
concurrency = 10
[aggregation]
updates_per_round = 3
[stop]
versions_max = 3
""",
        "training.epohcs=2",
    )
    assert problem == "training.epohcs: there is no such field; did you mean epochs?"
