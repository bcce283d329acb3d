"""A version in MLflow's words: its policy, its cost, where it comes from; and nothing that is said of no version."""

from __future__ import annotations

import pytest

from ops.services.mlflow.entries import Entry
from ops.services.mlflow.wording import Value, list_params, list_tags, list_values
from schemas.events import VersionEvaluated
from schemas.topics import LEDGER
from tests.unit.ops.terminal.conftest import founded_log
from tests.worlds.builders import DEPLOYMENT, TASK, body_ref
from tests.worlds.mlflow.stories import read_courses
from tests.worlds.ops_journal import Journal, append, created, policy
from tests.worlds.published.announcing import TIME_MS, announce_version, publish
from tests.worlds.rounds import round_charged

RULES = policy(privacy={"noise_multiplier": 1.0, "rho_max": 2.0})


@pytest.fixture(scope="module")
def entry() -> Entry:
    """Version 1 of a private task, scored on a cohort with a strange metric."""
    log = founded_log()
    append(log, "tasks", created(policy=RULES))
    publish(log, announce_version(0), announce_version(1))
    Journal(log, LEDGER.name).batch(round_charged(0, RULES))
    metrics = {"f1 (macro)": 0.25, "../": 1.0}
    for cohort in ("berlin", ""):
        append(log, "evaluations", VersionEvaluated(task=TASK, version=1, metrics=metrics, samples=9, cohort=cohort))
    return [*read_courses(log).list_entries(TASK)][1]


def test_the_policy_is_the_params(entry: Entry) -> None:
    """Guarantee: each field by its path, with what defaults fill in, as text."""
    params = list_params(entry)
    assert params["policy.privacy.rho_max"] == "2.0"
    assert params["policy.aggregation.updates_per_round"] == "3"
    assert params["policy_sha256"] == entry.created.policy_sha256.hex()
    assert all(params.values())


def test_the_cost_and_the_scores_are_the_metrics(entry: Entry) -> None:
    """Guarantee: by cohort, under names that MLflow takes whatever a learner calls them, and at the log's time."""
    values = list_values(entry)
    assert {value.name: value.value for value in values} == {
        "f1 _macro_": 0.25,
        "f1 _macro_/berlin": 0.25,
        "unnamed": 1.0,
        "berlin": 1.0,
        "samples": 9.0,
        "samples/berlin": 9.0,
        "epsilon": 1.0,
        "rho": 0.5,
        "delta": 1e-5,
    }
    assert Value(name="epsilon", value=1.0, time_ms=TIME_MS) in values


def test_the_origin_is_in_the_tags(entry: Entry) -> None:
    """Guarantee: base, round, members root, journal head and digest: with them the version is found in the log."""
    tags = list_tags(entry, DEPLOYMENT)
    expected = {
        "fedlog.id": f"{TASK}/1",
        "fedlog.deployment": DEPLOYMENT.hex(),
        "fedlog.base": "0",
        "fedlog.round": "0",
        "fedlog.members": "3",
        "fedlog.members_root": bytes(32).hex(),
        "fedlog.journal_seq": "1",
        "fedlog.journal_head": "ab" * 32,
        "fedlog.sha256": body_ref("model 1", "models").sha256.hex(),
        "fedlog.epsilon": "1",
        "fedlog.rho": "0.5",
    }
    assert expected.items() <= tags.items()


def test_nothing_of_a_device_is_said(entry: Entry) -> None:
    """Guarantee: what is handed on of a task has no admission, no lease and no name of a device in it."""
    view = entry.view
    assert (view.participations, view.makeups, view.leases, view.reported) == ({}, {}, {}, {})
    assert set(view.published) == {1}
