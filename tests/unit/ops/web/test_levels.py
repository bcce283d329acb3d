"""The server's metrics are the table that people ask, and a history that does not answer yet ends nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.hosts.metrics import PrometheusInstruments
from ops.history.levels import ASK
from ops.web import levels
from ops.web.levels import ShownLevels
from tests.serving import Served


@dataclass
class Late:
    """A reader whose first questions meet a history that cannot answer them."""

    reader: Any
    refusals: int
    asked: list[str] = field(default_factory=list)

    def ask(self, sql: str, **_: object) -> Any:
        self.asked.append(sql)
        return self.reader.ask("SELECT nothing FROM nowhere" if len(self.asked) <= self.refusals else sql)


def test_the_metrics_are_those_of_the_history(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: each task of `service_levels` has its sample, though the first questions were refused."""
    monkeypatch.setattr(levels, "EVERY_S", 0.01)
    site, _ = served
    answer = site.reader.ask(ASK)
    column = answer.columns.index("version_at")
    tasks = {row[answer.columns.index("task")] for row in answer.rows if row[column] is not None}
    assert tasks
    late = Late(site.reader, refusals=2)
    with ShownLevels(late, PrometheusInstruments()) as shown:  # type: ignore[arg-type]
        registry, name = shown.levels.instruments.registry, "fedlog_sli_version_seconds"
        give_up_s = time.monotonic() + 60
        while any(registry.get_sample_value(name, {"task": task}) is None for task in tasks):
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
    assert late.asked[:3] == [ASK] * 3
