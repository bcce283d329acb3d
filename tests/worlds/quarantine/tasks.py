"""Tasks whose members are compared, as tests make them: rounds of six, of which some stand apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from actors.deciders.aggregator import ReleaseStored
from actors.deciders.quarantining.judging import Compared
from schemas.events import Anomaly, DeviceQuarantined, MembersCompared, QuarantineLifted, UpdateAdmitted
from schemas.policy import Policy
from schemas.tensors import Floats
from tests.worlds.builders import DEPLOYMENT, TASK, policy
from tests.worlds.rounds import release_stored

SEED = bytes(range(32))
PARAMETERS = 8
HONEST = "bcdefg"


def watched_policy(rounds: int = 2, window: int = 3, **sections: Any) -> Policy:
    """Rounds of six over ten devices; who stands apart in two of its last three is let in no more."""
    plain: dict[str, Any] = {
        "aggregation": {"updates_per_round": 6},
        "quarantine": {"rounds": rounds, "window": window},
    }
    return policy(**{**plain, **sections})


def anomaly_of(member: UpdateAdmitted, z: int = 5_000) -> Anomaly:
    """That this update is so far out."""
    return Anomaly(
        update=member.update,
        device=member.device,
        distance=900,
        norm=800,
        cosine=-300,
        z=z,
        subject=member.subject,
    )


def compared_release(round_id: int, members: Sequence[UpdateAdmitted], apart: Iterable[str] = ()) -> ReleaseStored:
    """The host has stored what a round releases, and found that these devices' updates are far out."""
    devices = {*apart}
    scores = tuple(anomaly_of(each, 5_000 if each.device in devices else 1_000) for each in members)
    plain = release_stored(round_id, round_id + 1)
    return ReleaseStored(
        **{name: getattr(plain, name) for name in ReleaseStored.__slots__ if name != "compared"},
        compared=Compared(SEED, scores),
    )


def members_compared(round_id: int, members: Sequence[UpdateAdmitted], apart: Iterable[str] = ()) -> MembersCompared:
    """What that becomes."""
    devices = {*apart}
    found = tuple(anomaly_of(each) for each in members if each.device in devices)
    return MembersCompared(task=TASK, round=round_id, members=len(members), seed=SEED, anomalies=found)


def device_quarantined(device: str = "a", rounds: tuple[int, ...] = (0, 1), **changes: Any) -> DeviceQuarantined:
    """A device is let in no more."""
    plain = DeviceQuarantined(task=TASK, device=device, round=rounds[-1], reason="anomalous", rounds=rounds)
    return msgspec.structs.replace(plain, **changes)


def quarantine_lifted(device: str = "a", round_id: int = 1, **changes: Any) -> QuarantineLifted:
    """The operator lets it in again."""
    plain = QuarantineLifted(task=TASK, deployment=DEPLOYMENT, device=device, round=round_id)
    return msgspec.structs.replace(plain, **changes)


def draw_deltas(seed: int, hostile: Iterable[str] = "a", honest: Iterable[str] = HONEST[:5]) -> dict[str, Floats]:
    """Updates of a round: honest ones have a common direction, and hostile ones the opposite, three times as long."""
    draw = np.random.default_rng(seed)
    common = np.random.default_rng(0).normal(size=PARAMETERS)
    own = {device: common + 0.3 * draw.normal(size=PARAMETERS) for device in [*hostile, *honest]}
    return {name: np.float32(-3 * row if name in [*hostile] else row) for name, row in own.items()}
