"""From a round's members to the next model: the one computation that publishing, recovery and full replay share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.deciders.arithmetic import noise, optimizers, sums
from actors.keys import OperatorKey
from schemas.errors import FedlogError
from schemas.events import RoundProposed, TaskCreated, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.tensors import Floats, Grid, read_update

Fetch = Callable[[BodyRef], bytes]


class NoiseKeyMissing(FedlogError):
    """The mechanism names a noise key that this operator's key file does not hold."""

    code = "noise_key_missing"


@dataclass(frozen=True, slots=True)
class Release:
    """What a round gives: the exact sum before noise, the next model, and the optimizer's vectors after it."""

    sum_sha256: bytes
    model: Floats
    moments: Floats | None


def round_sum(created: TaskCreated, members: Iterable[UpdateAdmitted], *, fetch: Fetch) -> sums.RunningSum:
    """The exact sum of a round from its members' bodies."""
    running = sums.RunningSum(created.parameters)
    for member in members:
        if member.zeroed is None:
            quanta = read_update(fetch(member.body), created.policy, parameters=created.parameters)
            running.add(quanta, weight=member.weight, scale=member.clip_scale)
    return running


def release(
    created: TaskCreated, proposed: RoundProposed, *, total: Grid, start: tuple[Floats, Floats | None], key: OperatorKey
) -> Release:
    """Noise (with privacy), mean, optimizer step; `start` is the newest model and its moments.

    Raises NoiseKeyMissing.
    """
    digest = sums.sum_digest(total)
    if proposed.mechanism is not None:
        if proposed.mechanism.key_id != key.key_id:
            raise NoiseKeyMissing(f"round {proposed.round} wants noise key {proposed.mechanism.key_id.hex()}")
        total = total + noise.draw(key.noise, proposed, parameters=created.parameters)
    delta = optimizers.mean(total, created.policy, members=proposed.members, weight_sum=proposed.weight_sum)
    model, moments = optimizers.step(created.policy.optimizer, start[0], moments=start[1], delta=delta)
    return Release(digest, model, moments)
