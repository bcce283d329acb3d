"""The evaluator: each version is scored once, whatever ends in between, and a version that cannot be is named."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from actors.keys import OperatorKey
from client_agent.learning.allow_list import AllowList
from client_agent.learning.foreign import describe
from client_agent.learning.layout import ModelError
from client_agent.running.watch import Watch, _inject
from ops.operator import models
from ops.services.evaluator import Evaluator, Missed
from ops.services.scoring import Patience, open_scorer
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.events import Noticed, TensorSpec, VersionEvaluated
from streams.log import LogUnavailable, TopicPartition, scan
from streams.memory import MemoryLog
from tests.learners import PAIR_LEARNER, PERSONAL_LEARNER, PairLearner
from tests.survey import ALLOWED as SURVEY_ALLOWED
from tests.survey import Survey, training_policy
from tests.worlds.builders import model_published, role_key, written
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log, policy

DIGITS = "client_agent.learning.examples:digits"
FLAT = np.arange(6, dtype=np.float32)
ENDLESS_S = 5.0  # as good as for ever, and still an end where nothing else ends it
ALLOWED = AllowList(names=frozenset({PAIR_LEARNER}), command="fedlog evaluate")


@pytest.fixture
def log() -> MemoryLog:
    """A task with versions 0 and 1; the body of version 0 is gone."""
    log = memory_log()
    refs = [models.store(log, FLAT * factor, partition=PLACE) for factor in (1, 2)]
    log.delete_records(TopicPartition("models", PLACE), 1)
    published = [model_published(version, round=None, model=ref) for version, ref in enumerate(refs)]
    append(log, "tasks", created())
    Journal(log, "rounds").batch(Noticed(fact=created()), *published)
    return log


def publish_one(log: MemoryLog) -> None:
    """Version 0 of a task of which the journal says nothing else."""
    version = model_published(model=models.store(log, FLAT, partition=PLACE))
    Journal(log, "rounds").batch(Noticed(fact=created()), version)


def score(log: MemoryLog, task: str | None = None) -> list[VersionEvaluated | Missed]:
    """What a fresh evaluator finds to do."""
    with closing(Evaluator(log, key=role_key("evaluator"), task=task, allowed=ALLOWED)) as evaluator:
        return [*evaluator.step(), *evaluator.step()]


def test_a_version_is_scored_once_and_a_lost_one_is_named(log: MemoryLog) -> None:
    """The score is in the log; the version whose body is gone is reported, and stops nothing."""
    missed, evaluated = score(log)
    assert isinstance(missed, Missed)
    assert (missed.version, "[retention]" in missed.reason) == (0, True)
    assert isinstance(evaluated, VersionEvaluated)
    assert (evaluated.version, evaluated.metrics, evaluated.samples) == (1, {"sum": 30.0}, 3)
    records = scan(log, TopicPartition("evaluations", PLACE))
    payloads = [parse_certified(record.value or b"").payload for record in records]
    written = [decode(payload, VersionEvaluated) for payload in payloads]
    assert written == [evaluated]


def test_a_restart_scores_nothing_again(log: MemoryLog) -> None:
    """What is in the log is done; only the version that is missing is tried once more."""
    score(log)
    assert [type(each) for each in score(log)] == [Missed]


def test_code_from_the_log_is_not_scored_with() -> None:
    """A task whose model nobody allowed here is named, with the option that would allow it, and is not imported."""
    log = memory_log()
    append(log, "tasks", created(policy=policy(learner="os:system")))
    publish_one(log)
    [missed] = score(log)
    assert isinstance(missed, Missed)
    assert missed.reason.endswith("fedlog evaluate --allow os:system")


def test_only_what_the_operator_created_is_scored() -> None:
    """A creation in the journal, or in `tasks` without the operator's signature, has nothing scored."""
    log = memory_log()
    append(log, "tasks", written(created(), OperatorKey(bytes([7]) * 32)))
    publish_one(log)
    assert score(log) == []
    append(log, "tasks", created())
    assert [type(each) for each in score(log)] == [VersionEvaluated]


def test_a_task_that_contradicts_its_policy_is_not_scored() -> None:
    """The evaluator judges a creation as actors and devices do, signed or not."""
    log = memory_log()
    append(log, "tasks", created(parameters=7))
    publish_one(log)
    assert [each.reason for each in score(log) if isinstance(each, Missed)] == [
        "The task contradicts its own policy: parameters is not the size of the tensors."
    ]


def test_another_deployments_creation_takes_no_name_here() -> None:
    """The operator signed it for staging, and somebody copied it here before there was a task of that name."""
    log = memory_log()
    append(log, "tasks", created(deployment=bytes(16), parameters=7))
    append(log, "tasks", created())
    publish_one(log)
    assert [type(each) for each in score(log)] == [VersionEvaluated]


def test_a_model_without_end_is_not_made() -> None:
    """Guarantee: arguments and tensors that agree on terabytes take none of them; the version is a miss."""
    rules = policy(
        model="client_agent.learning.models:softmax_regression",
        learner="",
        learner_arguments={},
        model_arguments={"inputs": 10**9, "classes": 10**9},
    )
    tensors = (TensorSpec(name="1.weight", shape=(10**9, 10**9)), TensorSpec(name="1.bias", shape=(10**9,)))
    huge = created(policy=rules, tensors=tensors, parameters=10**18 + 10**9)
    with pytest.raises(ModelError, match="more than there is memory for"):
        open_scorer(huge, allowed=ALLOWED, data=DIGITS, fetch=lambda *_: FLAT, patience=Patience())


