"""Findings as metrics in Prometheus' text format, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from client_agent.files import write_durably
from ops.doctor.checks import CHECKS
from ops.doctor.facts import Facts
from ops.doctor.findings import Finding, Severity

FINDINGS, LOOKED, HIDDEN = "fedlog_doctor_findings", "fedlog_doctor_seconds", "fedlog_doctor_hidden_records"
METRICS = {
    FINDINGS: "Findings of the newest look",
    LOOKED: "When that was, Unix time",
    HIDDEN: "Records between last stable offset and high watermark, over all partitions of a topic",
}


def write_metrics(path: Path, facts: Facts, *, findings: Sequence[Finding]) -> None:
    """Replace the file as a whole: the collector reads it at any moment."""
    # Others have to read it, and it holds counts alone.
    write_durably(path, ("\n".join(_list_lines(facts, findings)) + "\n").encode(), mode=0o644, synced=False)


def _list_lines(facts: Facts, findings: Sequence[Finding]) -> Iterator[str]:
    for name, text in METRICS.items():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} gauge"
        yield from _list_samples(name, facts, findings=findings)


def _list_samples(name: str, facts: Facts, *, findings: Sequence[Finding]) -> Iterator[str]:
    if name == LOOKED:
        yield f"{LOOKED} {facts.now_ms / 1000}"
    elif name == FINDINGS:
        counted = Counter((found.check, found.severity) for found in findings)
        # Zeros too, so that an alert ends when a finding does.
        for family in CHECKS:
            for severity in Severity:
                labels = f'check="{family.FAMILY}",severity="{severity.value}"'
                yield f"{FINDINGS}{{{labels}}} {counted[family.FAMILY, severity]}"
    else:
        yield from (f'{HIDDEN}{{topic="{topic}"}} {count}' for topic, count in sorted(count_hidden(facts).items()))


def count_hidden(facts: Facts) -> Counter[str]:
    """How many records of each topic no reader sees yet, because a transaction is open."""
    hidden: Counter[str] = Counter()
    if facts.cluster is not None:
        for at, end in facts.cluster.ends.items():
            hidden[at.topic] += max(0, facts.cluster.written.get(at, end) - end)
    return hidden
