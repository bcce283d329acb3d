"""Final scores: a quorum and its median, one voice a key, and a task that ends by them and by no single word."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import UNSET

from actors.deciders.decider import digest
from actors.deciders.scores import COHORTS_MAX, Contested, Rule, Scores, Standing
from schemas.canonical import decode_state, encode_state
from schemas.events import JournalEvent, Noticed, VersionEvaluated
from tests.worlds.builders import TASK, policy
from tests.worlds.rounds import fill, given, publication, release_stored, task_halted

RULE = Rule(quorum=2, metric="accuracy", kept=frozenset({"accuracy", "loss"}))
ANN, BEN, CLO = "a" * 16, "b" * 16, "c" * 16


def says(evaluator: Any, value: float, version: int = 0, cohort: str = "", **changes: Any) -> VersionEvaluated:
    """One evaluator's word."""
    plain = {"metrics": {"accuracy": value}, "samples": 10, "source": UNSET, **changes}
    return VersionEvaluated(task=TASK, version=version, cohort=cohort, evaluator=evaluator, **plain)


def heard(*words: VersionEvaluated, rule: Rule = RULE) -> Scores:
    """What is remembered of these words."""
    scores = Scores()
    for word in words:
        if scores.is_new(word, rule):
            scores.add(word, rule)
    return scores


def accuracy(scores: Scores, rule: Rule = RULE, cohort: str = "") -> float | None:
    """The final accuracy of version 0."""
    final = scores.find_final(0, cohort, rule=rule)
    return None if final is None else final.metrics.get("accuracy")


def test_a_score_is_final_once_a_quorum_is_in() -> None:
    """One word is no quorum of two; the second makes it final, and a third still counts."""
    assert accuracy(heard(says(ANN, 0.8))) is None
    assert accuracy(heard(says(ANN, 0.8), says(BEN, 0.6))) == pytest.approx(0.7)
    assert accuracy(heard(says(ANN, 0.8), says(BEN, 0.6), says(CLO, 0.9))) == 0.8
    final = heard(says(ANN, 0.8), says(BEN, 0.6)).find_final(0, rule=RULE)
    assert final is not None
    assert (final.samples, final.voices) == (20, 2)


def test_what_an_evaluator_says_again_replaces_nothing() -> None:
    """The first word counts: who could take it back could wait for the others. Nor is it another voice."""
    scores = heard(says(ANN, 0.8), says(ANN, 0.1), says(ANN, 0.1, cohort="west"))
    assert accuracy(scores) is None
    scores = heard(says(ANN, 0.8), says(ANN, 0.1), says(BEN, 0.8))
    assert accuracy(scores) == 0.8


def test_a_word_without_a_name_is_no_voice_of_a_quorum() -> None:
    """Whoever holds one key would be two voices; where one is enough it counts as it did before there were names."""
    assert accuracy(heard(says(UNSET, 0.8), says(ANN, 0.8))) is None
    alone = Rule(quorum=1, metric="accuracy", kept=RULE.kept)
    assert accuracy(heard(says(UNSET, 0.8), rule=alone), rule=alone) == 0.8


def test_federated_evaluations_are_one_voice() -> None:
    """However many relay them, and however many measure tasks there are; one that relays them falsely is outvoted."""
    relayed = [says(name, value, source=f"{TASK}-m") for name, value in ((ANN, 0.5), (BEN, 0.5), (CLO, 1.0))]
    assert accuracy(heard(*relayed)) is None
    assert accuracy(heard(*relayed, says(ANN, 0.7))) == pytest.approx(0.6)
    assert accuracy(heard(relayed[0], says(ANN, 0.5, source="other"))) is None


def test_cohorts_are_apart_and_bounded() -> None:
    """A cohort has its own quorum; an evaluator that makes up cohorts fills no memory but its own share."""
    scores = heard(says(ANN, 0.8, cohort="west"), says(BEN, 0.6, cohort="west"), says(ANN, 0.9, cohort="east"))
    assert accuracy(scores, cohort="west") == pytest.approx(0.7)
    assert accuracy(scores, cohort="east") is None
    assert scores.list_cohorts(0) == ["east", "west"]
    many = heard(*[says(ANN, 0.5, cohort=f"c{number}") for number in range(3 * COHORTS_MAX)], says(ANN, 0.5))
    assert len(many.list_cohorts(0)) == COHORTS_MAX
    assert "" in many.said[0][ANN]


