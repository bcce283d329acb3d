"""What the log says of versions: believed for its signatures, complete or not said, and nothing of any device."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from ops.services.mlflow.entries import Entry, Withdrawal
from schemas.events import VersionEvaluated
from schemas.topics import LEDGER
from streams.memory import MemoryLog
from tests.survey import measuring_policy
from tests.unit.ops.terminal.conftest import founded_log
from tests.worlds.builders import TASK, scored
from tests.worlds.mlflow.stories import read_courses, tell_story
from tests.worlds.ops_journal import Journal, append, created, policy
from tests.worlds.published.announcing import announce_rollout, announce_version, describe_rollout, publish, sign_as
from tests.worlds.rounds import evaluator_id, round_charged


def list_entries(log: MemoryLog) -> list[Entry]:
    """Those of the one task."""
    return [*read_courses(log).list_entries(TASK)]


def say(log: MemoryLog, serial: int, **metrics: float) -> None:
    """What the evaluator with this key says of version 0."""
    name = evaluator_id(serial)
    fact = VersionEvaluated(task=TASK, version=0, metrics=metrics, samples=9, cohort="", evaluator=name)
    append(log, "evaluations", scored(fact, serial=serial))


def test_scores_are_final_by_cohort() -> None:
    """Guarantee: what evaluators say of all examples and of each cohort."""
    third = list_entries(tell_story())[3]
    assert third.id == f"{TASK}/3"
    found = {cohort: final.metrics["accuracy"] for cohort, final in third.scores.items()}
    assert found == pytest.approx({"": 0.6, "berlin": 0.3})
    assert third.scores[""].samples == 12


def test_a_score_that_lacks_its_quorum_is_not_said() -> None:
    """Guarantee: one evaluator of two is no score; two give the median of all metrics, whoever decides on which."""
    log = founded_log()
    append(log, "tasks", created(policy=policy(evaluation={"quorum": 2})))
    publish(log, announce_version(0))
    say(log, 0, f1=0.2, accuracy=0.1)
    assert list_entries(log)[0].scores == {}
    # Saying it twice makes no quorum.
    say(log, 0, f1=0.9, accuracy=0.9)
    assert list_entries(log)[0].scores == {}
    say(log, 1, f1=0.4, accuracy=0.3)
    assert list_entries(log)[0].scores[""].metrics == pytest.approx({"f1": 0.3, "accuracy": 0.2})


def test_a_private_version_is_not_said_before_its_cost() -> None:
    """Guarantee: the ledger is another topic and may be read later; no version is without what it cost."""
    log = founded_log()
    rules = policy(privacy={"noise_multiplier": 1.0, "rho_max": 2.0})
    append(log, "tasks", created(policy=rules))
    publish(log, announce_version(0), announce_version(1), announce_version(2))
    assert [entry.data.version for entry in list_entries(log)] == [0]
    ledger = Journal(log, LEDGER.name)
    ledger.batch(round_charged(0, rules))
    assert [entry.data.version for entry in list_entries(log)] == [0, 1]
    ledger.batch(round_charged(1, rules))
    assert [entry.charge and entry.charge.round for entry in list_entries(log)] == [None, 0, 1]


def test_answers_to_questions_are_no_models() -> None:
    """Guarantee: the versions of a measure task are not registered."""
    log = founded_log()
    append(log, "tasks", created(policy=measuring_policy()))
    publish(log, announce_version(0))
    assert list_entries(log) == []


def test_forged_and_copied_announcements_change_nothing() -> None:
    """Guarantee: the alias of what everybody uses follows the rollout's own word, in its own order."""
    log = tell_story()
    publish(log, sign_as("aggregator", describe_rollout("promoted", 3, seq=9)), announce_rollout("promoted", 3, seq=1))
    with capture_logs() as lines:
        course = read_courses(log).tasks[TASK]
    assert (course.promoted, course.candidate) == (1, 3)
    assert course.withdrawn == {2: Withdrawal(reason="drop", to=1)}
    assert [line["event"] for line in lines] == ["junk_skipped"] * 2


def test_another_deployments_words_are_nothing_here() -> None:
    """Guarantee: staging under the same key gives production neither versions nor scores."""
    courses = read_courses(tell_story(), deployment=b"x" * 16)
    assert [*courses.list_entries(TASK)] == []


def test_news_are_told_once() -> None:
    """Guarantee: whoever follows looks again at the tasks of which something was read, and at no other."""
    courses = read_courses(tell_story())
    assert courses.take_news() == [TASK]
    assert courses.take_news() == []