def test_a_model_that_does_not_arrive_is_missed_for_now(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent broker makes the evaluator wait for no version; that version is tried again a minute later."""

    def stay_silent(*_: object) -> None:
        raise LogUnavailable("away")

    def wait(_: float) -> None:
        raise AssertionError("the evaluator waits")

    with closing(Evaluator(log, key=role_key("evaluator"), allowed=ALLOWED)) as evaluator:
        clock = SimpleNamespace(monotonic=lambda: 1000.0)
        monkeypatch.setattr("ops.services.evaluator.time", clock)
        with monkeypatch.context() as patch:
            patch.setattr("streams.retry.time.sleep", wait)
            patch.setattr(log, "bounds", stay_silent)
            assert list(evaluator.step()) == [
                Missed(task=TASK, version=version, reason="away", is_final=False) for version in (0, 1)
            ]
        assert list(evaluator.step()) == []
        clock.monotonic = lambda: 1061.0
        assert [type(each) for each in evaluator.step()] == [Missed, VersionEvaluated]


def test_another_task_is_left_alone(log: MemoryLog) -> None:
    """With a task named, the versions of others are none of its business."""
    assert score(log, task="another") == []


FAILURES = (IndexError("Target 2 is out of bounds."), SyntaxError("x"), NameError("x"), KeyError("x"), SystemExit(3))


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_whatever_a_model_raises_is_one_version_s_miss(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """A task's code may raise anything: its versions are missed, with type and text, and scoring goes on."""

    def fail(*_: object) -> dict[str, float]:
        raise failure

    monkeypatch.setattr(PairLearner, "evaluate", fail)
    missed = score(log)
    assert [type(each) for each in missed] == [Missed, Missed]
    assert isinstance(missed[1], Missed)
    assert describe(failure) in missed[1].reason


def test_a_score_without_what_devices_keep_is_told() -> None:
    """Guarantee: nobody takes the score of an untrained personal head for that of the devices without a word."""
    world = Survey(training_policy(learner=PERSONAL_LEARNER))
    key = role_key("evaluator")
    with capture_logs() as said, closing(Evaluator(world.log, key=key, allowed=SURVEY_ALLOWED)) as evaluator:
        assert [type(result) for result in evaluator.step()] == [VersionEvaluated]
    [line] = [line for line in said if line["event"] == "scored_as_untrained"]
    assert (line["own_arrays"], line["ask_devices"]) == (["own"], "fedlog measure rings")


def test_a_metric_that_is_no_number_meets_no_target(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is NaN or infinite is left out, and a version without any other metric is missed."""
    monkeypatch.setattr(PairLearner, "evaluate", lambda *_: {"accuracy": float("inf"), "sum": 3.0})
    assert [each.metrics for each in score(log) if isinstance(each, VersionEvaluated)] == [{"sum": 3.0}]
    other = memory_log()
    append(other, "tasks", created())
    publish_one(other)
    monkeypatch.setattr(PairLearner, "evaluate", lambda *_: {"accuracy": float("nan")})
    [missed] = score(other)
    assert isinstance(missed, Missed)
    assert "no finite metric" in missed.reason


def test_an_error_of_the_log_is_nobody_s_miss(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away says nothing about a model: the evaluator ends, and scores the version another time."""

    def fail(*_: object) -> list[int]:
        raise LogUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", fail)
        with pytest.raises(LogUnavailable):
            score(log)
    assert [type(each) for each in score(log)] == [Missed, VersionEvaluated]


def test_an_evaluation_without_end_costs_its_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: every wait has an end. The task is put aside with what to do, and waits no second time."""
    log, calls = memory_log(), []

    def loop(*_: object) -> None:
        calls.append(1)
        end_s = time.monotonic() + ENDLESS_S
        while time.monotonic() < end_s:
            pass

    monkeypatch.setattr(PairLearner, "evaluate", loop)
    append(log, "tasks", created())
    published = [model_published(n, round=None, model=models.store(log, FLAT, partition=PLACE)) for n in range(2)]
    Journal(log, "rounds").batch(Noticed(fact=created()), *published)
    main = threading.get_ident()
    # What would end the process fails the test.
    patience = Patience(Watch(None, end_process=lambda *_: _inject(main, pytest.fail.Exception)), limit_s=0.1)
    with closing(Evaluator(log, key=role_key("evaluator"), allowed=ALLOWED, patience=patience)) as evaluator:
        first, second = evaluator.step()
    assert isinstance(first, Missed)
    assert isinstance(second, Missed)
    assert "did not end within 0.1 s" in first.reason
    assert "--limit-s" in first.reason
    assert (second.version, second.reason) == (1, first.reason)
    # As a process does that was started in place of one that the task has ended.
    with closing(
        Evaluator(log, key=role_key("evaluator"), allowed=ALLOWED, patience=Patience(aside=patience.aside))
    ) as again:
        assert {each.reason for each in again.step() if isinstance(each, Missed)} == {first.reason}
    assert calls == [1]
