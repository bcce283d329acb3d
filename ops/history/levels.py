"""What the table `service_levels` says, as metrics: dashboards and alerts watch the same figures that people query."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from actors.hosts.metrics import PrometheusInstruments
from ops.history.tables.answers import Answer

ASK = "FROM service_levels"
# By the column of the table; times are Unix time, so that a rule can ask how long ago that was.
FIGURES = {
    "round_duration_p50_s": ("sli_round_duration_p50_seconds", "Median time of a round, of the newest 20"),
    "round_duration_p95_s": ("sli_round_duration_p95_seconds", "95th percentile of the same"),
    "rounds_within_hour_rate": ("sli_rounds_within_hour_rate", "Share of these rounds that took at most an hour"),
    "client_participation_rate": ("sli_client_participation_rate", "Share of closed leases that became an update"),
    "dropped_client_rate": ("sli_dropped_client_rate", "Share of closed leases that ran out or were given up"),
    "update_latency_p90_s": ("sli_update_latency_p90_seconds", "90th percentile from a lease to its admission"),
    "update_latency_p95_s": ("sli_update_latency_p95_seconds", "95th percentile of the same"),
    "staleness_p50": ("sli_staleness_p50_versions", "Median staleness of admitted updates"),
    "staleness_p95": ("sli_staleness_p95_versions", "95th percentile of the same"),
    "model_accuracy": ("sli_model_accuracy", "Accuracy of the newest version that was scored"),
    "model_accuracy_delta": ("sli_model_accuracy_delta", "The same less the best of the ten scored before"),
    "privacy_budget_consumed": ("sli_privacy_budget_consumed", "Share of the zCDP budget that is spent"),
    "version_at": ("sli_version_seconds", "When the newest version was published, Unix time"),
    "round_opened_at": ("sli_round_opened_seconds", "When the round that is not over was opened, Unix time"),
}


class ServiceLevels:
    """The gauges of all tasks."""

    def __init__(self, instruments: PrometheusInstruments | None = None) -> None:
        """In a registry of their own, unless a process shows others too."""
        self.instruments = instruments or PrometheusInstruments()
        self._gauges = {column: self.instruments.gauge(name, text, "task") for column, (name, text) in FIGURES.items()}

    def show(self, answer: Answer) -> None:
        """Show what the history answers to `ASK`."""
        for row in answer.rows:
            values = dict(zip(answer.columns, row, strict=True))
            for column, gauge in self._gauges.items():
                if (value := values[column]) is not None:
                    gauge.labels(values["task"]).set(_read(value))
                    continue
                # No sample, and not a zero: nobody is to be woken for what does not exist.
                with contextlib.suppress(KeyError):
                    gauge.remove(values["task"])


def _read(value: Any) -> float:
    return value.replace(tzinfo=UTC).timestamp() if isinstance(value, datetime) else float(value)
