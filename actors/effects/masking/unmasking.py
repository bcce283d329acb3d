"""What helpers say about masked rounds: read, checked against the keys that the policy names, and taken off a sum."""

from __future__ import annotations

import numpy as np
import structlog
from msgspec import UNSET

from actors.deciders.aggregator_state import Round, Rounds, Task
from actors.deciders.masking.hearing import HelperHeard, MasksUnusable
from actors.effects.aggregator.bodies import BodyLost
from actors.effects.aggregator.summation import Fetch
from actors.runtime.effects import Arrival
from schemas.canonical import decode
from schemas.events import MasksSummed, TaskCreated
from schemas.identifiers import BodyRef
from schemas.masking import ring
from schemas.masking.statements import HelperSaid, open_said
from schemas.policy import NOISE_TAIL_SIGMAS
from schemas.signing import parse_signed
from schemas.tensors import BodyError, Grid
from schemas.topics import BODIES

logger = structlog.get_logger()


def hear_helper(state: Rounds, value: bytes, *, partition: int) -> Arrival | None:
    """What a record of `masks` says; None where no helper of a task here has signed it. Raises MalformedError."""
    claimed = decode(parse_signed(value).payload, HelperSaid)
    task = state.tasks.get(claimed.event.task)
    if task is None or not task.created.policy.is_masked:
        return None
    said = open_said(value, task.created)
    if said is None:
        return None
    is_fit = not isinstance(said.event, MasksSummed) or _is_fit(said.event.body, task.created, partition=partition)
    return Arrival(HelperHeard(event=said.event, statement=value, is_fit=is_fit))


def _is_fit(ref: BodyRef, created: TaskCreated, *, partition: int) -> bool:
    # Before any byte is fetched: a helper, too, could announce a size that fills our memory.
    is_sized = ref.size == ring.WORD_BYTES * created.parameters and ref.codec == ring.RING
    return is_sized and (ref.topic, ref.partition) == (BODIES.name, partition) and ref.is_well_formed()


def unmask_or_give_up(task: Task, awaited: Round, *, total: Grid, fetch: Fetch) -> Grid | MasksUnusable:
    """The same as `unmask_round`, or the input with which a round is given up."""
    try:
        return unmask_round(task.created, awaited, total=total, fetch=fetch)
    except (BodyLost, BodyError) as error:
        logger.error("masks_unusable", task=task.created.task, round=awaited.id, error=str(error))
        return MasksUnusable(task=task.created.task, round=awaited.id)


def unmask_round(created: TaskCreated, awaited: Round, *, total: Grid, fetch: Fetch) -> Grid:
    """The sum of a round without its masks; in any other tier the sum itself. Raises BodyLost, BodyError.

    `total` is that of the masked vectors modulo 2^32.
    """
    if awaited.masks is UNSET or awaited.proposed is None:
        return total
    bodies = (fetch(masks.body) for _, masks in sorted(awaited.masks.items()))
    masks = (ring.read_words(body, parameters=created.parameters) for body in bodies)
    unmasked = ring.unmask(total.astype(np.uint32), masks)
    # No sum of clipped vectors is there: a helper has shifted it, or a device was not what it says.
    policy = created.policy
    bound = awaited.proposed.weight_sum * policy.clipping.steps
    if policy.masked_by.noise == "helpers":
        bound += policy.noise_draws * NOISE_TAIL_SIGMAS * policy.sigma
    if max(int(unmasked.max(initial=0)), -int(unmasked.min(initial=0))) > bound:
        raise BodyError("out_of_grid", "an element beyond what the members can sum up to")
    return unmasked
