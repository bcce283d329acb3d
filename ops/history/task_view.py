"""One task as people see it: a value folded from the events of the log, and the numbers derived from it.

`ops.history.projections` folds; the console, the demo and the operator's functions read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import UNSET

from actors.deciders.scores import Scores
from ops.history.makeup import Makeup
from ops.history.releasing.scoring import ANY_RULE, read_rule, tell_scores
from schemas.events import (
    BudgetExhausted,
    CheckinsDeclined,
    DeviceQuarantined,
    JournalEvent,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    PopulationCharge,
    QuarantineLifted,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    RoundWithheld,
    SumStored,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    VersionEvaluated,
    name_unit,
)
from schemas.identifiers import RoundId, TaskId, Version
from schemas.policy import compute_rho
from schemas.policy.metrics import MetricSums


@dataclass(slots=True)
class TaskView:
    """One task as the console shows it. `created` is None while only journals without their task have been read."""

    task: TaskId
    created: TaskCreated | None = None
    created_ms: int = 0
    noticed: bool = False
    paused: bool = False
    closed: bool = False
    halted: TaskHalted | None = None
    round: RoundId | None = None
    rounds_pending: set[RoundId] = field(default_factory=set)
    buffer_fill: int = 0
    admitted: int = 0
    zeroed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)
    staleness_sum: int = 0
    staleness_max: int = 0
    participations: Counter[str] = field(default_factory=Counter)
    # Who is let in no more, by device, or by subject where devices are enrolled.
    quarantined: dict[str, DeviceQuarantined] = field(default_factory=dict)
    # And with which round whose quarantine was lifted: the order may be read before what it is about.
    lifted: dict[str, RoundId] = field(default_factory=dict)
    published: dict[Version, ModelPublished] = field(default_factory=dict)
    published_ms: dict[Version, int] = field(default_factory=dict)
    abandoned: Counter[str] = field(default_factory=Counter)
    leases: dict[str, LeaseGranted] = field(default_factory=dict)
    leases_granted: int = 0
    leases_expired: int = 0
    leases_abandoned: Counter[str] = field(default_factory=Counter)
    charges: list[RoundCharged] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)
    exhausted: BudgetExhausted | None = None
    # Where a quorum decides these are the final scores, out of the voices that the aggregator has noticed.
    evaluations: dict[Version, VersionEvaluated] = field(default_factory=dict)
    voices: Scores = field(default_factory=Scores)
    # What devices report, by round, and by version once the round is one.
    reports: dict[RoundId, MetricSums] = field(default_factory=dict)
    reported: dict[Version, MetricSums] = field(default_factory=dict)
    # What rounds are made of, by round until it is a version.
    filling: dict[RoundId, Makeup] = field(default_factory=dict)
    makeups: dict[Version, Makeup] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """created (no aggregator has read it yet), running, paused, closing, or halted and why."""
        # The strongest statement wins: a halted task may have been paused and closed before.
        if self.halted is not None:
            return f"halted: {self.halted.reason}"
        if self.closed:
            return "closing"
        if self.paused:
            return "paused"
        return "running" if self.noticed else "created"

    @property
    def is_over(self) -> bool:
        """Whether no lease will be granted any more."""
        return self.closed or self.halted is not None

    @property
    def version(self) -> Version | None:
        """The newest version; None before the first."""
        return max(self.published, default=None)

    @property
    def buffer_size(self) -> int | None:
        """K of the policy."""
        return None if self.created is None else self.created.policy.aggregation.updates_per_round

    @property
    def members_min(self) -> int | None:
        """How few updates a round may have: fewer than K where it may end by time."""
        return None if self.created is None else self.created.policy.aggregation.members_min

    @property
    def staleness_mean(self) -> float | None:
        """Over all admitted updates."""
        return self.staleness_sum / self.admitted if self.admitted else None

    @property
    def rho(self) -> float:
        """What the ledger has charged in all; before the first charge what the tasks before this one have spent."""
        if self.charges or self.created is None:
            return self.charges[-1].rho_total if self.charges else 0.0
        return float(compute_rho(self.created.spent_before))

    @property
    def population(self) -> PopulationCharge | None:
        """What its population's busiest device had spent at the last charge; None where that has no budget."""
        # UNSET, where it was charged without a budget, is nothing to people.
        return (self.charges[-1].population or None) if self.charges else None

    @property
    def epsilon(self) -> float | None:
        """For `delta`; None where nothing was charged."""
        return self.charges[-1].epsilon if self.charges else None

    @property
    def delta(self) -> float | None:
        """As charged, else as the policy asks; None without privacy."""
        # What was charged is a fact; what the policy asks for is only a plan until the first charge.
        if self.charges:
            return self.charges[-1].delta
        return self.created.policy.privacy.delta if self.created and self.created.policy.privacy else None

    @property
    def leases_in_flight(self) -> int:
        """Leases that are neither used nor over."""
        return len(self.leases)

    @property
    def participations_max(self) -> int:
        """How often the busiest device has taken part in this task."""
        return max(self.participations.values(), default=0)

    @property
    def metric_name(self) -> str | None:
        """The metric that stands for the task where there is room for one: the first that its policy names."""
        asked = self.created.policy.evaluation.metrics if self.created else ()
        # A learner of its own may name its metrics as it likes.
        return next((name for name in (*asked, "accuracy", *sorted(self.metrics)) if name in self.metrics), None)

    def metric_of(self, version: Version) -> float | None:
        """The metric of a version that stands for the task; None when it was not evaluated."""
        metrics = self.evaluations[version].metrics if version in self.evaluations else {}
        return metrics.get(self.metric_name or "")

    @property
    def metric(self) -> float | None:
        """`metric_of` the newest version that was evaluated."""
        return self.metric_of(max(self.evaluations)) if self.evaluations else None

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of the newest version that was evaluated."""
        return dict(self.evaluations[max(self.evaluations)].metrics) if self.evaluations else {}

    @property
    def device_metrics(self) -> dict[str, float]:
        """What the devices of the newest version report of their trainings: the mean over their examples, by metric."""
        if self.created is None or not self.reported:
            return {}
        names, newest = self.created.policy.evaluation.report, self.reported[max(self.reported)]
        # A round in which nobody reports has no mean.
        return dict(zip(names, newest.means(), strict=True)) if newest.samples else {}

    @property
    def makeup(self) -> Makeup | None:
        """What the newest version is made of; None before the first that comes of a round."""
        return self.makeups[max(self.makeups)] if self.makeups else None

    def curve(self) -> list[float]:
        """`metric_of` every evaluated version, in order."""
        found = (self.metric_of(version) for version in sorted(self.evaluations))
        return [value for value in found if value is not None]


def evolve(view: TaskView, event: JournalEvent | TaskEvent | VersionEvaluated, *, time_ms: int = 0) -> None:
    """Fold one fact of the task into its view; a fact that the view does not show changes nothing."""
    match event:
        case TaskCreated() | TaskPaused() | TaskResumed() | TaskClosed():
            _evolve_life(view, event, time_ms=time_ms)
        case LeaseGranted() | LeaseClosed() | CheckinsDeclined():
            _evolve_selection(view, event)
        case UpdateAdmitted() | UpdateRefused() | UpdatesDeclined():
            _evolve_updates(view, event)
        case RoundOpened() | RoundProposed() | SumStored() | ModelPublished() | RoundAbandoned() | TaskHalted():
            _evolve_rounds(view, event, time_ms=time_ms)
        case DeviceQuarantined() | QuarantineLifted():
            _evolve_quarantine(view, event)
        case RoundCharged():
            view.charges.append(event)
        case RoundWithheld(reason=reason):
            view.withheld[reason] += 1
        case BudgetExhausted():
            view.exhausted = event
        case VersionEvaluated():
            _evolve_score(view, event)


def find_scored_version(view: TaskView) -> Version | None:
    """The newest version of which an evaluator has spoken, where a quorum decides; None where none does."""
    return max((version for version in view.voices.said if version in view.published), default=None)


def tell_newest_scores(view: TaskView) -> dict[str, str]:
    """How that version stands, by cohort, in words: final, or what its score waits for."""
    version = find_scored_version(view)
    if version is None or view.created is None:
        return {}
    return tell_scores(view.voices, version, rule=read_rule(view.created.policy))


def _evolve_score(view: TaskView, event: VersionEvaluated) -> None:
    # What devices say of a version is shown beside what the evaluator says, and not in its place.
    if event.source is not UNSET:
        return
    # Where a quorum decides, one evaluator's word is no score yet; the aggregator takes note of it, but for cohorts.
    if event.cohort:
        # It may be read before the creation of its task, which says whether there is a quorum.
        is_asked = view.created is None or _has_finals(view)
        if is_asked and event.evaluator is not UNSET and view.voices.is_new(event, ANY_RULE):
            view.voices.add(event, ANY_RULE)
    elif not _has_finals(view):
        view.evaluations[event.version] = event


def hear_voice(view: TaskView, evaluated: VersionEvaluated) -> None:
    """Fold a word that the aggregator has noticed: where a quorum decides, the score is what is final of them."""
    if view.created is None or not _has_finals(view):
        return
    rule = read_rule(view.created.policy)
    if view.voices.is_new(evaluated, rule):
        view.voices.add(evaluated, rule)
    final = view.voices.find_final(evaluated.version, rule=rule)
    # One voice more may also contest what was final.
    view.evaluations.pop(evaluated.version, None)
    if final is not None:
        view.evaluations[evaluated.version] = VersionEvaluated(
            task=view.task, version=evaluated.version, metrics=final.metrics, samples=final.samples, cohort=""
        )


def _has_finals(view: TaskView) -> bool:
    return view.created is not None and view.created.policy.evaluation.has_finals


def _evolve_life(view: TaskView, event: TaskEvent, *, time_ms: int) -> None:
    match event:
        # The first one counts: actors answer a second creation of the same name with nothing.
        case TaskCreated() if view.created is None:
            view.created, view.created_ms = event, time_ms
            if _has_finals(view):
                # Words of single evaluators, which came before anybody knew of the quorum.
                view.evaluations.clear()
            else:
                view.voices = Scores()
        case TaskPaused():
            view.paused = True
        case TaskResumed():
            view.paused = False
        case TaskClosed():
            view.closed = True


def _evolve_selection(view: TaskView, event: LeaseGranted | LeaseClosed | CheckinsDeclined) -> None:
    match event:
        case LeaseGranted(lease=lease):
            view.leases[lease] = event
            view.leases_granted += 1
        case LeaseClosed(lease=lease, outcome=outcome, reason=reason):
            # A close without its grant must not stop a read model: to judge the journal is the audit's task.
            view.leases.pop(lease, None)
            view.leases_expired += outcome == "expired"
            if reason is not None:
                view.leases_abandoned[reason] += 1
        case CheckinsDeclined(counts=counts):
            view.declined.update(counts)


def _evolve_updates(view: TaskView, event: UpdateAdmitted | UpdateRefused | UpdatesDeclined) -> None:
    match event:
        case UpdateAdmitted(round=round_id, staleness=staleness, zeroed=zeroed):
            view.filling[round_id] = view.filling.get(round_id, Makeup()).add(event)
            view.admitted += 1
            view.buffer_fill += 1
            view.staleness_sum += staleness
            view.staleness_max = max(view.staleness_max, staleness)
            # As law counts, which a cap is about: a person with two phones is one.
            view.participations[name_unit(event)] += 1
            # A zeroed update keeps its place in the round, so it counts as admitted too.
            if zeroed is not None:
                view.zeroed[zeroed] += 1
        case UpdateRefused(reason=reason):
            view.refused[reason] += 1
        case UpdatesDeclined(counts=counts):
            view.refused.update(counts)


def _evolve_quarantine(view: TaskView, event: DeviceQuarantined | QuarantineLifted) -> None:
    unit = name_unit(event)
    if isinstance(event, DeviceQuarantined):
        view.quarantined[unit] = event
    else:
        view.lifted[unit] = max(event.round, view.lifted.get(unit, 0))
    held = view.quarantined.get(unit)
    # An order about an earlier quarantine lifts none.
    if held is not None and view.lifted.get(unit) == held.round:
        del view.quarantined[unit]


def _evolve_rounds(view: TaskView, event: JournalEvent, *, time_ms: int) -> None:
    match event:
        # The next round opens in the decision that proposes the last, so one round at a time fills.
        case RoundOpened(round=round_id):
            view.round = round_id
            view.buffer_fill = 0
        case RoundProposed(round=round_id, metrics=metrics):
            view.rounds_pending.add(round_id)
            view.reports |= {} if metrics is None else {round_id: metrics}
            _close_round(view, round_id)
        case SumStored(round=round_id, metrics=MetricSums() as metrics):
            view.reports[round_id] = metrics
        case ModelPublished(version=version, round=round_id):
            view.published[version] = event
            view.published_ms[version] = time_ms
            # Version 0 is the operator's own model and belongs to no round.
            if round_id is not None:
                view.rounds_pending.discard(round_id)
                if round_id in view.reports:
                    view.reported[version] = view.reports.pop(round_id)
                if round_id in view.filling:
                    view.makeups[version] = view.filling.pop(round_id)
        case RoundAbandoned(round=round_id, reason=reason):
            view.rounds_pending.discard(round_id)
            view.reports.pop(round_id, None)
            view.filling.pop(round_id, None)
            view.abandoned[reason] += 1
            _close_round(view, round_id)
        case TaskHalted():
            view.halted = event


def _close_round(view: TaskView, round_id: RoundId) -> None:
    if view.round == round_id:
        view.round, view.buffer_fill = None, 0


def is_measured(views: Iterable[TaskView], *, of: TaskId) -> bool:
    """Whether any of them measures the task, or is that task and measures something: then there are results to read."""
    return any(
        view.created is not None
        and view.created.policy.measure is not None
        and of in (view.task, view.created.policy.measure.of)
        for view in views
    )
