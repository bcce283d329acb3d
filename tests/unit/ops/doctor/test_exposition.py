"""Findings as metrics: every family is there, with zeros, and what a transaction hides is counted by topic."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ops.doctor.exposition import METRICS, write_metrics
from ops.doctor.facts import Cluster, Facts
from ops.doctor.findings import Finding, Severity
from streams.log import TopicPartition

AT = TopicPartition("rounds", 3)


def test_a_look_is_written_as_metrics(tmp_path: Path) -> None:
    """Prometheus' own parser reads it; others may read the file, which holds counts alone."""
    facts = Facts(now_ms=5_500, cluster=Cluster(ends={AT: 7}, written={AT: 9}))
    finding = Finding(check="keys", severity=Severity.ERROR, subject='a "key"', what="", remedy="")
    path = tmp_path / "fedlog.prom"
    write_metrics(path, facts, findings=[finding, finding])
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    assert set(families) == set(METRICS)
    counts = {(s.labels["check"], s.labels["severity"]): s.value for s in families["fedlog_doctor_findings"].samples}
    assert {key: count for key, count in counts.items() if count} == {("keys", "error"): 2}
    assert counts["chains", "error"] == 0
    assert [(s.labels, s.value) for s in families["fedlog_doctor_hidden_records"].samples] == [({"topic": "rounds"}, 2)]
    assert families["fedlog_doctor_seconds"].samples[0].value == 5.5
    assert path.stat().st_mode & 0o777 == 0o644
