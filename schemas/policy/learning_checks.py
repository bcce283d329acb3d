"""What is refused in the tables of a policy that say what devices learn; called by `checks`, one line a problem."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import UNSET

from schemas.policy.arguments import find_argument_problems
from schemas.policy.learning import LOSSES, METRICS, METRICS_BY_LOSS, OPTIMIZERS, Arguments, list_scored
from schemas.policy.metrics import METRIC_UPDATES_MAX, METRICS_MAX, REPORT_BOUND_MAX, REPORT_BOUND_MIN
from schemas.policy.sections import Policy, name_judged_metric

NAME_LENGTH_MAX = 200


def find_learning_problems(policy: Policy) -> Iterator[str]:
    """What is out of bounds, names nothing, or contradicts something else."""
    # A question may be about data alone.
    if policy.kind == "train" and not policy.model and not policy.learner:
        yield "model = '': a task needs a torch model, or a learner of its own"
    if policy.model and policy.learner:
        yield f"learner = {policy.learner!r}: it makes its own model, so leave out model = {policy.model!r}"
    for field, plugin in policy.list_plugins().items():
        if plugin.count(":") != 1:
            yield f"{field} = {plugin!r}: must be 'module:callable'"
    yield from _find_nameless(policy)
    yield from _find_argument_problems("model_arguments", policy.model_arguments)
    yield from _find_argument_problems("learner_arguments", policy.learner_arguments)
    yield from _find_argument_problems("training.loss_arguments", policy.training.loss_arguments)
    yield from _find_argument_problems("training.optimizer_arguments", policy.training.optimizer_arguments)
    yield from find_argument_problems(policy)
    yield from _find_metric_problems(policy)
    if policy.training.classes_min > 1 and not policy.learner and policy.training.loss in ("mse", "huber", "ctc"):
        yield (
            f"training.classes_min = {policy.training.classes_min}: training.loss = {policy.training.loss!r} has no "
            "classes; take 1"
        )
    if policy.measure is not None:
        yield from _find_argument_problems("measure.plugin_arguments", policy.measure.plugin_arguments)
    yield from _find_report_problems(policy)
    yield from _find_score_problems(policy)


def _find_nameless(policy: Policy) -> Iterator[str]:
    """Names that are neither fedlog's own nor a plugin's."""
    known = {"training.loss": LOSSES, "training.optimizer": OPTIMIZERS}
    for field, names in known.items():
        value = getattr(policy.training, field.partition(".")[2])
        if ":" not in value and value not in names:
            yield f"{field} = {value!r}: must be one of {', '.join(names)}, or 'module:callable'"
    for metric in policy.evaluation.metrics:
        if ":" not in metric and metric not in METRICS:
            yield f"evaluation.metrics = {metric!r}: must be one of {', '.join(METRICS)}, or 'module:callable'"
    for field in ("model", "learner", "data"):
        if (value := getattr(policy, field)) and ":" not in value:
            yield f"{field} = {value!r}: must be 'module:callable'"


def _find_argument_problems(table: str, arguments: Arguments) -> Iterator[str]:
    """The log could not hold others: msgpack's integers have 64 bits, and canonical bytes no infinite number."""
    for name, argument in arguments.items():
        for value in argument if isinstance(argument, tuple) else (argument,):
            if isinstance(value, float) and not math.isfinite(value):
                yield f"{table}.{name} = {value}: must be finite"
            if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
                yield f"{table}.{name} = {value}: must be from -2^63 to 2^63 - 1"