def test_only_metrics_that_decide_are_remembered() -> None:
    """An evaluator's other numbers cost a state nothing, and a word without any that counts is none."""
    scores = heard(says(ANN, 0.8, metrics={"accuracy": 0.8, "x" * 99: 1.0}), says(BEN, 0.0, metrics={"other": 1.0}))
    assert scores.said == {0: {ANN: {"": scores.said[0][ANN][""]}}}
    assert scores.said[0][ANN][""].metrics == {"accuracy": 0.8}


def test_evaluators_that_disagree_contest_a_score() -> None:
    """Further apart than the policy allows is no score; a third that agrees with one of them settles it."""
    rule = Rule(quorum=2, metric="accuracy", disagreement_max=0.05, kept=RULE.kept)
    two = heard(says(ANN, 0.8), says(BEN, 0.1), rule=rule)
    assert two.settle(0, rule=rule) == Contested(voices=2, spread=pytest.approx(0.7))
    three = heard(says(ANN, 0.8), says(BEN, 0.1), says(CLO, 0.82), rule=rule)
    assert accuracy(three, rule) == 0.8
    # Half of them against the other half is no majority, though each half would be a quorum.
    four = heard(*[says(f"{n:016x}", value) for n, value in enumerate((0.8, 0.8, 0.1, 0.1))], rule=rule)
    assert isinstance(four.settle(0, rule=rule), Contested)
    lacking = heard(says(ANN, 0.8), says(BEN, 0.0, metrics={"loss": 1.0}), rule=rule)
    assert isinstance(lacking.settle(0, rule=rule), Contested)


def test_a_median_of_the_largest_numbers_is_a_number() -> None:
    """Halved before they are added: their sum would be none, and no record could hold it."""
    assert accuracy(heard(says(ANN, 1.7e308), says(BEN, 1.7e308))) == 1.7e308


# --- a task that is judged by them -----------------------------------------------------------------------------------

QUORUM = {"quorum": 2}
TARGET = {"versions_max": 9, "target_metric": "accuracy", "target_value": 0.9}


def published(versions: int, **evaluation: Any) -> Any:
    """A task with so many versions beside the first."""
    situation = given(policy(stop=TARGET, evaluation={**QUORUM, **evaluation}))
    for version in range(1, versions + 1):
        members = fill(situation, "abc", number=version)
        situation.when(release_stored(version - 1, version)).then(*publication(version - 1, version, members))
        assert members
    return situation


def outcome(situation: Any, *words: VersionEvaluated) -> list[JournalEvent]:
    """What the last of these words causes."""
    for word in words:
        situation.when(word)
    caused: list[JournalEvent] = situation.caused
    return caused


def test_no_single_word_ends_a_task_with_a_quorum() -> None:
    """Each voice stands in the journal; the target is met by the median alone, and said again it is nothing."""
    situation = published(0)
    first, second = says(ANN, 1.0), says(BEN, 0.85)
    situation.when(first).then(Noticed(fact=first))
    situation.when(first).then_nothing()
    situation.when(says(ANN, 0.0)).then_nothing()
    situation.when(second).then(Noticed(fact=second), task_halted("target", 0))


@pytest.mark.parametrize(
    "word",
    [
        says(ANN, 1.0, version=1),
        says(ANN, 1.0, cohort="west"),
        says(UNSET, 1.0),
        says(ANN, 1.0, metrics={"other": 1.0}),
        says(ANN, 1.0, source="nobody"),
        says(ANN, 1.0, source=TASK),
        msgspec.structs.replace(says(ANN, 1.0), task="nobody"),
    ],
    ids=["no version", "a cohort", "no name", "no metric", "no measure task", "a task that trains", "no task"],
)
def test_words_on_which_nothing_rests_leave_no_trace(word: VersionEvaluated) -> None:
    """Of what does not exist, of a part of the examples, by nobody in particular, or about nothing that counts."""
    published(0).when(word).then_nothing()


