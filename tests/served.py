"""The series that processes of fedlog serve, those that rules record, and the names that an expression asks for."""

from __future__ import annotations

import re
from typing import Any

import yaml

from actors.hosts import metrics
from actors.wiring import ROLES
from ops.doctor import exposition
from ops.gateway.access.watching import Books
from ops.history.levels import ServiceLevels
from ops.web.access import watching as serving
from tests.root import ROOT

RULES: dict[str, Any] = yaml.safe_load((ROOT / "ops" / "alerts.yml").read_text())
ALL: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDED = {str(rule["record"]) for rule in ALL if "record" in rule}


def list_served() -> set[str]:
    """Every series that a process of fedlog serves, or a look writes."""
    workers = [metrics.WorkerMetrics() for _ in (*ROLES, "shard")]
    for worker, role in zip(workers, ROLES.values(), strict=False):
        metrics.ActorMetrics(role, worker.instruments)
    metrics.ShardMetrics(workers[-1].instruments)
    makers = [*(worker.instruments for worker in workers), Books().instruments, ServiceLevels().instruments]
    makers.append(serving.Books().instruments)
    found = set(exposition.METRICS)
    for metric in (each for maker in makers for each in maker.registry.collect()):
        if metric.type == "histogram":
            found |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(f"{metric.name}_total" if metric.type == "counter" else metric.name)
    return found


SERVED = list_served()


def find_names(expression: str) -> set[str]:
    """The metrics of ours, served and recorded, that an expression names."""
    return set(re.findall(r"\bfedlog[_:][\w:]+", expression))
