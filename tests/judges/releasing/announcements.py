"""The part of the law check that reads what is announced of rollouts: it follows from the rollout's journal (law 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from schemas.events import CanaryGrown, CanaryStarted, Promoted, RolledBack, RolloutHalted
from schemas.topics import ROLLOUTS
from tests.judges.logbook import Logbook, differences

WORDS = {
    CanaryStarted: "canary",
    CanaryGrown: "canary",
    Promoted: "promoted",
    RolledBack: "rolledback",
    RolloutHalted: "halted",
}


def step_faults(book: Logbook, announced: Sequence[dict[str, Any]], *, settled: bool) -> Iterator[str]:
    """`published` holds one CloudEvent for each step, in the order of the journal, and each says where it stands."""
    expected, used = [], Counter[str]()
    journal = book.journals[ROLLOUTS.name]
    for offset, batch in journal.batches:
        for event in (event for decision in batch.decisions for event in decision.events if type(event) in WORDS):
            word = WORDS[type(event)]
            name = f"{event.task}/{event.version or 0}/{word}/{batch.seq}"
            used[name] += 1
            more = f"-{used[name] - 1}" if used[name] > 1 else ""
            model = getattr(event, "model", None)
            digest = None if model is None else model.sha256.hex()
            head = journal.stand(offset + 1).head.hex()
            expected.append(
                (name + more, f"io.fedlog.rollout.{WORDS[type(event)]}.v1", len(event.evidence), digest, head)
            )
    said = [_describe(event) for event in announced]
    yield from differences("published, of rollouts", expected if settled else expected[: len(said)], said)


def _describe(event: dict[str, Any]) -> tuple[Any, ...]:
    data = event["data"]
    model = data.get("model")
    digest = None if model is None else model["sha256"]
    return (event["id"], event["type"], len(data.get("evidence", ())), digest, data["journal"]["head"])