def test_a_version_that_falls_behind_the_best_ends_the_task() -> None:
    """Guarantee: worse than the best final score before it by more than drop_max halts as regressed."""
    situation = published(2, drop_max=0.02)
    for version, value in ((0, 0.5), (1, 0.8)):
        outcome(situation, says(ANN, value, version), says(BEN, value, version))
    last = says(BEN, 0.7, 2)
    situation.when(says(ANN, 0.7, 2)).then(Noticed(fact=says(ANN, 0.7, 2)))
    situation.when(last).then(Noticed(fact=last), task_halted("regressed", 2))


@pytest.mark.parametrize(("metric", "falls"), [("accuracy", 0.75), ("loss", 0.85)])
def test_within_drop_max_it_goes_on(metric: str, falls: float) -> None:
    """By just as much as the policy allows, and better by any amount; of a loss less is better."""
    situation = published(2, drop_max=0.0625, metric=metric)
    better = 0.5 if metric == "accuracy" else 2.0
    for version, value in ((0, better), (1, 0.8), (2, falls)):
        for name in (ANN, BEN):
            word = says(name, value, version, metrics={metric: value})
            situation.when(word).then(Noticed(fact=word))


def test_an_old_version_that_is_scored_late_ends_nothing() -> None:
    """An evaluator that is behind scores old versions after new ones: a fall that is made up for ends nothing."""
    situation = published(2, drop_max=0.02)
    for version, value in ((2, 0.8), (0, 0.5), (1, 0.2)):
        for name in (ANN, BEN):
            word = says(name, value, version)
            situation.when(word).then(Noticed(fact=word))


def test_divergence_is_judged_by_the_median() -> None:
    """One evaluator's monstrous loss ends nothing; that of most does."""
    situation, names = published(1, quorum=3), (ANN, BEN, CLO)
    outcome(situation, *[says(name, 0.0, 0, metrics={"loss": 2.0}) for name in names])
    words = [says(name, 0.0, 1, metrics={"loss": 2.0 if name == CLO else 1e9}) for name in names]
    situation.when(words[0]).then(Noticed(fact=words[0]))
    situation.when(words[2]).then(Noticed(fact=words[2]))
    situation.when(words[1]).then(Noticed(fact=words[1]), task_halted("diverged", 1))
    honest = published(1, quorum=3)
    outcome(honest, *[says(name, 0.0, 0, metrics={"loss": 2.0}) for name in names])
    caused = outcome(honest, *[says(name, 0.0, 1, metrics={"loss": 1e9 if name == ANN else 2.0}) for name in names])
    assert [type(event) for event in caused] == [Noticed]


def test_what_is_kept_does_not_grow_with_versions() -> None:
    """Of a version that is out of the window only the best is left, and it still counts."""
    rules = policy(evaluation={"quorum": 1, "drop_max": 0.1}, stop=TARGET)
    standing = Standing()
    for version in range(40):
        standing.add(says(ANN, 0.8 if version == 3 else 0.75, version), rules)
        standing.forget(version - 8, "accuracy")
    assert sorted(standing.scores.said) == sorted(standing.finals) == list(range(32, 40))
    assert standing.best == 0.8
    falling = standing.with_voice(says(ANN, 0.69, 40), rules)
    assert falling.judge(40, rules, first_loss=None) == "regressed"
    assert standing.judge(39, rules, first_loss=None) is None


def test_a_task_without_final_scores_has_the_state_it_had() -> None:
    """Digests in journals that were written before there was a quorum hold for good."""
    situation = given(policy())
    before = digest(situation.state)
    task = situation.state.tasks[TASK]
    assert task.standing is UNSET
    situation.when(says(ANN, 0.5)).then_nothing()
    assert digest(situation.state) == before
    assert b"standing" not in msgspec.msgpack.encode(situation.state)


# --- any words in any order ------------------------------------------------------------------------------------------

KEPT = frozenset({"accuracy", "loss"})
VALUES = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(0.0, 1.0)
KEYS = [f"{number:016x}" for number in range(5)]


