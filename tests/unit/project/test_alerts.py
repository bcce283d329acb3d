"""Rules and dashboards name only metrics that exist, each alert has a runbook, and each is tried with promtool."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.root import ROOT
from tests.served import ALL, RECORDED, SERVED, find_names

TRIED: dict[str, Any] = yaml.safe_load((ROOT / "ops" / "alerts_test.yml").read_text())
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALERTS = [rule for rule in ALL if "alert" in rule]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_only_what_exists(rule: dict[str, Any]) -> None:
    """A rule over a metric that nobody serves never fires, and nobody would see that."""
    names = find_names(rule["expr"])
    assert names - SERVED - RECORDED == set()
    assert names or "up{" in rule["expr"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Whoever is woken finds a section that says what to look at and what to do."""
    assert rule["labels"]["severity"] in ("P1", "P2")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    section = OPERATIONS.partition(f"\n#### {rule['alert']}\n")[2].partition("\n#")[0]
    assert len(section.split()) > 15


def test_every_alert_is_tried() -> None:
    """`make alerts` runs promtool over these: each alert has a time at which it fires."""
    fired = {case["alertname"] for test in TRIED["tests"] for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in ALERTS}


def test_a_name_that_does_not_exist_is_seen() -> None:
    """The check itself: names of histograms have their three endings, and no other."""
    assert {"fedlog_round_seconds_bucket", "fedlog_sli_model_accuracy", "fedlog_defects_total"} <= SERVED
    assert find_names("rate(fedlog_round_seconds[5m]) / fedlog:x:y") - SERVED == {"fedlog_round_seconds", "fedlog:x:y"}
