"""A Flower app's query as the question of a measure task."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from client_agent.learning.allow_list import AllowList, PluginNotAllowed
from client_agent.learning.data import Part
from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Context
from client_agent.learning.measuring.answers import TaskMeasurement
from client_agent.learning.plugins import resolve
from schemas.policy import Policy
from tests.worlds.flower_apps.copies import copy_app

POLICY = """
kind = "measure"
data = "client_agent.learning.flower:part"
[selection]
devices_expected = 10
concurrency = 10
lease_s = 60
[aggregation]
updates_per_round = 5
[stop]
versions_max = 3
[measure]
plugin = "client_agent.learning.flower:query"
[measure.plugin_arguments]
app = "asking"
run_config = "bins=2"
[measure.statistics]
counts = { bound = 10.0, shape = [2] }
examples = { bound = 10.0 }
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """A policy that asks the app of the current folder."""
    copy_app("asking", tmp_path)
    monkeypatch.chdir(tmp_path)
    return msgspec.convert(tomllib.loads(POLICY), Policy)


def test_a_query_answers_a_measure_task(rules: Policy) -> None:
    """Only what the policy asks for leaves the device, as shares of its bounds; the node's state goes on."""
    assert rules.measure is not None
    question = TaskMeasurement(rules.measure, resolve(rules.measure.plugin), None, None)
    trainer = question.make_trainer(Part(index=2, count=5, plugin=rules.data))
    context = Context(version=0, seed=1, policy=rules, device="a-device")
    answer = trainer.train(None, context)  # type: ignore[arg-type]
    assert np.allclose(answer.delta, [0.2, 0.1, 0.3])
    again = Context(version=1, seed=1, policy=rules, device="a-device", state=dict(answer.state))
    assert trainer.train(None, again).state != answer.state  # type: ignore[arg-type]


def test_a_query_runs_only_an_app_that_is_allowed(rules: Policy) -> None:
    """The plugin comes with fedlog, and runs what its argument names."""
    with pytest.raises(PluginNotAllowed, match=r"--allow flower-app:asking$"):
        AllowList().check_policy(rules)
    AllowList(names=frozenset({"flower-app:asking"})).check_policy(rules)


def test_a_query_wants_its_part(rules: Policy) -> None:
    """Data of another plugin would be left unread without a word."""
    query = resolve("client_agent.learning.flower:query")
    with pytest.raises(LearnerError, match=r'data = "client_agent.learning.flower:part"'):
        query({}, [1, 2], context=Context(version=0, seed=1, policy=rules), app="asking")
