"""The rollout: a candidate goes through its stages by final scores and time, and back by a score that fails."""

from __future__ import annotations

import msgspec

from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    Noticed,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutResumed,
    TaskCreated,
    TaskHalted,
    Tick,
)
from tests.worlds.builders import TASK, policy, task_created
from tests.worlds.releasing.deciding import (
    BOB,
    EVE,
    HOLD_MS,
    PATIENCE_MS,
    find_task,
    kept,
    model_of,
    order,
    promote_first,
    proof,
    published,
    rolled_out,
    rollout_policy,
    score,
)
from tests.worlds.specification import given


def test_a_task_without_the_table_is_nobody_to_roll_out() -> None:
    """Only tasks with [rollout] are known; what is said of others causes nothing."""
    from actors.deciders.rollout import make_decider

    given(make_decider(b"")).when(Noticed(fact=task_created(policy()))).then_nothing().when(
        published(0), score(0, 0.9), order("promote", 0)
    ).then_nothing()


def test_a_final_score_makes_a_candidate() -> None:
    """The newest version with a final score is staged; the first model never is, whatever its score."""
    here = rolled_out().when(score(0, 0.9)).then(Noticed(fact=score(0, 0.9)))
    here.when(published(1)).then(Noticed(fact=published(1)))
    here.when(score(1, 0.9, cohort="lab")).then(Noticed(fact=score(1, 0.9, cohort="lab")))
    here.when(score(1, 0.9)).then(Noticed(fact=score(1, 0.9)), CandidateStaged(task=TASK, version=1, previous=None))


def test_a_score_may_come_before_its_version() -> None:
    """Topics are read apart: a score of a version not heard of yet counts once the version is there."""
    here = rolled_out().when(score(1, 0.9, cohort="lab"), score(1, 0.9)).then(Noticed(fact=score(1, 0.9)))
    here.when(published(1)).then(Noticed(fact=published(1)), CandidateStaged(task=TASK, version=1, previous=None))


def test_stages_take_their_time_and_name_their_evidence() -> None:
    """A canary starts once the model is kept, grows when its stage is over, and is promoted behind the last."""
    lab, total = proof(1, 0.9, cohort="lab"), proof(1, 0.9)
    here = rolled_out().when(published(1), score(1, 0.9, cohort="lab"), score(1, 0.9))
    here.at(5).when(Tick()).then_nothing()
    started = CanaryStarted(
        task=TASK, version=1, stage=0, cohorts=("lab",), share=0.05, evidence=(total, lab), model=model_of(1)
    )
    here.when(kept(1)).then(kept(1), started)
    here.at(5 + HOLD_MS - 1).when(Tick()).then_nothing()
    grown = CanaryGrown(task=TASK, version=1, stage=1, cohorts=(), share=0.5, evidence=(total, lab), model=model_of(1))
    here.at(5 + HOLD_MS).when(Tick()).then(grown)
    here.at(5 + 2 * HOLD_MS).when(Tick()).then(
        Promoted(task=TASK, version=1, previous=None, evidence=(total, lab), model=model_of(1))
    )


def test_without_stages_a_good_version_is_promoted_at_once() -> None:
    """A policy of gates alone promotes as soon as the model is kept."""
    here = rolled_out(rollout_policy(stages=[])).when(published(1), score(1, 0.9))
    here.when(kept(1)).then(
        kept(1), Promoted(task=TASK, version=1, previous=None, evidence=(proof(1, 0.9),), model=model_of(1))
    )


def test_a_candidate_below_a_gate_is_rolled_back_in_the_decision_that_sees_it() -> None:
    """The failing score itself rolls it back, and the decision names that score."""
    here = rolled_out().when(published(1), score(1, 0.4, cohort="lab"))
    here.when(score(1, 0.4)).then(
        Noticed(fact=score(1, 0.4)),
        CandidateStaged(task=TASK, version=1, previous=None),
        RolledBack(task=TASK, version=1, to=None, reason="at_least", evidence=(proof(1, 0.4),), model=None),
    )


def test_a_regression_against_the_promoted_version_is_rolled_back() -> None:
    """A hundredth less than what is promoted is allowed, two are not; both scores are evidence."""
    here = promote_first().when(published(2), score(2, 0.88, cohort="lab"), score(2, 0.88))
    assert here.caused[-1] == RolledBack(
        task=TASK, version=2, to=1, reason="drop", evidence=(proof(2, 0.88), proof(1, 0.9)), model=model_of(1)
    )
    here.when(published(3), score(3, 0.895, cohort="lab"), score(3, 0.895), kept(3, 1))
    assert isinstance(here.caused[-1], CanaryStarted)