def _find_metric_problems(policy: Policy) -> Iterator[str]:
    """Metrics that say nothing about outputs under this loss, where the torch learner takes them."""
    fitting = METRICS_BY_LOSS.get(policy.training.loss, METRICS)
    asked = {} if policy.learner or policy.evaluation.evaluate else {"metrics": policy.evaluation.metrics}
    if not (policy.learner or policy.training.train):
        asked["report"] = policy.evaluation.report
    for field, names in asked.items():
        for name in names:
            if field == "report" and ":" not in name and name not in METRICS:
                yield f"evaluation.report = {name!r}: must be one of {', '.join(METRICS)}, or 'module:callable'"
            elif name in METRICS and name not in fitting:
                loss = policy.training.loss
                yield f"evaluation.{field} = {name!r}: with training.loss = {loss!r} take {', '.join(fitting)}"


def _find_report_problems(policy: Policy) -> Iterator[str]:
    report = policy.evaluation.report
    yield from _find_bound_problems(policy)
    if not report:
        return
    for name in report:
        if not 0 < len(name) <= NAME_LENGTH_MAX:
            yield f"evaluation.report = {name[:NAME_LENGTH_MAX]!r}: a name has from 1 to {NAME_LENGTH_MAX} letters"
    if len(report) > METRICS_MAX or len(set(report)) < len(report):
        yield f"evaluation.report has {len(report)} names: at most {METRICS_MAX}, each once"
    if policy.aggregation.updates_per_round > METRIC_UPDATES_MAX:
        yield (
            f"aggregation.updates_per_round = {policy.aggregation.updates_per_round}: reports are summed over at most "
            f"{METRIC_UPDATES_MAX}"
        )


def _find_bound_problems(policy: Policy) -> Iterator[str]:
    """With privacy each metric is an element of the clipped vector, and has a bound."""
    report, bounds, share = policy.evaluation.report, policy.evaluation.report_bounds, policy.evaluation.report_share
    if policy.privacy is None or not report:
        if bounds is not UNSET or share is not UNSET:
            yield "evaluation.report_bounds, report_share: are for evaluation.report with [privacy]; leave them out"
        return
    told = {} if bounds is UNSET else bounds
    if told.keys() != set(report):
        yield (
            "evaluation.report_bounds: with [privacy] each metric of report needs a bound, and no other; "
            f"{list(report)} are reported, and {list(told)} have one"
        )
    for name, bound in told.items():
        if not REPORT_BOUND_MIN <= bound <= REPORT_BOUND_MAX:
            span = f"from {REPORT_BOUND_MIN:g} to {REPORT_BOUND_MAX:g}"
            yield f"evaluation.report_bounds.{name[:NAME_LENGTH_MAX]} = {bound}: must be {span}"
    if policy.compression.codec not in ("float32", "float16"):
        # One scale for all elements would be that of the metrics, and coarse for everything else.
        yield (
            f"compression.codec = {policy.compression.codec!r}: with evaluation.report and [privacy] metrics are "
            "elements of the update, which this codec would make it coarse by; take 'float32' or 'float16'"
        )


def _find_score_problems(policy: Policy) -> Iterator[str]:
    """What decides on scores, and of which metric, where the torch learner says which there are."""
    rules, metric = policy.evaluation, name_judged_metric(policy)
    for field, value in (("cohort", rules.cohort), ("metric", rules.metric)):
        if value is not UNSET and not 0 < len(value) <= NAME_LENGTH_MAX:
            yield f"evaluation.{field} = {value[:NAME_LENGTH_MAX]!r}: a name has from 1 to {NAME_LENGTH_MAX} letters"
    if rules.disagreement_max is not UNSET and (rules.quorum or 1) < 2:
        yield (
            f"evaluation.disagreement_max = {rules.disagreement_max}: with a quorum of 1 the first score is final "
            "before anybody can disagree; take evaluation.quorum of 2 or more"
        )
    if policy.kind == "measure" or policy.learner or rules.evaluate:
        return
    scored = list_scored(policy.training, rules)
    used = [field for field in ("metric", "disagreement_max", "drop_max") if getattr(rules, field) is not UNSET]
    if used and metric not in scored:
        yield (
            f"evaluation.{used[0]}: compares {metric!r}, which nobody scores; evaluation.metric takes "
            f"{', '.join(scored)}"
        )
