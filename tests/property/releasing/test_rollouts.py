"""Laws of the rollout's decider, in stories drawn at random: scores, versions, orders, copies and time in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.decider import digest
from actors.deciders.rollout import make_decider
from schemas.events import (
    CandidateStaged,
    DriftEnded,
    DriftFound,
    JournalEvent,
    ModelPublished,
    Noticed,
    Promoted,
    RolledBack,
    Tick,
    VersionEvaluated,
)
from schemas.policy import Policy
from tests.judges.releasing.rollouts import find_rollout_faults, list_said
from tests.worlds.builders import TASK, model_published, task_created
from tests.worlds.drift.asking import drift_found
from tests.worlds.releasing.deciding import ANN, BOB, EVE, order, rollout_policy, score

ASKED = f"{TASK}.ages"
Decisions = list[tuple[int, list[JournalEvent]]]
POLICIES = {
    "staged": rollout_policy(kept=3),
    "gated": rollout_policy(stages=[], gates=[{"metric": "accuracy", "drop_max": 0.05}], kept=3),
    "approved": rollout_policy(needs_approval=True, every=2),
    "quorum": rollout_policy(evaluation={"quorum": 2, "disagreement_max": 0.2}),
    "watched": rollout_policy(gates=[{"metric": "psi", "drift_of": ASKED, "drift_max": 0.25}]),
    "even": rollout_policy(gates=[{"metric": "accuracy", "gap_max": 0.3}, {"metric": "loss", "at_most": 2.0}]),
}
ACCURACIES = st.sampled_from([0.9, 0.895, 0.9, 0.7, 0.2])
SCORES = st.builds(
    score,
    st.integers(0, 6),
    ACCURACIES,
    cohort=st.sampled_from(["", "", "lab", "home"]),
    by=st.sampled_from([ANN, BOB, EVE]),
)
ORDERS = st.builds(
    order,
    st.sampled_from(["promote", "rollback", "halt", "resume", "resume", "resume", "approve", "approve"]),
    st.none() | st.integers(0, 7),
    number=st.integers(1, 20),
)
# Found with one version and the next, below the gate, and over.
DRIFTS = st.builds(
    lambda version, value, cohort: drift_found(version, value, task=ASKED, reference=ASKED, cohort=cohort),
    st.integers(2, 9),
    st.sampled_from([300_000, 220_000, 0]),
    st.sampled_from(["", "lab"]),
)
# A version with what some evaluators say of it, a score or an order of its own, or time that passes and is marked.
RELEASES = st.tuples(ACCURACIES, ACCURACIES, st.sampled_from([(ANN,), (ANN, BOB), (ANN, BOB, EVE), ()]))
TIMES = st.sampled_from([1_000, 60_000, 60_000, 120_000, 700_000])
INPUTS = st.lists(
    st.integers(0, 10).flatmap(
        lambda n: (RELEASES, TIMES, SCORES, ORDERS, DRIFTS)[(0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4)[n]]
    ),
    min_size=5,
    max_size=40,
)


class Play:
    """A decider, what it has decided, and the aggregator that says of each candidate that it is kept, when it can."""

    def __init__(self, rules: Policy, *, twice: frozenset[int] = frozenset()) -> None:
        self.decider, self.twice = make_decider(b""), twice
        self.state, self.time_ms, self.version = self.decider.initial(), 0, -1
        self.decisions: Decisions = []
        self.said: list[VersionEvaluated] = []
        self.seen: list[Any] = []
        self.hear(Noticed(fact=task_created(rules)))

    def hear(self, fact: Any) -> None:
        """Decide on an input and, in some stories, on an old one again right behind it."""
        self.seen.append(fact)
        self._decide(fact)
        if len(self.seen) in self.twice:
            for again in filter(self._is_copy, self.seen):
                assert self.decider.decide(self.state, again, self.time_ms) == []

    def _is_copy(self, fact: Any) -> bool:
        """Whether it must be nothing new: time is, and so are scores ahead of their version, of which few are kept."""
        newest = self.state.tasks[TASK].newest
        # What is found, or over, is said anew with each version.
        return not isinstance(fact, Tick | DriftFound | DriftEnded) and not (
            isinstance(fact, VersionEvaluated) and fact.version > newest
        )

    def _decide(self, fact: Any) -> None:
        before = digest(self.state)
        events = self.decider.decide(self.state, fact, self.time_ms)
        assert digest(self.state) == before
        for event in events:
            self.decider.evolve(self.state, event, self.time_ms)
        if events:
            self.decisions.append((self.time_ms, events))

    def take(self, one: Any) -> None:
        """One step of the story."""
        match one:
            case (total, lab, evaluators):
                self.publish()
                for by in evaluators:
                    self.take(score(self.version, lab, cohort="lab", by=by))
                    self.take(score(self.version, total, by=by))
            case int():
                self.time_ms += one
                self.hear(Tick())
            case DriftFound(value=0):
                self.hear(DriftEnded(**{name: getattr(one, name) for name in one.__struct_fields__}))
            case VersionEvaluated():
                self.said.append(one)
                self.hear(one)
            case _:
                self.hear(one)
        self._keep()

    def publish(self) -> None:
        """The next version."""
        self.version += 1
        self.hear(model_published(self.version))

    def _keep(self) -> None:
        """The aggregator keeps what is staged as long as it is in its window."""
        task = self.state.tasks[TASK]
        if task.candidate is not None and not task.candidate.is_kept and task.candidate.version >= task.oldest:
            self.hear(Noticed(fact=CandidateStaged(task=TASK, version=task.candidate.version, previous=task.promoted)))

    def list_faults(self) -> list[str]:
        """What the judge says."""
        published = {(TASK, number): model_published(number).model for number in range(self.version + 1)}
        said = {each for evaluated in self.said for each in list_said(evaluated)}
        return [*find_rollout_faults(self.decisions, published=published, said=said)]


@settings(max_examples=300)
@given(rules=st.sampled_from(sorted(POLICIES)), inputs=INPUTS)
def test_a_rollout_is_lawful_in_every_story(rules: str, inputs: Sequence[Any]) -> None:
    """One candidate at a time, promoted by all stages or an order, on evidence that stands in the log."""
    play = Play(POLICIES[rules])
    for one in inputs:
        play.take(one)
    assert play.list_faults() == []


@settings(max_examples=100)
@given(rules=st.sampled_from(sorted(POLICIES)), inputs=INPUTS, twice=st.frozensets(st.integers(1, 60)))
def test_copies_change_nothing(rules: str, inputs: Sequence[Any], twice: frozenset[int]) -> None:
    """Whatever comes a second time, right away or later, decides nothing: the decisions stay the same."""
    once, again = Play(POLICIES[rules]), Play(POLICIES[rules], twice=twice)
    for one in inputs:
        once.take(one)
        again.take(one)
    assert once.decisions == again.decisions


@settings(max_examples=100)
@given(rules=st.sampled_from(sorted(POLICIES)), inputs=INPUTS)
def test_a_state_is_the_fold_of_its_decisions(rules: str, inputs: Sequence[Any]) -> None:
    """Law 1: whoever folds the journal alone, from its bytes, has the same state."""
    play = Play(POLICIES[rules])
    for one in inputs:
        play.take(one)
    state = play.decider.initial()
    for time_ms, events in play.decisions:
        for event in events:
            copied = msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=JournalEvent)
            play.decider.evolve(state, copied, time_ms)
    assert digest(state) == digest(play.state)


@settings(max_examples=200)
@given(accuracies=st.lists(st.sampled_from([0.9, 0.895, 0.88, 0.5, 0.1]), min_size=1, max_size=8))
def test_a_failing_score_is_answered_in_its_own_decision(accuracies: Sequence[float]) -> None:
    """The decision that sees the failing final score is the one that rolls back; no bad version is ever promoted."""
    play, best = Play(POLICIES["gated"]), None
    for accuracy in accuracies:
        play.publish()
        if play.version == 0:
            play.publish()
        play.take(score(play.version, accuracy))
        [(_, heard)] = [d for d in play.decisions if Noticed(fact=score(play.version, accuracy)) in d[1]]
        if best is not None and best - accuracy > 0.05:
            assert isinstance(heard[-1], RolledBack)
        else:
            best = accuracy
            assert isinstance(play.decisions[-1][1][-1], Promoted)
    assert isinstance(play.seen[1], ModelPublished)
