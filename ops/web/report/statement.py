"""What is promised on privacy, in the parts that NIST SP 800-226 asks an evaluator to look for, and what is not.

docs/privacy.md says the same at length.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from actors.deciders.arithmetic.accounting import epsilon
from ops.web.page.formats import format_number
from ops.web.report.questions import Spent
from schemas.policy import Policy, Privacy
from schemas.policy.spending import to_fraction

# The second delta is much smaller: a guarantee that holds at one alone would show here.
SHARPER = 1_000

_ADJACENCY = (
    "Zero-out: two histories are neighbours when all updates of one device are replaced by zero vectors while its "
    "arrivals stay. When and how often a device arrives is not hidden."
)
_TRUST = (
    "The guarantee is towards whoever sees the published models, the announcements and the ledger. Whoever holds the "
    "key of the noise can remove it."
)
_TIERS = {
    "plain": "Trust tier: plain. Whoever runs the server or reads the other topics of the log sees single updates.",
    "sealed": "Trust tier: sealed. The aggregator sees single updates, and so does whoever has the keys of its epochs "
    "until they are destroyed. Whoever reads the log sees who took part and when, and no update.",
    "masked": "Trust tier: masked. Nobody sees single updates while one helper of the task is honest; where enrolment "
    "or all helpers are the operator's, this holds against an honest-but-curious server only. Whoever reads the log "
    "sees who took part and when. Where the policy has the aggregator draw the noise, it sees each sum before.",
}
_DEFINITION = "Zero-concentrated differential privacy (zCDP), as a total ρ. ε at a δ follows from ρ exactly."
_COMPOSITION = (
    "All rounds of this task are added up, and those of the tasks that it carries on from. Each round was charged "
    "before it was published; a crash can charge too much, never too little. No amplification by sampling is claimed."
)
_BY_DEVICE = "One device, by its key. Not one example, and not one person."
_BY_SUBJECT = (
    "One subject: a person or a machine that enrolled, whatever keys it has had. Not one example. Who is the same "
    "subject rests on the names for which the tokens of the enrolment were made."
)
_PEOPLE = "People: one person with several devices has the sum of what they spend."
_NAMES = "People under several names: whoever enrolled under two has the sum of what both spend."
_NOT_COVERED = (
    "Other tasks and other deployments on the same devices: their ρ adds up, and nobody adds it here.",
    "Arrivals: when a device is there, how long it trains, how many examples it says it has.",
    "The sizes of cohorts and the incidents on this page: they are made of arrivals.",
    "Held-out data: the scores on this page are computed on them, without noise.",
    "Whoever may write to the journals of the log, and whoever holds the operator's key.",
)
_WITHOUT = (
    "No differential privacy. The published models have no noise, and may tell something about single devices to "
    "whoever sees them. Updates were clipped, which bounds their influence and protects nobody."
)


def describe_none(policy: Policy) -> str:
    """What is said of a task without privacy."""
    return f"{_WITHOUT} {_TIERS[policy.tier]}"


def list_uncovered(*, is_enrolled: bool) -> tuple[str, ...]:
    """What the guarantee says nothing about."""
    return (_NAMES if is_enrolled else _PEOPLE, *_NOT_COVERED)


def describe(policy: Policy, privacy: Privacy, *, spent: Spent) -> list[tuple[str, str]]:
    """The statement as titles and texts."""
    return [
        ("Unit of protection", _BY_SUBJECT if policy.is_enrolled else _BY_DEVICE),
        ("Adjacency", _ADJACENCY),
        ("Mechanism", _describe_mechanism(privacy, spent)),
        ("Definition", _DEFINITION),
        ("Composition", _COMPOSITION),
        ("Trust boundary", f"{_TIERS[policy.tier]} {_TRUST}"),
    ]


def list_spending(privacy: Privacy, spent: Spent) -> list[tuple[str, float, Sequence[tuple[float, float]]]]:
    """What was spent and what may be: a name, ρ, and ε at two δ as (δ, ε)."""
    # The budget is what was promised before the first round; what was spent is known only afterwards.
    rows = [("spent so far", Fraction(spent.rho)), ("the bound that was promised", to_fraction(privacy.rho_max))]
    deltas = (privacy.delta, privacy.delta / SHARPER)
    return [(name, float(rho), [(delta, epsilon(rho, delta=delta)) for delta in deltas]) for name, rho in rows]


def _describe_mechanism(privacy: Privacy, spent: Spent) -> str:
    times = "time" if spent.participations == 1 else "times"
    return (
        "Discrete Gaussian noise on the integer grid of the sum, drawn once for each release; noise multiplier "
        f"z = {format_number(privacy.noise_multiplier)} (standard deviation over sensitivity). Every update is "
        "clipped, exactly, before it is added. "
        f"{format_number(spent.charges)} releases were charged; the busiest device took part "
        f"{format_number(spent.participations)} {times}."
    )
