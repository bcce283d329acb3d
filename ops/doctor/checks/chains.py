"""Whether the newest records of each journal follow one another, and what does not belong there."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from streams.log import Place

FAMILY = "chains"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield broken chains, defects and strangers' records; older records only `fedlog verify` looks at."""
    # Each by itself: a journal may be broken and have defects, and both need somebody.
    for tail in facts.tails:
        if tail.fault:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=str(Place(tail.at, tail.offset)),
                what=f"the chain is broken: {tail.fault}",
                remedy='stop the workers of that actor and run `fedlog verify`; docs/operations.md, "When a chain is '
                'broken", says how to go on',
            )
        if tail.defects:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=str(tail.at),
                what=f"our own code failed on {tail.defects} of the newest inputs, which were skipped",
                remedy=f"fedlog events --topic {tail.at.topic} --partition {tail.at.partition} names them "
                "(DefectFound); the worker's log has the traceback: please report it",
            )
        if tail.strangers:
            yield Finding(
                check=FAMILY,
                severity=Severity.WARNING,
                subject=str(tail.at),
                what=f"{tail.strangers} of the newest records were signed by no writer of this journal",
                remedy="they decide nothing; find out who may write there, and take that right away",
            )
