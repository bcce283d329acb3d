"""What strangers, and devices that hold a lease, can send without end: each kind of record, as many as wanted."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.selector import GRACE_MS
from actors.keys import OperatorKey
from actors.runtime.effects import Arrival
from schemas.canonical import encode
from schemas.devices import name_device, tag_public_key
from schemas.events import LeaseAbandoned, MasksRefused, Tick, VersionEvaluated
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.leases import Lease, read_lease, sign_lease
from schemas.masking.statements import HelperSaid, sign_said
from schemas.signing import sign
from schemas.tensors import encode_update
from schemas.topics import CHECKINS, CLOCK, ENROLMENTS, EVALUATIONS, JOURNALS, MASKS, TASKS, UPDATES, partition_of
from streams.log import Record
from streams.packing import PACKED_BEGINS, pack
from tests.worlds.builders import (
    DEPLOYMENT,
    TASK,
    device_checked_in,
    policy,
    role_key,
    scored,
    signed,
    task_paused,
    task_resumed,
    update_submitted,
    written,
)
from tests.worlds.federation import Federation
from tests.worlds.identity.enrolling import enrolment_opened, ordered, signed_token
from tests.worlds.releasing.orders import rollout_ordered
from tests.worlds.rounds import evaluator_id

_TICK = encode(Tick())
LEASE_MS = 60_000
# Rolled out, so that whoever rolls versions out has something to be misled about.
RULES = policy(
    selection={"lease_s": LEASE_MS / 1000, "battery_min_percent": 1},
    stop={"versions_max": 100, "idle_s": 1e6},
    rollout={"stages": [{"share": 0.5, "hold_s": 60.0}], "gates": [{"metric": "accuracy", "at_least": 0.5}]},
)
BODY = encode_update(np.ones(4, np.float32), RULES)


@dataclass(frozen=True, slots=True)
class Flood:
    """One kind of hostile record: where it goes, what it is counted as ("": as nothing), its bytes, its messages."""

    topic: str
    counted: str
    make: Callable[[], bytes]
    messages: int = 1


class Attacker:
    """Whoever may write to the topics of devices: some keys, and leases in flight, used, and past their deadline.

    `sealed` are leases with a valid signature that no selector here has handed out: those of other partitions, say.
    """

    def __init__(self, world: Federation, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self._key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        self.sealed: dict[bytes, str] = {}
        self._take_leases()

    def _take_leases(self) -> None:
        world = self._world
        for name in ("used", "late", "waiting"):
            world.device(name).check_in()
        world.settle()
        self._leases = {name: read_lease(world.device(name).granted().sealed) for name in ("used", "late", "waiting")}
        self._names = {lease.device: name for name, lease in self._leases.items()}
        self._settle_one("used")
        self._paused = written(task_paused(task=world.task))
        for record in (self._paused, written(task_resumed(task=world.task))):
            world.append(TASKS.name, record)
        world.pass_ms(LEASE_MS + GRACE_MS + 1)
        self._score, self._order = scored(_evaluated(world.task)), written(rollout_ordered(world.task, "halt"))
        world.append(EVALUATIONS.name, self._score)
        world.append(TASKS.name, self._order)
        self._copied = self._again()
        world.append(CHECKINS.name, self._copied)
        world.settle()

    def _settle_one(self, name: str) -> None:
        self._world.append(UPDATES.name, self._update(self._leases[name]))
        self._world.settle()

    def floods(self) -> dict[str, Flood]:
        """Every kind, by name; each call of `make` gives another record where that is the point."""
        leases, word = self._leases, self._word
        return {
            **self._noise_floods(),
            "check-ins signed by another": Flood(CHECKINS.name, "junk", lambda: self._checkin(signer=self._key)),
            "check-ins of another deployment": Flood(
                CHECKINS.name, "junk", lambda: self._checkin(deployment=self._chance.randbytes(16))
            ),
            "check-ins for a new name each": Flood(CHECKINS.name, "unknown_task", lambda: self._checkin(task=word())),
            "check-ins that are declined": Flood(CHECKINS.name, "battery", lambda: self._checkin(battery_percent=0)),
            "check-ins with a wrong clock": Flood(CHECKINS.name, "clock", lambda: self._checkin(sent_ms=1)),
            "copies of a check-in": Flood(CHECKINS.name, "replayed", lambda: self._copied),
            "check-ins with a lease in flight": Flood(CHECKINS.name, "", self._again),
            "leases given up by who holds none": Flood(CHECKINS.name, "", self._abandon),
            "check-ins from any version in production": Flood(
                CHECKINS.name, "battery", lambda: self._checkin(battery_percent=0, running=self._chance.getrandbits(40))
            ),
            "copies of an update": Flood(UPDATES.name, "duplicate", lambda: self._update(leases["used"])),
            "other bodies under its lease": Flood(
                UPDATES.name, "duplicate", lambda: self._update(leases["used"], body=self._chance.randbytes(16))
            ),
            "updates after the deadline": Flood(UPDATES.name, "expired", lambda: self._update(leases["late"])),
            "updates of no task": Flood(
                UPDATES.name, "unknown_task", lambda: self._update(leases["used"], task=word())
            ),
            "updates of another policy": Flood(
                UPDATES.name,
                "other_policy",
                lambda: self._update(leases["late"], lease=self._lease_id(), policy_sha256=bytes(32)),
            ),
            "updates of another deployment": Flood(
                UPDATES.name, "junk", lambda: self._update(leases["used"], deployment=self._chance.randbytes(16))
            ),
            "updates under a forged lease": Flood(UPDATES.name, "junk", self._forged),
            "scores that nobody signed": Flood(EVALUATIONS.name, "junk", lambda: encode(_evaluated(word()))),
            "copies of a pause": Flood(TASKS.name, "", lambda: self._paused),
            **self._rollout_floods(),
            "words of helpers that no task has": Flood(MASKS.name, "junk", self._helper_word),
            **self._packed_floods(),
            **self._enrolment_floods(),
        }

    def _noise_floods(self) -> dict[str, Flood]:
        """Bytes that say nothing, and ticks."""
        junk = [
            (f"junk in {topic}", Flood(topic, "junk", lambda: self._chance.randbytes(40)))
            for topic in (CHECKINS.name, UPDATES.name, TASKS.name, EVALUATIONS.name, MASKS.name, CLOCK.name)
        ]
        # Not even a count: of a journal only what its writer signed is read.
        strange = [(f"junk in {t.name}", Flood(t.name, "", lambda: self._chance.randbytes(40))) for t in JOURNALS]
        ticked = (CHECKINS.name, UPDATES.name, CLOCK.name)
        ticks = [(f"ticks in {topic}", Flood(topic, "", lambda: _TICK)) for topic in ticked]
        return dict([*junk, *strange, *ticks])

    def _rollout_floods(self) -> dict[str, Flood]:
        """What could promote a version, or take one back, if it were believed."""
        task, word, draw = self._world.task, self._word, self._chance
        stranger = OperatorKey(draw.randbytes(32))
        return {
            "copies of a score": Flood(EVALUATIONS.name, "", lambda: self._score),
            "scores of no task": Flood(EVALUATIONS.name, "", lambda: scored(_evaluated(word()))),
            "scores that are no number": Flood(EVALUATIONS.name, "junk", lambda: _sign_score(task, float("nan"))),
            "scores under a certificate for something else": Flood(
                EVALUATIONS.name, "junk", lambda: role_key("rollout").signer.certify(encode(_evaluated(task)))
            ),
            "scores in another evaluator's name": Flood(
                EVALUATIONS.name, "junk", lambda: _sign_score(task, 1.0, evaluator=evaluator_id(1))
            ),
            "copies of an order to a rollout": Flood(TASKS.name, "", lambda: self._order),
            "orders to a rollout that another has signed": Flood(
                TASKS.name,
                "junk",
                lambda: written(rollout_ordered(task, number=self._chance.getrandbits(40)), stranger),
            ),
        }

    def _packed_floods(self) -> dict[str, Flood]:
        """Many messages in one record, of which each is an input."""
        chance, count = self._chance, 8
        return {
            f"junk packed by {count}": Flood(
                CHECKINS.name, "junk", lambda: pack([chance.randbytes(1) for _ in range(count)]), count
            ),
            f"new names packed by {count}": Flood(
                CHECKINS.name,
                "unknown_task",
                lambda: pack([self._checkin(task=self._word()) for _ in range(count)]),
                count,
            ),
            "what only looks packed": Flood(UPDATES.name, "junk", lambda: PACKED_BEGINS + chance.randbytes(40)),
        }

    def _enrolment_floods(self) -> dict[str, Flood]:
        """What anybody may ask of a registrar, and copies of what it was ordered."""
        topic, order = ENROLMENTS.name, ordered(enrolment_opened())
        self._world.append(topic, order)
        member = self._key
        token = signed_token(at_ms=self._world.now_ms)
        self._world.append(topic, self._request(member, token=token))
        self._world.settle()
        return {
            "junk in enrolments": Flood(topic, "junk", lambda: self._chance.randbytes(40)),
            "requests to enrol nowhere": Flood(topic, "no_enrolment", lambda: self._request(population=self._home())),
            "requests without a token": Flood(topic, "not_enrolled", self._request),
            "requests with a token of nobody": Flood(
                topic, "bad_token", lambda: self._request(token=self._chance.randbytes(200))
            ),
            "requests with a spent token": Flood(topic, "token_spent", lambda: self._request(token=token)),
            "requests of another's making": Flood(topic, "junk", lambda: self._request(signer=member)),
            "requests of who is enrolled": Flood(topic, "", lambda: self._request(member)),
            "copies of an order": Flood(topic, "", lambda: order),
        }

    def _home(self) -> str:
        """A population that nobody has opened, of the partition where the registrar meets it."""
        while True:
            if partition_of(name := self._word(), self._world.log.partitions) == self._world.partition:
                return name

    def _request(
        self,
        key: Ed25519PrivateKey | None = None,
        *,
        population: str = TASK,
        token: bytes | None = None,
        signer: Ed25519PrivateKey | None = None,
    ) -> bytes:
        asker = key or Ed25519PrivateKey.from_private_bytes(self._chance.randbytes(32))
        return sign_request(ask_to_enrol(population, asker, token=token), signer or asker, deployment=DEPLOYMENT)

    def _helper_word(self) -> bytes:
        """Signed by somebody who is no helper, about a task that is not masked, or not there."""
        task = self._chance.choice((self._world.task, self._word()))
        refused = MasksRefused(task=task, helper=0, round=1, proposal=self._chance.randbytes(32), reason="root")
        said = HelperSaid(deployment=DEPLOYMENT, seq=0, prev=bytes(32), event=refused)
        return sign_said(said, self._key)

    def _word(self) -> str:
        return f"t{self._chance.getrandbits(128):032x}{self._chance.getrandbits(100):025x}"

    def _lease_id(self) -> str:
        return f"{self._chance.getrandbits(128):032x}"

    def _checkin(self, *, signer: Ed25519PrivateKey | None = None, **changes: Any) -> bytes:
        """Of a device that nobody has seen before."""
        key = Ed25519PrivateKey.from_private_bytes(self._chance.randbytes(32))
        return self._signed_checkin(key, signer=signer or key, **changes)

    def _signed_checkin(
        self, key: Ed25519PrivateKey, *, signer: Ed25519PrivateKey, deployment: bytes = DEPLOYMENT, **changes: object
    ) -> bytes:
        public = tag_public_key(key)
        plain = {"public_key": public, "sent_ms": next(self._world.sent_ms), **changes}
        return signed(device_checked_in(name_device(public), **plain), signer, deployment=deployment)

    def _abandon(self) -> bytes:
        """A lease that nobody has, given up by who was never here."""
        key = Ed25519PrivateKey.from_private_bytes(self._chance.randbytes(32))
        public = tag_public_key(key)
        said = LeaseAbandoned(
            task=self._world.task,
            device=name_device(public),
            public_key=public,
            lease=self._lease_id(),
            reason="overdue",
        )
        return signed(said, key)

    def _again(self) -> bytes:
        key = self._world.device("waiting").key
        return self._signed_checkin(key, signer=key)

    def _update(self, held: Lease, *, body: bytes = BODY, **changes: object) -> bytes:
        lease = msgspec.structs.replace(held, **changes)
        sealed = sign_lease(lease, role_key("selector", deployment=lease.deployment).signer)
        if lease.deployment == held.deployment:
            self.sealed[sealed] = held.device
        return signed(update_submitted(sealed, body, codec="float32"), self._world.device(self._names[held.device]).key)

    def _forged(self) -> bytes:
        held = update_submitted(self._chance.randbytes(200), BODY, codec="float32")
        return sign(encode(held), self._key)


# Whoever finds inputs on which our own code fails has as many of them as wanted: kinds from above that are read so.
DEFECTS = {
    "check-ins on which our code fails": "junk in checkins",
    "updates on which our code fails": "junk in updates",
    "copies of an update on which our code fails": "copies of an update",
}


def plant_defects(world: Federation) -> None:
    """From now on the actors fail on every record that a device may write."""
    for name in ("selector", "aggregator"):
        effects = world.actors[name]._effects
        effects.read = partial(_fail, effects.read)  # type: ignore[method-assign]


def _fail(read: Callable[..., Arrival | None], state: object, record: Record) -> Arrival | None:
    if record.topic in (CHECKINS.name, UPDATES.name) and record.value != _TICK:
        raise ZeroDivisionError
    return read(state, record)


def _evaluated(task: str) -> VersionEvaluated:
    return VersionEvaluated(task=task, version=0, metrics={"accuracy": 0.9}, samples=1, cohort="")


def _sign_score(task: str, accuracy: float, **changes: str) -> bytes:
    """By a certified evaluator, and in bytes that `encode` would refuse to write."""
    said = msgspec.structs.replace(_evaluated(task), metrics={"accuracy": accuracy}, **changes)
    return role_key("evaluator").signer.certify(msgspec.msgpack.encode(said))
