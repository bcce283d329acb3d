"""A look that is repeated: its findings, its figures, and what is told when looking itself fails or hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest

from actors.hosts.metrics import PrometheusInstruments
from ops.doctor import watch as watching
from ops.doctor.checks import check_all
from ops.doctor.facts import Cluster, Facts
from ops.doctor.findings import Finding
from ops.doctor.watch import Figures, Watch
from streams.log import LogRefused, TopicPartition

AT = TopicPartition("rounds", 0)
AWAY = Facts(now_ms=7_000, unreachable="nobody answers")
HELD = Facts(now_ms=9_000, cluster=Cluster(ends={AT: 3}, written={AT: 5}))
WITHIN_S = 20.0


def until(is_so: Callable[[], object]) -> None:
    """Wait until it is so, with an end."""
    give_up_s = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_findings_are_those_of_the_newest_look_and_go_when_they_do() -> None:
    """What page and Prometheus show is what `fedlog doctor` would say now, from whom the same figures come."""
    seen, made = [AWAY], PrometheusInstruments()
    with Watch(lambda: seen[-1], every_s=0.02, figures=Figures(made)) as watch:
        until(lambda: [*watch.list_findings()] == [*check_all(AWAY)])
        assert 'fedlog_doctor_findings{check="broker",severity="error"} 1.0' in generate_latest(made.registry).decode()
        seen.append(HELD)
        until(lambda: [*watch.list_findings()] == [*check_all(HELD)])
        text = generate_latest(made.registry).decode()
        assert 'fedlog_doctor_findings{check="broker",severity="error"} 0.0' in text
        assert 'fedlog_doctor_hidden_records{topic="rounds"} 2.0' in text
        assert "fedlog_doctor_seconds 9.0" in text


def test_a_look_that_fails_is_a_finding_and_the_next_one_looks_again() -> None:
    """A server that may not look says so; it never goes on showing that all is well."""
    broken = threading.Event()
    broken.set()

    def gather() -> Facts:
        if broken.is_set():
            raise LogRefused("rounds may not be read")
        return HELD

    with Watch(gather, every_s=0.02) as watch:
        until(lambda: [*map(tell, watch.list_findings())] == [("doctor", True)])
        broken.clear()
        until(lambda: [*watch.list_findings()] == [*check_all(HELD)])


def test_a_look_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings of long ago are shown as such."""
    monkeypatch.setattr(watching, "END_WAIT_S", 0.0)
    going_on = threading.Event()

    def gather() -> Facts:
        going_on.wait(WITHIN_S)
        return HELD

    with Watch(gather, every_s=0.01) as watch:
        until(lambda: [*map(tell, watch.list_findings())] == [("doctor", False)])
        going_on.set()


def tell(finding: Finding) -> tuple[str, bool]:
    """Its family, and whether it is about a right that is missing."""
    assert finding.remedy
    return finding.check, "may not be read" in finding.what
