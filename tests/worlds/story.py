"""One federation's life, told the same every time: three tasks and more on one partition, and all that befalls them.

All codecs and optimizers, with privacy and without; stale updates, refusals, junk; pauses, rounds given up, every
halt that honest actors can reach; restarts, a zombie's batch, records of an aborted transaction, a lost noise key, and
inputs on which our own code fails.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import structlog.testing

from actors.deciders.admission import UpdateChecked
from actors.hosts.assembly import assemble
from actors.keys import OperatorKey
from actors.runtime import actor
from schemas.canonical import encode
from schemas.events import DeviceCheckedIn, Event, RolloutAction, RoundProposed, Tick, VersionEvaluated
from schemas.identifiers import SALT_BYTES, BodyRef
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.policy import Policy
from schemas.tensors import pack
from schemas.topics import BODIES, CHECKINS, CLOCK, ENROLMENTS, EVALUATIONS, ROUNDS, TASKS, UPDATES
from streams.log import Draft, TopicPartition, scan
from tests.places import home_of
from tests.worlds.builders import (
    DEPLOYMENT,
    TASK,
    create_task,
    device_id,
    policy,
    role_key,
    scored,
    task_closed,
    task_paused,
    task_resumed,
    written,
)
from tests.worlds.drift.asking import drift_policy
from tests.worlds.federation import Federation, ScriptedDevice
from tests.worlds.identity.enrolling import device_revoked, enrolment_closed, enrolment_opened, ordered, signed_token
from tests.worlds.releasing.orders import rollout_ordered

PARAMETERS = 24
ORDERS: tuple[tuple[RolloutAction, int | None], ...] = (
    ("rollback", None),
    ("promote", 2),
    ("promote", 99),
    ("halt", None),
    ("resume", None),
    ("approve", None),
)
PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}
STOP = {"versions_max": 4, "idle_s": 3_600.0}
OTHER_KEY = OperatorKey(bytes(32))
OTHER_NOISE = msgspec.structs.replace(
    role_key("aggregator"), shared=OTHER_KEY.issue("aggregator", b"", until_ms=0).shared
)


@contextmanager
def _determined() -> Iterator[None]:
    """Nonces and names of uploads come from a fixed seed; digests of the state are written often."""
    draw = random.Random(20260701)
    with (
        structlog.testing.capture_logs(),  # of the lost key and the planted defects
        patch("os.urandom", draw.randbytes),
        patch("secrets.token_hex", lambda size: draw.randbytes(size).hex()),
        patch.object(actor, "DIGEST_EVERY", 5),
    ):
        yield


class Story(Federation):
    """A federation with several tasks on one partition; `tell` is its whole life."""

    def __init__(self) -> None:
        super().__init__(policy(stop=STOP, staleness={"max_versions": 2}), parameters=PARAMETERS)
        self.policies: dict[str, Policy] = {TASK: self.rules}
        self._draw = np.random.default_rng(7)

    def begin(self, kind: str, **sections: dict[str, Any]) -> str:
        """Create a task that lives in the same partition; its name."""
        name = self._choose_name(kind)
        rules = policy(**{"stop": STOP, "staleness": {"max_versions": 3}, **sections})
        self.policies[name] = rules
        create_task(self.log, rules, task=name, model=np.zeros(PARAMETERS))
        self.settle()
        return name

    def _choose_name(self, kind: str) -> str:
        return next(f"{kind}-{n}" for n in range(999) if home_of(f"{kind}-{n}") == self.partition)

    def of(self, task: str, name: str) -> ScriptedDevice:
        """A device of a task."""
        return ScriptedDevice(name, self.log, task=task, sent_ms=self.sent_ms)

    def leases(self, task: str, names: str, **condition: Any) -> None:
        """These devices check in."""
        for name in names:
            self.of(task, name).check_in(**condition)
        self.settle()

    def updates(self, task: str, names: str, *, inline: bool = False) -> None:
        """Each of these submits a delta of its own under its newest lease."""
        for name in names:
            delta = self._draw.normal(0, 1, PARAMETERS).astype(np.float32)
            self.of(task, name).submit(delta, self.policies[task], inline=inline)
        self.settle()

    def turn(self, task: str, names: str, *, inline: bool = False) -> None:
        """Check-ins and updates of as many devices."""
        self.leases(task, names)
        self.updates(task, names, inline=inline)

    def says(self, topic: str, fact: Event) -> None:
        """Somebody outside writes a fact."""
        self.append(topic, written(fact) if topic == TASKS.name else scored(fact))  # type: ignore[arg-type]
        self.settle()

    def settle(self) -> None:
        """As before, a little later each time."""
        self.now_ms += 7
        super().settle()

    def tell(self) -> None:
        """Everything, in order."""
        plain, private, adam = self._tasks()
        for turn in range(2):
            self.turn(plain, f"{turn}ab", inline=turn == 0)
            self.turn(private, f"{turn}cd")
            self.turn(adam, f"{turn}ef", inline=turn == 1)
            self.start(["selector", "privacy"][turn])
        self._junk(plain)
        self._stale(adam)
        self._refusals(plain, private)
        self._doubts()
        self._defects(plain, private)
        self._halts(plain, private, adam)
        self._enrolments()
        self._rollout()
        self._drift()

    def _enrolments(self) -> None:
        """A class of devices is opened, one enrols, another may not, the first is revoked, and the class is closed."""
        token = signed_token("ada", at_ms=self.now_ms, nonce=bytes(SALT_BYTES))
        devices = [self.of(TASK, name) for name in "ab"]
        asking = [
            sign_request(ask_to_enrol(TASK, one.key, token=token), one.key, deployment=DEPLOYMENT) for one in devices
        ]
        revoked = device_revoked(device_id("a"))
        for record in (ordered(enrolment_opened()), *asking, ordered(revoked), ordered(enrolment_closed())):
            self.append(ENROLMENTS.name, record)
            self.settle()

    def _rollout(self) -> None:
        """Versions are tried, grow, are promoted and rolled back: by scores, by time, and by order."""
        stages = [{"share": 0.05, "cohorts": ["lab"], "hold_s": 60.0}, {"share": 0.5}]
        gates = [{"metric": "accuracy", "drop_max": 0.01}]
        task = self.begin("rolled", rollout={"stages": stages, "gates": gates}, retention={"models_kept": 4})
        for version, accuracy in enumerate((0.9, 0.5, 0.91), 1):
            self.turn(task, "abc")
            for cohort in ("lab", ""):
                told = {"accuracy": accuracy}
                self.says(
                    EVALUATIONS.name,
                    VersionEvaluated(task=task, version=version, metrics=told, samples=9, cohort=cohort),
                )
            self.now_ms += 61_000
            self.append(CLOCK.name, encode(Tick()))
            self.settle()
        self.start("rollout")
        for number, (action, version) in enumerate(ORDERS, 1):
            self.says(TASKS.name, rollout_ordered(task, action, version=version, number=number))

    def _drift(self) -> None:
        """What devices answer moves to the other of two bins, and comes back."""
        name = self._choose_name("asked")
        rules = self.policies[name] = drift_policy(
            measure={"statistics": {"histogram": {"bound": 1.0, "shape": (2,)}}},
            aggregation={"updates_per_round": 5},
            stop={"versions_max": 3},
        )
        create_task(self.log, rules, task=name, model=np.zeros(2))
        self.settle()
        for place in (0, 1, 0):
            self.leases(name, "abcde")
            for device in "abcde":
                self.of(name, device).submit(np.eye(2, dtype=np.float32)[place], rules)
            self.settle()

    def _tasks(self) -> tuple[str, str, str]:
        private = self.begin("private", privacy=PRIVATE, compression={"codec": "int8"}, optimizer={"rule": "momentum"})
        adam = self.begin(
            "adam",
            compression={"codec": "topk", "topk_fraction": 0.25},
            optimizer={"rule": "adam", "learning_rate": 0.1},
            aggregation={"samples_max": 10, "normalisation": "weight"},
            staleness={"rule": "hinge", "hinge_b": 0, "max_versions": 1},
            selection={"battery_min_percent": 50},
            stop={"versions_max": 9, "target_metric": "accuracy", "target_value": 0.9},
        )
        return TASK, private, adam

    def _junk(self, task: str) -> None:
        device = self.of(task, "x")
        for topic in (CHECKINS.name, UPDATES.name, EVALUATIONS.name, TASKS.name):
            device.append(topic, b"\xc1 no fact of ours")
            device.append(topic, b"")
        self.settle()
        self.of("nobodys-task", "x").append(CHECKINS.name, b"")
        stranger = self.of(task, "a")
        stranger.key = self.of(task, "b").key
        stranger.check_in()
        self.of(task, "x").append(UPDATES.name, b"\x92" + bytes(80))
        self.settle()

    def _stale(self, adam: str) -> None:
        self.leases(adam, "ghi")
        self.leases(adam, "j", battery_percent=3)
        self.turn(adam, "klm")
        self.updates(adam, "g")
        self.turn(adam, "no", inline=True)
        self.updates(adam, "hi")

    def _refusals(self, plain: str, private: str) -> None:
        self.leases(plain, "pqr")
        self.updates(plain, "p")
        self.updates(plain, "p")
        broken = np.full(PARAMETERS, np.nan, np.float32)
        self.of(plain, "q").submit(broken, self.policies[plain])
        self.of(plain, "r").submit_body(pack(np.zeros(3, np.float32)), codec="float32")
        self.leases(private, "st")
        self.of(private, "s").submit_body(b"no body", codec="int8", inline=False)
        absent = BodyRef(
            topic=BODIES.name, partition=self.partition, offsets=(99_999,), sha256=bytes(32), size=9, codec="int8"
        )
        self._submit_ref(private, "t", absent)
        self.settle()
        self.leases(plain, "u")
        self.pass_ms(61_000)
        self.updates(plain, "u")

    def _submit_ref(self, task: str, name: str, ref: BodyRef) -> None:
        with patch("tests.worlds.federation.store", lambda *_, **__: ref):
            self.of(task, name).submit_body(b"", codec=ref.codec, inline=False)

    def _doubts(self) -> None:
        """A batch that its writer committed after it was fenced, and records of a transaction that was aborted."""
        at = TopicPartition(ROUNDS.name, self.partition)
        last = [record.value for record in scan(self.log, at)][-1]
        writer = self.log.writer(f"aggregator.{self.partition}")
        writer.begin()
        writer.put([Draft(topic=ROUNDS.name, partition=self.partition, value=b"never committed")])
        self.start("aggregator")
        self.append(ROUNDS.name, last or b"")
        for name in ("selector", "aggregator", "privacy"):
            self.start(name)
        self.settle()

    @contextmanager
    def _failing(self, name: str, kind: type[Any]) -> Iterator[None]:
        """An actor whose code fails on facts of a kind."""
        actor = self.actors[name]
        honest = actor._decider

        def decide(state: Any, fact: Any, time_ms: int) -> list[Any]:
            if isinstance(fact, kind) and getattr(fact, "fault", None) is None:
                raise RuntimeError("planted")
            return honest.decide(state, fact, time_ms)

        actor._decider = dataclasses.replace(honest, decide=decide)
        yield
        actor._decider = honest

    def _defects(self, plain: str, private: str) -> None:
        """An update keeps its slot or is refused, a charge is withheld, and the rest is passed."""
        with self._failing("aggregator", UpdateChecked):
            self.turn(plain, "i")
            self.turn(private, "i")
        with self._failing("selector", DeviceCheckedIn):
            self.leases(plain, "j")
        with self._failing("aggregator", VersionEvaluated):
            self.says(EVALUATIONS.name, VersionEvaluated(task=plain, version=1, metrics={}, samples=1, cohort=""))
        with self._failing("privacy", RoundProposed):
            self.turn(private, "jkl")

    def _halts(self, plain: str, private: str, adam: str) -> None:
        paused = self.begin("paused", stop={"versions_max": 4, "idle_s": 3_600.0})
        self.says(TASKS.name, task_paused(task=paused))
        self.leases(paused, "a")
        self.says(TASKS.name, task_resumed(task=paused))
        self.turn(paused, "ab")
        self.says(TASKS.name, task_closed(task=paused))
        self._lost_key()
        self.turn(plain, "vwx")
        self.turn(private, "w", inline=True)
        self.says(
            EVALUATIONS.name, VersionEvaluated(task=adam, version=2, metrics={"accuracy": 0.95}, samples=9, cohort="")
        )
        self.turn(plain, "abc")
        self.turn(plain, "dcb")
        idle = self.begin("idle", stop={"versions_max": 4, "idle_s": 30.0})
        self.turn(idle, "a")
        self.pass_ms(31_000)
        self.turn(private, "xyz")

    def _lost_key(self) -> None:
        """A round that was proposed under one key finds another one when it is charged: it is abandoned."""
        lost = self.begin("lost", privacy=PRIVATE, compression={"codec": "float32"})
        budget = self.actors.pop("privacy")
        self.turn(lost, "abc")
        stranger = assemble("aggregator", self.partition, log=self.log, key=OTHER_NOISE)
        stranger.open()
        self.actors |= {"privacy": budget, "aggregator": stranger}
        self.settle()
        self.start("aggregator")
        self.turn(lost, "def")


def told() -> Story:
    """The story from its beginning to its end; the same bytes every time."""
    with _determined():
        story = Story()
        story.tell()
    return story
