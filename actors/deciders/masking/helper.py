"""A helper of a masked task: for which rounds it takes its masks off, once each, and when it makes and destroys keys.

Its state is the fold of what it has said itself. What it knows of a round is handed in: what stands in the aggregator's
journal (`heard`), and what was found when each member's own record was opened. Nothing here knows a seed or a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, UnsetType

from actors.deciders.masking.heard import HeardTask, Member
from schemas.events import (
    HelperEvent,
    JournalSeen,
    MaskKeyDestroyed,
    MaskKeyOpened,
    MaskRefusal,
    MasksRefused,
    MasksSummed,
    ModelCosigned,
    ModelRefused,
    RoundBound,
    RoundProposed,
    TaskCreated,
    name_unit,
)
from schemas.masking.statements import digest_proposal
from schemas.policy import Policy, find_effective_min
from schemas.receipts.members import compute_members_root


@dataclass(slots=True)
class Said:
    """What one helper has said about one task.

    `bound` has the proposal of each update, for ever: one that is answered for twice could be told from the difference.
    """

    seq: int = 0
    next_epoch: int = 0
    opened: set[int] = field(default_factory=set)  # epochs whose key was opened and not destroyed since
    bound: dict[str, bytes] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)  # rounds that each device or subject is bound in
    proposals: set[bytes] = field(default_factory=set)  # those bound
    answered: set[bytes] = field(default_factory=set)  # those summed or refused
    models: dict[int, bytes] = field(
        default_factory=dict
    )  # the one model that was co-signed for each version, for ever
    refused: set[tuple[int, bytes]] = field(default_factory=set)  # models that were not


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """What was found in the records of a proposed round's members; `blamed` are those with which something is wrong.

    `seen`: up to where the aggregator's journal was read for it.
    """

    proposed: RoundProposed
    members: Sequence[Member]
    fault: MaskRefusal | None = None
    blamed: tuple[str, ...] = ()
    seen: JournalSeen | UnsetType = UNSET


def decide_round(said: Said, heard: HeardTask, *, opened: RoundOpened, helper: int) -> HelperEvent:
    """RoundBound where the helper answers for this proposal, or why it does not."""
    proposed, proposal = opened.proposed, digest_proposal(opened.proposed)
    # What is wrong with a record says more than what follows from it.
    reason, blamed = opened.fault, opened.blamed
    if reason is None:
        reason, blamed = next(_find_objections(said, heard, opened=opened, proposal=proposal), (None, ()))
    if reason is not None:
        return MasksRefused(
            task=proposed.task,
            helper=helper,
            round=proposed.round,
            proposal=proposal,
            reason=reason,
            updates=blamed,
        )
    return RoundBound(
        task=proposed.task,
        helper=helper,
        round=proposed.round,
        proposal=proposal,
        updates=tuple(member.admitted.update for member in opened.members),
        units=tuple(name_unit(member.admitted) for member in opened.members),
        seen=opened.seen,
    )


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Which helper it is, and whether its folder is an old copy."""

    helper: int
    is_behind: bool


Objection = tuple[MaskRefusal, tuple[str, ...]]


def _find_objections(said: Said, heard: HeardTask, *, opened: RoundOpened, proposal: bytes) -> Iterator[Objection]:
    admitted = [member.admitted for member in opened.members]
    # The same update twice would count with twice its weight.
    for names in ([each.update for each in admitted], [name_unit(each) for each in admitted]):
        if len(set(names)) < len(names):
            yield "repeated", ()
    if len(admitted) != opened.proposed.members or compute_members_root(admitted) != opened.proposed.members_root:
        yield "root", ()
    weight_sum = sum(each.weight for each in admitted)
    if weight_sum != opened.proposed.weight_sum or not all(member.is_weighted for member in opened.members):
        yield "weights", tuple(member.admitted.update for member in opened.members if not member.is_weighted)
    # Of those that count: a member that is zeroed hides nobody.
    if is_too_thin([each.weight for each in admitted if each.zeroed is None], find_effective_min(heard.created.policy)):
        yield "effective_size", ()
    # The sum of these masks was given out with others: their difference would be that of single updates.
    if elsewhere := tuple(each.update for each in admitted if said.bound.get(each.update, proposal) != proposal):
        yield "bound", elsewhere
    if not is_promised(opened.proposed, heard.created.policy):
        yield "mechanism", ()
    # A selector that grants leases to devices of its own could fill a round with them, and know all but one update.
    if strangers := tuple(each.update for each in admitted if not heard.is_enrolled(each.device, each.subject)):
        yield "not_enrolled", strangers
    cap = heard.created.participations_cap
    if cap is not None and (busy := tuple(each.update for each in admitted if said.taken[name_unit(each)] >= cap)):
        yield "participations", busy


