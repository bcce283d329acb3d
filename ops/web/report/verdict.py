"""What a full replay finds, in the words of a report; or that none was run, and how to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ops.audit.findings import Findings
from ops.audit.replay import Anchor, Audit
from streams.log import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One word for it, its tone on the page, and what was looked at."""

    word: str
    tone: str
    figures: Sequence[tuple[str, str]] = ()
    note: str = ""


NOT_RUN = Verdict(
    word="not checked for this report",
    tone="warn",
    note="Nothing on this page was recomputed when it was made: it says what the log says. Who can read the log checks "
    "it with the commands below, or makes this report with --verify.",
)


def run_replay(log: EventLog, partition: int, *, anchor: Anchor) -> Verdict:
    """Folds and recomputes everything in the partition of a task."""
    # It checks the chains and every signed head first, as `fedlog verify` does.
    findings = Audit(log, partition, anchor=anchor, full=True).run()
    return judge(findings, is_signed=anchor.operator is not None)


def judge(findings: Findings, *, is_signed: bool) -> Verdict:
    """The verdict on what was found. Differences are counted: they may quote what is for operators only."""
    figures = [
        ("decisions folded, of all tasks in its partition", f"{findings.decisions:,}"),
        ("sums recomputed", f"{findings.sums:,}"),
        ("models recomputed", f"{findings.compared:,} of {findings.versions:,}"),
        ("charges recomputed", f"{findings.charges:,}"),
        ("signatures", "compared with the operator's public key" if is_signed else "not compared with anybody's key"),
    ]
    if findings.differences:
        word = f"differs in {len(findings.differences):,} {'place' if len(findings.differences) == 1 else 'places'}"
        return Verdict(word=word, tone="bad", figures=figures, note="`fedlog replay --full` names each record.")
    # The word alone is a claim about every version, so that what could not be recomputed takes it away.
    if findings.unchecked or findings.compared < findings.versions or not is_signed:
        note = "What could not be checked had no bodies left in the log, or needs a key that was not at hand."
        return Verdict(word="identical, as far as it could be checked", tone="warn", figures=figures, note=note)
    return Verdict(word="identical", tone="good", figures=figures, note="Every version is what its journal says.")
