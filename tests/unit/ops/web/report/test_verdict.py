"""A report never says more than the replay has found, and never what it quotes."""

from __future__ import annotations

from ops.audit.findings import Finding, Findings
from ops.audit.replay import Anchor
from ops.web.report.verdict import judge, run_replay
from schemas.topics import ROUNDS
from streams.log import TopicPartition
from tests.tables import tell
from tests.worlds.builders import KEY

PLACE = TopicPartition(ROUNDS.name, 0)


def test_a_replay_that_finds_nothing_says_identical() -> None:
    """With both keys every version of the story is recomputed."""
    story = tell()
    verdict = run_replay(story.log, story.partition, anchor=Anchor(operator=KEY.public_key, noise=KEY.find_noise))
    assert verdict.tone != "bad"
    assert dict(verdict.figures)["sums recomputed"] != "0"


def test_what_was_not_checked_takes_the_word_away() -> None:
    """A version without bodies, and signatures that nobody was asked about."""
    assert judge(Findings(versions=3, compared=3), is_signed=True).tone == "good"
    for findings, is_signed in ((Findings(versions=3, compared=2), True), (Findings(versions=3, compared=3), False)):
        verdict = judge(findings, is_signed=is_signed)
        assert verdict.tone == "warn"
        assert "as far as" in verdict.word


def test_a_difference_is_counted_and_not_quoted() -> None:
    """What differs may be the clip scale of one device."""
    findings = Findings(versions=3, compared=3)
    findings.add_difference(Finding(PLACE, 7, "clip scale of device 5f0c8b7e is 77"))
    verdict = judge(findings, is_signed=True)
    assert (verdict.tone, verdict.word) == ("bad", "differs in 1 place")
    assert "5f0c8b7e" not in repr(verdict)
