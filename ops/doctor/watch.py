"""Looks at a deployment again and again, for whoever serves pages or metrics: the newest look, and its figures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from actors.hosts.metrics import PrometheusInstruments
from ops.doctor.checks import CHECKS, check_all
from ops.doctor.exposition import FINDINGS, HIDDEN, LOOKED, METRICS, count_hidden
from ops.doctor.facts import Facts
from ops.doctor.findings import Finding, Severity
from schemas.errors import FedlogError

FAMILY = "doctor"
# Of findings that are older nobody knows whether they still hold.
STALE_LOOKS = 4
END_WAIT_S = 2.0
_PREFIX = "fedlog_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look has found, and when that was by this machine's clock that only goes forward."""

    findings: Sequence[Finding] = ()
    at_s: float = 0.0


class Figures:
    """The findings as gauges, under the names that `fedlog doctor --prometheus` writes."""

    def __init__(self, instruments: PrometheusInstruments) -> None:
        self._findings = instruments.gauge(FINDINGS.removeprefix(_PREFIX), METRICS[FINDINGS], "check", "severity")
        self._looked = instruments.gauge(LOOKED.removeprefix(_PREFIX), METRICS[LOOKED])
        self._hidden = instruments.gauge(HIDDEN.removeprefix(_PREFIX), METRICS[HIDDEN], "topic")

    def show(self, facts: Facts, findings: Sequence[Finding]) -> None:
        """Show one look."""
        counted = Counter((found.check, found.severity) for found in findings)
        for family in (each.FAMILY for each in CHECKS):
            for severity in Severity:
                # Zeros too, so that an alert ends when a finding does.
                self._findings.labels(family, severity.value).set(counted[family, severity])
        for topic, count in count_hidden(facts).items():
            self._hidden.labels(topic).set(count)
        self._looked.set(facts.now_ms / 1000)


class Watch:
    """Looks every so many seconds, in a thread of its own. Use it as a context."""

    def __init__(self, gather: Callable[[], Facts], *, every_s: float, figures: Figures | None = None) -> None:
        self._gather, self._every_s, self._figures = gather, every_s, figures
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="doctor", daemon=True)
        self._newest = Look()
        self._begun_s = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A question to a broker that is away takes longer than anybody waits for Ctrl-C.
        self._stop.set()
        self._thread.join(timeout=END_WAIT_S)

    def list_findings(self) -> Sequence[Finding]:
        """What the newest look has found; that there is none, where looking takes too long."""
        since_s = max(self._newest.at_s, self._begun_s)
        silent_s = time.monotonic() - since_s
        if silent_s < STALE_LOOKS * self._every_s:
            return self._newest.findings
        stuck = Finding(
            check=FAMILY,
            severity=Severity.WARNING,
            subject="this server",
            what=f"has not come to the end of a look at the deployment for {silent_s:.0f} s",
            remedy="run `fedlog doctor` from another terminal; it says what does not answer",
        )
        return [stuck, *self._newest.findings]

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            # A log that breaks in the midst of a look, a file that is gone: the next look may see why.
            except (FedlogError, OSError) as error:
                self._newest = Look(findings=[_tell_failure(error)], at_s=time.monotonic())
            self._stop.wait(self._every_s)

    def _look(self) -> None:
        facts = self._gather()
        findings = check_all(facts)
        if self._figures is not None:
            self._figures.show(facts, findings)
        self._newest = Look(findings=findings, at_s=time.monotonic())


def _tell_failure(error: Exception) -> Finding:
    return Finding(
        check=FAMILY,
        severity=Severity.WARNING,
        subject="this server",
        what=f"could not look at the deployment: {' '.join(str(error).split())}",
        remedy="run `fedlog doctor` as a user who may read more",
    )
