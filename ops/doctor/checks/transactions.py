"""Transactions that nothing ends: they hold back every reader of their partition."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from schemas.topics import JOURNALS, PUBLISHED
from streams.log import TopicPartition

FAMILY = "transactions"
# Whoever has left one open in `published` is one of two, each of which ends its own by a claim.
_WRITERS = {topic.name: topic.writer.split(", ") for topic in (*JOURNALS, PUBLISHED)}


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each partition whose last stable offset stays behind its high watermark."""
    if facts.cluster is None:
        return
    for at, open_since in sorted(facts.cluster.open.items()):
        age_s = None if open_since.last_ms is None else (facts.now_ms - open_since.last_ms) / 1000
        # Open ones are ordinary: every commit of an actor is one for some milliseconds.
        if age_s is None or age_s <= limits.hanging_s:
            continue
        hidden = facts.cluster.written[at] - facts.cluster.ends[at]
        yield Finding(
            check=FAMILY,
            severity=Severity.ERROR,
            subject=str(at),
            what=f"a transaction hangs since {age_s:.0f} s at offset {open_since.offset}, and hides {hidden} records",
            remedy=_find_remedy(at, facts.add_prefix(at.topic), offset=open_since.offset),
        )


def _find_remedy(at: TopicPartition, topic: str, *, offset: int) -> str:
    tool = f"kafka-transactions.sh abort --topic {topic} --partition {at.partition} --start-offset {offset}"
    if (writers := _WRITERS.get(at.topic)) is None:
        return tool
    named = ", then ".join(f"`fedlog worker {writer}`" for writer in writers)
    return f"start {named} again: a new claim ends what its writer left open; else {tool}"
