"""Counts of devices, and of the reasons for which they sent nothing that was trained."""

from __future__ import annotations

from client_agent.counts import OTHER_REASONS, REASON_LETTERS_MAX, REASONS_MAX, Counts, join_reasons


def test_reasons_add_up_with_the_most_common_first() -> None:
    """Guarantee: of many devices each reason has one count, and a line that shows one shows what matters most."""
    one, other = Counts(given_up=1, reasons={"NaN": 1}), Counts(given_up=3, reasons={"labels": 2, "NaN": 3})
    both = one + other
    assert both.given_up == 4
    assert list(both.reasons.items()) == [("NaN", 4), ("labels", 2)]


def test_reasons_stay_few_and_short() -> None:
    """Guarantee: errors that are worded anew each time take no more memory than others, and none is left uncounted."""
    counts = Counts()
    for number in range(500):
        counts.note_reason(f"{number}: " + "x" * 10_000)
    assert len(counts.reasons) == REASONS_MAX + 1
    assert sum(counts.reasons.values()) == 500
    assert max(map(len, counts.reasons)) == REASON_LETTERS_MAX
    assert next(iter(join_reasons(counts.reasons, {"new": 7}))) == "new"
    assert OTHER_REASONS in counts.reasons
