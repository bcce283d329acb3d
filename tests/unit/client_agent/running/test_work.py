"""What the devices of a process have to do: their task once it exists, and the data that the record names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from client_agent.learning.allow_list import AllowList, PluginNotAllowed
from client_agent.learning.data import Part
from client_agent.learning.layout import ModelError
from client_agent.learning.sources import hash_sources
from client_agent.link import LinkUnavailable
from client_agent.links.kafka import KafkaLink
from client_agent.running import work
from client_agent.running.work import DataConflict, TaskNotFound, Work, await_task, choose_data, open_work
from schemas.events import TensorSpec
from schemas.policy import Seeds
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
from tests.learners import FLAT_LEARNER, PAIR_LEARNER
from tests.worlds.builders import KEY, create_task, policy, task_created


def test_a_task_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices may start before their task is created, and while no broker answers; a wrong name ends."""
    log, clock = MemoryLog(CATALOGUE), [0.0]
    link = KafkaLink(log, KEY.public_key, ["phone"])
    away = [True] * 3

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] == 3.0:
            create_task(log, policy(), task="digits", model=np.zeros(4))

    find = link.find_task

    def find_task(name: str) -> object:
        if away:
            away.pop()
            raise LinkUnavailable("away")
        return find(name)

    monkeypatch.setattr(work.time, "sleep", sleep)
    monkeypatch.setattr(work.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(link, "find_task", find_task)
    assert await_task(link, "digits").task == "digits"
    assert clock[0] == 3.0
    with pytest.raises(TaskNotFound, match="no task 'digitz'"):
        await_task(link, "digitz")


def test_what_trains_is_part_of_the_record() -> None:
    """An option may repeat the data of the policy, and name them where it names none; never others."""
    assert [choose_data("a:b", ""), choose_data("", "a:b"), choose_data("a:b", "a:b"), choose_data("", "")] == [
        "a:b",
        "a:b",
        "a:b",
        "",
    ]
    with pytest.raises(DataConflict, match=r"'a:b'.*'c:d'"):
        choose_data("a:b", "c:d")


def test_nothing_is_opened_that_is_not_allowed() -> None:
    """The learner of a task is opened once its owner allowed it, and then gives each device its examples."""
    created = task_created(policy(model="", learner=FLAT_LEARNER, learner_arguments={"parameters": 4}))
    with pytest.raises(PluginNotAllowed, match=r"--allow tests\.learners:FlatLearner"):
        open_work(created, allowed=AllowList(), data="", fallback="")
    found = open_work(created, allowed=AllowList().including(FLAT_LEARNER), data="", fallback="x:y")
    assert found.make_trainer(Part()).sample_count == 7


def test_another_site_s_module_trains_nothing() -> None:
    """Guarantee: tensors of the same total size in another order are named, by devices and evaluators (FAULT B)."""
    rules = policy(model="", learner=PAIR_LEARNER)
    theirs = (TensorSpec(name="bias", shape=(2,)), TensorSpec(name="weight", shape=(2, 2)))
    with pytest.raises(ModelError, match=r"tensor 1 of the model is 'weight' .* here and 'bias' .* in the task"):
        open_work(
            task_created(rules, tensors=theirs), allowed=AllowList().including(PAIR_LEARNER), data="", fallback=""
        )


@pytest.mark.parametrize("role", ["trained", "averaged", "frozen"])
def test_a_model_without_end_is_not_made(role: Any) -> None:
    """Guarantee: arguments and tensors that agree on terabytes take none of them, also where they do not train."""
    rules = policy(
        model="client_agent.learning.models:softmax_regression", model_arguments={"inputs": 10**9, "classes": 10**9}
    )
    tensors = (TensorSpec(name="1.weight", shape=(10**9, 10**9), role=role), TensorSpec(name="1.bias", shape=(10**9,)))
    with pytest.raises(ModelError, match="more than there is memory for"):
        open_work(task_created(rules, tensors=tensors), allowed=AllowList(), data="", fallback="")


def test_code_that_is_not_the_operator_s_is_told() -> None:
    """What trains is part of the record: a machine with another source says so, and nothing where it is the same."""
    rules = policy(model="", learner=FLAT_LEARNER, learner_arguments={"parameters": 4})
    allowed = AllowList().including(FLAT_LEARNER)
    for sources, differing in ((hash_sources(rules), ()), ({FLAT_LEARNER: bytes(32)}, (FLAT_LEARNER,))):
        with capture_logs() as logs:
            found = open_work(task_created(rules, sources=sources), allowed=allowed, data="", fallback="x:y")
        assert found.differing == differing
        assert [line["plugins"] for line in logs if line["event"] == "source_differs"] == [differing] * bool(differing)


def test_the_split_s_seed_is_the_policy_s() -> None:
    """Guarantee: who has which examples follows from the log alone, whatever fleet asks."""
    seen: list[Part] = []

    class Noting:
        def make_trainer(self, part: Part) -> Any:
            seen.append(part)

    Work(Noting(), "m:data", seeds=Seeds(split=9)).make_trainer(Part(index=1, count=3))  # type: ignore[arg-type]
    assert [(part.seed, part.plugin, part.index) for part in seen] == [(9, "m:data", 1)]