@st.composite
def _words(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> list[VersionEvaluated]:
    """What some evaluators say of some versions, each place at most once."""
    places = st.tuples(st.integers(0, 3), st.sampled_from(KEYS), st.sampled_from(("", "west")), st.booleans())
    return [
        VersionEvaluated(
            task=TASK,
            version=version,
            metrics=draw(st.dictionaries(st.sampled_from(("accuracy", "loss", "other")), values)),
            samples=draw(st.integers(0, 99)),
            cohort=cohort,
            evaluator=key,
            **({"source": "measured"} if is_relayed else {}),
        )
        for version, key, cohort, is_relayed in draw(st.lists(places, unique=True, max_size=24))
    ]


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    apart = draw(st.none() | st.floats(0.0, 2.0))
    return Rule(quorum=draw(st.integers(1, 4)), metric="accuracy", disagreement_max=apart, kept=KEPT)


def _settle_all(scores: Scores, rule: Rule) -> dict[Any, Any]:
    return {(v, cohort): scores.settle(v, cohort, rule=rule) for v in range(4) for cohort in ("", "west")}


@given_any(st.data(), _words(), _rules())
def test_the_order_of_arrival_changes_nothing(data: Any, words: list[VersionEvaluated], rule: Rule) -> None:
    """However evaluators overtake each other, the same words give the same final scores."""
    shuffled = data.draw(st.permutations(words))
    assert _settle_all(heard(*words, rule=rule), rule) == _settle_all(heard(*shuffled, rule=rule), rule)


@given_any(st.data(), _words(), _words(), _rules())
def test_a_second_word_replaces_nothing(
    data: Any, words: list[VersionEvaluated], more: list[VersionEvaluated], rule: Rule
) -> None:
    """Copies, and other words of those who have spoken, leave every score as it was."""
    first, spoken = heard(*words, rule=rule), {_place(word) for word in words if KEPT & word.metrics.keys()}
    again = [word for word in more if _place(word) in spoken]
    assert digest(heard(*[*words, *again, *data.draw(st.permutations(words))], rule=rule)) == digest(first)


def _place(word: VersionEvaluated) -> tuple[Any, ...]:
    return word.version, word.evaluator, word.cohort, repr(word.source)


@given_any(SHARES, SHARES, VALUES, st.permutations([0, 1, 2]))
def test_one_liar_of_three_changes_nothing(one: float, other: float, lie: float, order: list[int]) -> None:
    """With a quorum of three the score is between what the honest two say, and theirs where they agree."""
    rule = Rule(quorum=3, metric="accuracy", kept=KEPT)
    for honest in ((one, other), (one, one)):
        words = [
            VersionEvaluated(task=TASK, version=0, metrics={"accuracy": v}, samples=1, cohort="", evaluator=key)
            for v, key in zip((*honest, lie), KEYS, strict=False)
        ]
        final = heard(*[words[place] for place in order], rule=rule).find_final(0, rule=rule)
        assert final is not None
        assert min(honest) <= final.metrics["accuracy"] <= max(honest)


@given_any(_words(SHARES), _rules())
def test_a_score_is_within_what_was_said(words: list[VersionEvaluated], rule: Rule) -> None:
    """Never before a quorum has spoken, never beyond what evaluators said, and contested only where they differ."""
    scores = heard(*words, rule=rule)
    for (version, cohort), found in _settle_all(scores, rule).items():
        voices = [cohorts[cohort] for cohorts in scores.said.get(version, {}).values() if cohort in cohorts]
        if found is None:
            continue
        assert len(voices) >= found.voices >= rule.quorum
        if isinstance(found, Contested):
            assert rule.disagreement_max is not None
            continue
        for name, value in found.metrics.items():
            told = [voice.metrics[name] for voice in voices if name in voice.metrics]
            assert min(told) <= value <= max(told)


@given_any(_words(SHARES))
def test_what_is_kept_is_a_state_like_any_other(words: list[VersionEvaluated]) -> None:
    """A snapshot gives it back bit for bit, and a voice that is only tried leaves it as it was."""
    rules, standing = policy(evaluation={"quorum": 2, "drop_max": 0.1}), Standing()
    rule = Rule.read(rules)
    for word in words:
        if not standing.scores.is_new(word, rule):
            continue
        before, tried = digest(standing), standing.with_voice(word, rules)
        assert digest(standing) == before
        standing.add(word, rules)
        assert digest(standing) == digest(tried)
    data = encode_state(standing)
    assert encode_state(decode_state(data, Standing)) == data