def test_of_a_loss_less_is_better() -> None:
    """A drop of the loss is a rise of its number."""
    gate = {"metric": "loss", "drop_max": 0.1, "at_most": 5.0}
    here = promote_first(rollout_policy(gates=[gate]))
    worse = score(2, 0.9).__class__(
        task=TASK, version=2, metrics={"loss": 1.2, "accuracy": 0.9}, samples=9, cohort="", evaluator=BOB
    )
    here.when(published(2), worse)
    assert isinstance(here.caused[-1], RolledBack)
    assert here.caused[-1].reason == "drop"


def test_an_uneven_version_is_rolled_back() -> None:
    """Cohorts may be apart by the gate's gap and no further; what is promoted says which cohorts there are."""
    rules = rollout_policy(gates=[{"metric": "accuracy", "gap_max": 0.1}])
    here = rolled_out(rules).when(
        published(1), score(1, 0.9, cohort="lab"), score(1, 0.7, cohort="home"), score(1, 0.8)
    )
    assert isinstance(here.caused[-1], RolledBack)
    assert here.caused[-1].reason == "gap"
    assert {each.cohort for each in here.caused[-1].evidence} == {"lab", "home"}


def test_a_missing_cohort_runs_out_of_patience() -> None:
    """Without the score of a cohort that a stage names nothing moves; after the policy's patience it is unscored."""
    here = rolled_out().when(published(1), score(1, 0.9), kept(1)).then(kept(1))
    here.at(PATIENCE_MS - 1).when(Tick()).then_nothing()
    here.at(PATIENCE_MS).when(Tick()).then(
        RolledBack(task=TASK, version=1, to=None, reason="unscored", evidence=(), model=None)
    )
    here.when(score(1, 0.9, cohort="lab"))
    assert not any(isinstance(event, CandidateStaged) for event in here.caused)


def test_too_few_examples_are_no_score() -> None:
    """A score counts for the gates once enough examples stand behind it, of all evaluators together."""
    here = rolled_out(rollout_policy(samples_min=150, stages=[])).when(published(1), score(1, 0.9), kept(1))
    here.then(kept(1)).when(score(1, 0.9, by=BOB))
    assert isinstance(here.caused[-1], Promoted)


def test_who_disagrees_stops_the_rollout() -> None:
    """Contested scores halt it, with what each evaluator says; nothing moves until the operator resumes."""
    rules = rollout_policy(stages=[], evaluation={"quorum": 2, "disagreement_max": 0.05})
    here = rolled_out(rules).when(published(1), score(1, 0.9), score(1, 0.2, by=BOB))
    assert here.caused[-1] == RolloutHalted(
        task=TASK,
        version=1,
        reason="disagreement",
        evidence=(proof(1, 0.9), proof(1, 0.2, by=BOB)),
    )
    here.when(score(1, 0.9, by=EVE)).then(Noticed(fact=score(1, 0.9, by=EVE)))
    here.at(PATIENCE_MS * 2).when(Tick()).then_nothing()
    here.when(published(2), score(2, 0.9), score(2, 0.91, by=BOB), order("resume"))
    assert here.caused[-1] == CandidateStaged(task=TASK, version=2, previous=None)


def test_it_halts_once_for_a_version() -> None:
    """Evaluators may never agree: once resumed, it passes over the version that they disagree about."""
    rules = rollout_policy(stages=[], evaluation={"quorum": 2, "disagreement_max": 0.05})
    here = rolled_out(rules).when(published(1), score(1, 0.9), score(1, 0.2, by=BOB), order("resume"))
    here.then(order("resume"), RolloutResumed(task=TASK))
    here.at(PATIENCE_MS).when(Tick()).then_nothing()


def test_one_liar_of_three_changes_nothing() -> None:
    """With a quorum of three the median decides."""
    rules = rollout_policy(stages=[], evaluation={"quorum": 3})
    here = rolled_out(rules).when(published(1), score(1, 0.9), score(1, 0.0, by=BOB), score(1, 0.91, by=EVE), kept(1))
    assert isinstance(here.caused[-1], Promoted)


def test_a_newer_version_does_not_disturb_a_canary() -> None:
    """One candidate at a time: the newest that is scored by then comes after it."""
    here = rolled_out().when(published(1), score(1, 0.9, cohort="lab"), score(1, 0.9), kept(1))
    here.when(published(2), score(2, 0.9), published(3), score(3, 0.9, cohort="lab"))
    here.when(score(3, 0.9)).then(Noticed(fact=score(3, 0.9)))
    here.at(HOLD_MS).when(Tick()).at(2 * HOLD_MS).when(Tick())
    assert [type(event) for event in here.caused] == [Promoted, CandidateStaged]
    assert here.caused[-1] == CandidateStaged(task=TASK, version=3, previous=1)


