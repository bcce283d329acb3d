"""How a version is scored where a quorum decides, in words: final, or what its score waits for."""

from __future__ import annotations

from dataclasses import replace

from actors.deciders.scores import Contested, Rule, Scores
from schemas.identifiers import Cohort, Version
from schemas.policy import Policy

# For words of a task whose policy is not known yet.
ANY_RULE = Rule(quorum=1, metric="", kept=None)


def read_rule(policy: Policy) -> Rule:
    """When a task's scores are final; of all metrics, because people look at them."""
    return replace(Rule.read(policy), kept=None)


def tell_scores(scores: Scores, version: Version, *, rule: Rule) -> dict[str, str]:
    """How a version stands on all examples, and on those of each cohort that anybody has spoken of."""
    cohorts: tuple[Cohort, ...] = ("", *scores.list_cohorts(version))
    return {cohort or "all": _tell(scores, version, cohort=cohort, rule=rule) for cohort in cohorts}


def _tell(scores: Scores, version: Version, *, cohort: Cohort, rule: Rule) -> str:
    # The same words as in the table `scores`, so that nobody has to learn two.
    match scores.settle(version, cohort, rule=rule):
        case None:
            return f"{scores.count_voices(version, cohort)} of {rule.quorum} evaluators"
        case Contested(voices=voices, spread=spread):
            most = rule.disagreement_max or 0.0
            return f"contested: {voices} evaluators, {spread:.4g} apart in {rule.metric}, at most {most:.4g}"
    return "final"
