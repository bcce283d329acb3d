"""What leaves a device after training, and what leaves it where training fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_agent.compression import NotFiniteError
from client_agent.learning.data import DataError
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.plugins import PluginError
from client_agent.local_update import LocalUpdate, make_update, report_metrics
from schemas.policy import Compression, Evaluation, Policy, Privacy
from schemas.policy.metrics import METRIC_ONE
from schemas.tensors import Floats, read_update
from tests.learners import StubTrainer
from tests.worlds.device_world import World, policy

PARAMETERS = 650
PRIVATE = policy(privacy=Privacy(noise_multiplier=1.0, rho_max=9.0))
CODECS = ("float32", "float16", "int8", "int4", "topk")
RESIDUAL = np.full(PARAMETERS, 0.01, np.float32)


def _raise(error: Exception) -> Floats:
    raise error


def _make(folder: Path, rules: Policy, train: Callable[[Floats], Floats]) -> LocalUpdate:
    trainer = StubTrainer(lambda _, flat, *, seed: train(flat))
    setting = replace(World().setting(folder), trainer=trainer)
    context = Context(version=0, seed=1, policy=rules)
    return make_update(setting, Model(np.zeros(PARAMETERS, np.float32)), residual=RESIDUAL, context=context)


FAILURES: dict[str, Callable[[Floats], Floats]] = {
    "NaN": lambda flat: np.full(flat.size, np.nan, np.float32),
    "infinity": lambda flat: np.full(flat.size, np.inf, np.float32),
    "an exception": lambda _: _raise(ZeroDivisionError()),
    "unusable data": lambda _: _raise(DataError("no example of any class")),
    "no memory": lambda _: _raise(MemoryError()),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("codec", CODECS)
def test_with_privacy_a_failure_is_a_zero_vector(failure: str, codec: str, tmp_path: Path) -> None:
    """Whatever data do to training, an update comes of it; it is zero in each codec, and costs no residual."""
    rules = policy(privacy=PRIVATE.privacy, compression=Compression(codec=codec))  # type: ignore[arg-type]
    made = _make(tmp_path, rules, FAILURES[failure])
    assert not read_update(made.compressed.body, rules, parameters=PARAMETERS).grid().any()
    assert made.compressed.residual is RESIDUAL
    assert made.failure.startswith("training failed")


@pytest.mark.parametrize("error", [PluginError("no such module"), RuntimeError("no privacy")], ids=["setup", "plain"])
def test_what_no_data_can_cause_sends_nothing(error: Exception, tmp_path: Path) -> None:
    """A model that cannot be made here fails for any data; without privacy a failure sends nothing either."""
    with pytest.raises(type(error)):
        _make(tmp_path, PRIVATE if isinstance(error, PluginError) else policy(), lambda _: _raise(error))


def test_without_privacy_what_is_not_finite_is_not_sent(tmp_path: Path) -> None:
    """The server would refuse it, so the lease is given up."""
    with pytest.raises(NotFiniteError):
        _make(tmp_path, policy(), FAILURES["NaN"])


def test_what_was_trained_is_sent(tmp_path: Path) -> None:
    """Training that succeeds is no failure."""
    made = _make(tmp_path, PRIVATE, lambda flat: flat + np.float32(0.02))
    assert made.failure == ""
    assert read_update(made.compressed.body, PRIVATE, parameters=PARAMETERS).grid().any()


def test_a_device_reports_what_the_policy_asks_for(tmp_path: Path) -> None:
    """What the policy does not name stays on the device; a training without all of it reports nothing."""
    rules = policy(evaluation=Evaluation(report=("accuracy", "loss")))
    for given, expected in (({"loss": 0.5, "accuracy": 1.0, "secret": 7.0}, (65_536, 32_768)), ({"loss": 0.5}, ())):
        assert report_metrics(rules, given) == expected
    assert report_metrics(policy(), {"loss": 0.5}) == ()
    assert report_metrics(rules, {"loss": 0.5, "accuracy": float("nan")}) == ()
    half = _make(tmp_path, rules, lambda flat: flat + np.float32(0.5))
    assert half.metrics == (32_768, 32_768)  # what the stub measures is the mean size of its delta


def test_with_privacy_nothing_is_told_of_the_vector(tmp_path: Path) -> None:
    """How much clip and codec left follows from examples and is in no noise: a task without privacy alone has it."""
    assert _make(tmp_path, PRIVATE, lambda flat: flat + np.float32(0.02)).fidelity is None
    told = _make(tmp_path, policy(), lambda flat: flat + np.float32(9.0)).fidelity
    assert told is not None
    assert told.kept < METRIC_ONE
