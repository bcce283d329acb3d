"""A server has each version once, whatever ended in between and whoever works beside, and its aliases follow."""

from __future__ import annotations

from typing import Any

import pytest

from ops.services.mlflow.registering import ModelTaken
from ops.services.mlflow.server import Model, ServerAway
from schemas.events import VersionEvaluated
from tests.worlds.builders import TASK
from tests.worlds.mlflow.stories import WHOLE, make_registrar, read_courses, summarize, tell_story, work
from tests.worlds.mlflow.twin import Turns, TwinServer, Watched, away_at, pass_by
from tests.worlds.ops_journal import append
from tests.worlds.published.announcing import announce_rollout, publish

COURSES = read_courses(tell_story())


def count_calls() -> int:
    """How many calls the whole story takes."""
    watched = Watched(TwinServer(), before=pass_by, behind=pass_by)
    work(watched, COURSES)
    return watched.calls


CALLS = count_calls()


def require_whole(server: TwinServer, when: object = "") -> None:
    """Each version once, with all of its parts."""
    assert summarize(server) == WHOLE, when
    runs = [server.runs[one.run] for one in server.list_versions(TASK, {})]
    assert all(run.files and run.params and run.is_ended for run in runs), when


def test_every_version_is_registered_with_all_that_is_known() -> None:
    """Guarantee: scores by cohort, files, aliases, and the reason of a rollback."""
    server = TwinServer()
    told = work(server, COURSES)
    assert summarize(server) == WHOLE
    assert told[0] == f"version 0 is {TASK} 2"
    assert told[-2:] == ["candidate is version 3", "champion is version 1"]
    assert {run.files["weights.bin"] for run in server.runs.values()} == {f"{TASK}/{n}".encode() for n in range(4)}
    assert all(run.is_ended for run in server.runs.values())


def test_a_second_start_does_nothing() -> None:
    """Guarantee: what is there is looked up by its tags, and left as it is."""
    server = TwinServer()
    work(server, COURSES)
    runs = dict(server.runs)
    assert work(server, COURSES) == []
    assert server.runs == runs


@pytest.mark.parametrize("side", ["before", "behind"])
def test_each_version_is_there_once_wherever_it_was_interrupted(side: str) -> None:
    """Guarantee: killed at any call, before or behind its work, and started again: each version once, and whole."""
    for number in range(1, CALLS + 1):
        server = TwinServer()
        strikes = {"before": pass_by, "behind": pass_by, side: away_at(number)}
        with pytest.raises(ServerAway):
            work(Watched(server, **strikes), COURSES)
        work(server, COURSES)
        require_whole(server, number)


@pytest.mark.parametrize("side", ["before", "behind"])
def test_two_side_by_side_do_no_harm(side: str) -> None:
    """Guarantee: one that works through all while another stands before or behind any of its calls changes nothing."""
    for number in range(1, CALLS + 1):
        server = TwinServer()

        def stand_by(call: int, at: int = number, server: TwinServer = server) -> None:
            if call == at:
                work(server, COURSES)

        strikes: dict[str, Any] = {"before": pass_by, "behind": pass_by, side: stand_by}
        work(Watched(server, **strikes), COURSES)
        require_whole(server, number)


@pytest.mark.parametrize("seed", range(30))
def test_no_order_of_their_calls_does_harm(seed: int) -> None:
    """Guarantee: two who take turns at every call, of whom one may die at any, leave each version once and whole."""
    server = TwinServer()
    turns = Turns(seed, deadliness=0.01 * (seed % 3))
    turns.work(*[lambda wait: work(Watched(server, before=wait, behind=pass_by), COURSES)] * 2)
    if turns.deadliness:
        # Whoever starts next finishes and tidies what the dead have left.
        work(server, COURSES)
    require_whole(server)


def test_what_two_who_died_left_behind_is_tidied() -> None:
    """Guarantee: a version that is there twice is there once after the next start, and the first one stays."""
    server = TwinServer()
    work(server, COURSES)
    [first] = server.list_versions(TASK, {"fedlog.version": "2"})
    tags = first.tags
    run = server.create_run(server.open_experiment(TASK), "again", tags=tags, begun_ms=0)
    server.create_version(TASK, run, tags=tags)
    work(server, COURSES)
    assert summarize(server) == WHOLE
    assert server.list_versions(TASK, {"fedlog.version": "2"})[0].number == first.number


def test_a_later_score_and_a_later_decision_are_taken_along() -> None:
    """Guarantee: another evaluator's voice, a promotion, and that of what was rolled back, show on the server."""
    log, server = tell_story(), TwinServer()
    courses = read_courses(log)
    registrar = make_registrar(server, courses)
    list(registrar.step(TASK))
    append(log, "evaluations", VersionEvaluated(task=TASK, version=3, metrics={"f1": 0.5}, samples=9, cohort="paris"))
    publish(log, announce_rollout("promoted", 3, seq=6), announce_rollout("rolledback", 3, seq=7, to=None))
    publish(log, announce_rollout("promoted", 2, seq=8))
    work(server, read_courses(log))
    found = summarize(server)
    assert found["aliases"] == {"champion": 2}
    assert found["rolled back"] == {3: ("drop", "none")}
    [third] = server.list_versions(TASK, {"fedlog.version": "3"})
    assert [value.value for value in server.runs[third.run].history if value.name == "f1/paris"] == [0.5]


def test_somebody_elses_model_is_left_alone() -> None:
    """Guarantee: a registered model that was there before, or is of another deployment, gets no version of ours."""
    server = TwinServer()
    server.models[TASK], server.versions[TASK] = Model(tags={}, aliases={}), {}
    with pytest.raises(ModelTaken, match="--prefix"):
        work(server, COURSES)
    assert server.versions[TASK] == {}
    work(server, COURSES, prefix="fedlog-")
    assert summarize(server, prefix="fedlog-") == WHOLE


def test_a_model_that_retention_has_deleted_is_said() -> None:
    """Guarantee: a version is registered for good, with a tag where its files can be had no more."""
    server = TwinServer()
    registrar = make_registrar(server, COURSES)
    registrar._read_files = lambda entry: ({"privacy.log": b""}, False)
    list(registrar.step(TASK))
    assert len(server.list_versions(TASK, {"fedlog.model_gone": "true"})) == 4