def test_a_later_score_rolls_what_is_promoted_back() -> None:
    """Another evaluator comes late and changes the median: production goes back to the version before."""
    here = promote_first().when(published(2), score(2, 0.9, cohort="lab"), score(2, 0.9), kept(2, 1))
    here.at(here.time_ms + HOLD_MS).when(Tick()).at(here.time_ms + HOLD_MS).when(Tick())
    assert find_task(here).promoted == 2
    here.when(score(2, 0.1, by=BOB))
    both = (proof(2, 0.9), proof(2, 0.1, by=BOB), proof(1, 0.9))
    assert here.caused == [
        Noticed(fact=score(2, 0.1, by=BOB)),
        RolledBack(task=TASK, version=2, to=1, reason="drop", evidence=both, model=model_of(1)),
    ]
    assert (find_task(here).promoted, find_task(here).previous) == (1, None)


def test_only_each_nth_version_is_a_candidate() -> None:
    """`every` spares devices and evaluators."""
    here = rolled_out(rollout_policy(every=3)).when(published(1), score(1, 0.9), published(2), score(2, 0.9))
    here.then(Noticed(fact=score(2, 0.9))).when(published(3), score(3, 0.9))
    assert here.caused[-1] == CandidateStaged(task=TASK, version=3, previous=None)


def test_a_candidate_whose_model_may_be_gone_is_given_up() -> None:
    """Where newer versions have pushed it out before the aggregator said that it keeps it, nobody is to use it."""
    here = rolled_out(rollout_policy(kept=2)).when(published(1), score(1, 0.9, cohort="lab"), score(1, 0.9))
    here.when(published(2)).then(Noticed(fact=published(2)))
    here.when(published(3))
    assert here.caused[-1] == RolledBack(task=TASK, version=1, to=None, reason="gone", evidence=(), model=None)


def test_a_kept_candidate_outlives_the_window() -> None:
    """Once it is kept, any number of newer versions does not matter."""
    here = rolled_out(rollout_policy(kept=2)).when(published(1), score(1, 0.9, cohort="lab"), score(1, 0.9), kept(1))
    for version in range(2, 9):
        here.when(published(version))
    assert [*find_task(here).models] == [1, 7, 8]
    here.at(HOLD_MS).when(Tick())
    assert isinstance(here.caused[0], CanaryGrown)


def test_a_rollout_goes_on_when_its_task_is_over() -> None:
    """No version comes any more, and those that are there still come to people; nothing waits for the training."""
    here = rolled_out().when(published(1), score(1, 0.9, cohort="lab"), score(1, 0.9), kept(1))
    here.when(TaskHalted(task=TASK, reason="versions_max", version=1)).then_nothing()
    here.at(HOLD_MS).when(Tick()).at(2 * HOLD_MS).when(Tick())
    assert isinstance(here.caused[0], Promoted)


def test_the_last_word_is_the_operators_where_it_is_asked_for() -> None:
    """With `needs_approval` the last stage lasts until the operator approves."""
    here = rolled_out(rollout_policy(needs_approval=True, stages=[])).when(published(1), score(1, 0.9), kept(1))
    here.then(kept(1)).when(order("approve"))
    assert [type(event) for event in here.caused] == [Noticed, Promoted]


def test_a_copy_decides_nothing() -> None:
    """Every input a second time, in any place, is no news."""
    here = promote_first()
    created = find_task(here).created
    for said in (published(1), published(0), score(1, 0.1), kept(1), Noticed(fact=created)):
        here.when(said).then_nothing()
    assert isinstance(created, TaskCreated)


def test_what_is_known_does_not_grow_with_versions() -> None:
    """Models and scores of versions that nobody can use any more are dropped."""
    here = rolled_out(rollout_policy(kept=3, stages=[]))
    for version in range(1, 40):
        here.when(published(version), score(version, 0.9), kept(version, version - 1 or None))
    task = find_task(here)
    assert (task.promoted, task.previous, task.candidate) == (39, 38, None)
    assert set(task.models) == {37, 38, 39}
    assert set(task.scores.said) == {37, 38, 39}


def test_scores_ahead_of_their_versions_are_bounded() -> None:
    """Whoever certified says scores of versions that never come fills no memory."""
    here = rolled_out(rollout_policy(kept=3))
    for version in range(5, 500):
        here.when(score(version, 0.9))
    assert set(find_task(here).scores.said) == {497, 498, 499}


def test_a_measurement_is_heard_from_the_aggregator_alone() -> None:
    """With a quorum of two one key has one voice: what it says of a measurement counts once it has been compared."""
    rules = rollout_policy(evaluation={"quorum": 2})
    relayed = msgspec.structs.replace(score(1, 0.1), source=f"{TASK}-measured")
    own = score(1, 0.9)
    here = rolled_out(rules).when(published(1), own)
    here.when(relayed).then_nothing()
    # Nor does what evaluators have measured themselves count twice, for being noticed there as well.
    here.when(Noticed(fact=own), Noticed(fact=score(1, 0.9, by=BOB))).then_nothing()
    here.when(Noticed(fact=relayed)).then(Noticed(fact=relayed), CandidateStaged(task=TASK, version=1, previous=None))
