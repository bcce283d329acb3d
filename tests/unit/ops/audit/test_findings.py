"""What a replay says in the end: no more than it has checked."""

from __future__ import annotations

import json

from ops.audit.findings import Finding, Findings
from streams.journals import JournalBroken
from streams.log import Place, TopicPartition

AT = TopicPartition("rounds", 3)
WRONG = Finding(AT, 7, "another sum", "digits")


def test_a_finding_names_its_place() -> None:
    """Topic, partition and offset in one form; no offset where no record is to blame alone."""
    assert str(WRONG) == "rounds[3]@7: task digits: another sum"
    assert str(Finding(AT, None, "digits/4 is not announced")) == "rounds[3]: digits/4 is not announced"
    assert str(Finding(AT, 1, "a\nEvery chain is whole")) == r"rounds[3]@1: a\nEvery chain is whole"
    assert Finding.from_journal(JournalBroken(Place(AT, 9), "gone")) == Finding(AT, 9, "gone")


def test_a_difference_counts_once() -> None:
    """The chain check and the fold meet the same broken record."""
    findings = Findings()
    for _ in range(2):
        findings.add_difference(WRONG)
    assert findings.differences == [WRONG]


def test_the_verdict_says_how_much_was_checked() -> None:
    """The word alone is a claim about every version."""
    assert Findings(versions=2, compared=2).verdict == "identical"
    assert Findings(versions=2, compared=1).verdict == "identical, as far as it could be checked: 1 of 2 models"
    assert Findings(versions=1, compared=1, stopped=1).verdict == "identical, as far as was asked"
    assert Findings(versions=1, unchecked=["digits/1 (no key)"]).verdict.endswith("0 of 1 models")
    assert Findings(differences=[WRONG]).verdict == str(WRONG)


def test_partitions_add_up() -> None:
    """A replay of several partitions has one verdict, and one object for a script."""
    total = Findings(events=2, sums=1, reached=["a/1"]) + Findings(events=3, differences=[WRONG], reached=["b/2"])
    plain = json.loads(json.dumps(total.plain()))
    assert (plain["events"], plain["sums"], plain["reached"]) == (5, 1, ["a/1", "b/2"])
    assert (plain["replay"], plain["differences"]) == (str(WRONG), [str(WRONG)])