def is_promised(proposed: RoundProposed, policy: Policy) -> bool:
    """Whether a proposal asks for exactly the noise that the policy has promised, or for none where it has none."""
    found = proposed.mechanism
    if policy.privacy is None or found is None:
        return policy.privacy is None and found is None
    promised = (policy.privacy.noise_multiplier, policy.clipping.steps, policy.weight_max, policy.sigma)
    return (found.noise_multiplier, found.clip_steps, found.weight_max, found.sigma) == promised


def is_too_thin(weights: Sequence[int], effective_min: float) -> bool:
    """Whether the members that count are worth less than so many of one weight: (sum w)^2 / sum w^2 (Kish 1965).

    Else a server could give one member the weight 15 and all others 1, or have all but one count as zero.
    """
    return sum(weights) ** 2 < effective_min * sum(weight * weight for weight in weights) or not any(weights)


def fold_said(said: Said, event: HelperEvent) -> None:
    """Take note of one's own word."""
    said.seq += 1
    match event:
        case MaskKeyOpened():
            said.opened.add(event.epoch)
            said.next_epoch = max(said.next_epoch, event.epoch + 1)
        case MaskKeyDestroyed():
            said.opened.discard(event.epoch)
        case RoundBound():
            for update in event.updates:
                said.bound[update] = event.proposal
            said.taken.update(event.units)
            said.proposals.add(event.proposal)
        case MasksSummed() | MasksRefused():
            said.answered.add(event.proposal)
        case ModelCosigned():
            said.models[event.version] = event.model_sha256
        case ModelRefused():
            said.refused.add((event.version, event.model_sha256))


def wants_key(said: Said, heard: HeardTask) -> bool:
    """Whether this helper has to make its key of the next epoch."""
    return heard.wants_key() and said.next_epoch == heard.next_epoch


def list_over(said: Said, heard: HeardTask) -> list[int]:
    """Epochs whose key nobody needs any more, and which this helper still holds."""
    return sorted(said.opened & heard.over)


def list_unsaid(said: Said, heard: HeardTask) -> list[tuple[int, bytes]]:
    """Versions with a model of which this helper has not said yet whether it co-signs it."""
    # The first of a version before any other, which is one for somebody in particular.
    shown = [*sorted(heard.models.items()), *sorted(heard.disputed)]
    return [each for each in shown if said.models.get(each[0]) != each[1] and each not in said.refused]


def decide_model(
    said: Said, created: TaskCreated, *, shown: tuple[int, bytes], seen: JournalSeen, me: Cosigner
) -> ModelCosigned | ModelRefused:
    """ModelCosigned for the first model of a version that this helper is shown, ModelRefused for every other."""
    version, model = shown
    reason: Literal["another", "first", "store_behind"] | None = None
    if me.is_behind:
        # What it had co-signed it has forgotten.
        reason = "store_behind"
    elif said.models.get(version, model) != model:
        reason = "another"
    elif version == 0 and model != created.model.sha256:
        reason = "first"
    if reason is not None:
        return ModelRefused(task=created.task, helper=me.helper, version=version, model_sha256=model, reason=reason)
    return ModelCosigned(task=created.task, helper=me.helper, version=version, model_sha256=model, seen=seen)
