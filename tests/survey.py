"""Questions to a federation in memory: the operator's own functions, the real actors, and devices with data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.identity import open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.links.kafka import KafkaLink
from client_agent.running.loop import DeviceLoop, Stats
from client_agent.running.work import await_task, open_work
from client_agent.setting import DeviceSetting
from ops.operator import results, tasks
from ops.operator.results import Result
from schemas.creations import sign_task_event
from schemas.events import DeploymentFounded, TaskCreated
from schemas.policy import Policy, check_policy
from schemas.tensors import Floats
from schemas.topics import TASKS
from streams.log import Draft, EventLog
from tests.learners import FLAT_LEARNER, PERSONAL_LEARNER, TELLING_LEARNER
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.builders import policy as build_policy
from tests.worlds.federation import Federation

RINGS = "rings"
DATA = f"{__name__}:rows_of_device"
TOTAL = f"{__name__}:total"
ALLOWED = AllowList(names=frozenset({DATA, TOTAL, FLAT_LEARNER, PERSONAL_LEARNER, TELLING_LEARNER}))
STEPS_MAX = 400


def rows_of_device(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Device i has i + 2 examples of two features; none of them is whole, and one is missing."""
    draw = np.random.default_rng([3, part.index])
    features = draw.normal(size=(part.index + 2, 2))
    features[0, 1] = np.nan
    return features, draw.integers(0, 4, len(features))


def total(parameters: Any, data: Any, *, context: Any, times: float = 1.0, rows: int = 1) -> dict[str, Any]:
    """The number of examples, and the sum of the first feature so many times; in a further row another so many."""
    del parameters, context
    features, _ = data
    return {"examples": len(features), "first": [[row * times * features[:, 0].sum()] for row in range(1, rows + 1)]}


def training_policy(**sections: Any) -> Policy:
    """A task of six numbers, whose score is their sum."""
    plain: dict[str, Any] = {
        "model": "",
        "learner": FLAT_LEARNER,
        "learner_arguments": {"parameters": 6},
        "data": DATA,
    }
    return build_policy(**{**plain, **sections})


def measuring_policy(**sections: Any) -> Policy:
    """A question about data alone, to three devices."""
    plain: dict[str, Any] = {
        "model": "",
        "kind": "measure",
        "data": DATA,
        "measure": {
            "plugin": TOTAL,
            "statistics": {"examples": {"bound": 64.0}, "first": {"bound": 16.0, "shape": (1, 1)}},
        },
        "compression": {"codec": "float32", "error_feedback": False},
        "clipping": {"norm": 2.0, "steps": 1 << 20},
        "staleness": {"rule": "constant", "max_versions": 0},
        "stop": {"versions_max": 1},
    }
    for name, given in sections.items():
        plain[name] = {**plain.get(name, {}), **given} if isinstance(given, dict) else given
    return check_policy(build_policy(**plain))


class Survey(Federation):
    """A federation whose task is created by the operator's own function, as are its measurements."""

    def __init__(self, rules: Policy | None = None, *, task: str = RINGS) -> None:
        super().__init__(rules or training_policy(), task=task)

    def create(self, model: Floats) -> None:
        """Found the deployment of the builders, and create the task."""
        del model
        founded = sign_task_event(DeploymentFounded(deployment=DEPLOYMENT), KEY.signing)
        self.log.append([Draft(topic=TASKS.name, partition=0, value=founded)])
        tasks.create(self.log, self.task, key=KEY, policy=self.rules)

    def ask(self, name: str, rules: Policy, **changes: Any) -> TaskCreated:
        """Create a measure task."""
        created = tasks.create(self.log, name, key=KEY, policy=check_policy(rules), **changes)
        self.settle()
        return created

    def answer(self, task: str, folder: Path, *, devices: int = 3, until: int = 1) -> Stats:
        """Let real devices work on a task until it has a version."""
        return self.live(task, folder, devices=devices, is_done=lambda: self.version(task) >= until)

    def live(self, task: str, folder: Path, *, devices: int, is_done: Callable[[], bool]) -> Stats:
        """Let them work until something is so."""
        with opened_devices(self.log, task, folder, devices=devices, clock_ms=lambda: self.now_ms) as loop:
            for _ in range(STEPS_MAX):
                self.now_ms += 100
                loop.step(self.now_ms, 0.0)
                self.settle()
                if is_done():
                    return loop.count()
            raise AssertionError(f"not within {STEPS_MAX} steps: {loop.count()}")

    def version(self, task: str) -> int:
        """The newest version; -1 before the first."""
        found = tasks.find_view(self.log, task, operator=KEY.public_key).version
        return -1 if found is None else found

    def result(self, task: str) -> Result:
        """What the task has published last."""
        view = tasks.find_view(self.log, task, operator=KEY.public_key)
        assert view.version is not None
        return results.read(self.log, view, version=view.version)


@contextlib.contextmanager
def opened_devices(
    log: EventLog,
    task: str,
    folder: Path,
    *,
    devices: int,
    clock_ms: Callable[[], int],
    operator: bytes = KEY.public_key,
) -> Iterator[DeviceLoop]:
    """Real devices of one task, each with a folder and data of its own; a second time they are the same ones."""
    places = [folder / f"{task}-{index}" for index in range(devices)]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    identities = [open_identity(place, f"phone{index}") for index, place in enumerate(places)]
    with contextlib.closing(KafkaLink(log, operator, [one.device for one in identities])) as link:
        work = open_work(await_task(link, task), allowed=ALLOWED, data="", fallback="")
        settings = [
            DeviceSetting(
                task=task,
                identity=identity,
                folder=place,
                trainer=work.make_trainer(Part(index=index, count=devices, folder=place)),
                allowed=ALLOWED,
                synced=False,
                clock_ms=clock_ms,
            )
            for index, (identity, place) in enumerate(zip(identities, places, strict=True))
        ]
        yield DeviceLoop(link, settings, now_ms=clock_ms())
