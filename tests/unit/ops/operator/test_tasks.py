"""What an operator does to tasks, on the in-memory log."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from client_agent.learning.learner import Parameter
from ops.operator import models, tasks
from ops.operator.deployments import name_deployment
from ops.operator.errors import (
    BudgetSpent,
    CloseUnnoticed,
    ModelMismatch,
    ParentUnprotected,
    SuccessorExists,
    TaskExists,
    TaskNameInvalid,
    TaskTooLarge,
    TaskUnknown,
    VersionUnknown,
)
from ops.operator.succession import Branch, Predecessor
from schemas.creations import parse_task_event
from schemas.events import (
    Noticed,
    RoundOpened,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskSucceeded,
    TensorSpec,
)
from schemas.identifiers import TaskId
from schemas.policy import Policy, PolicyError
from schemas.topics import CATALOGUE
from streams.log import TopicPartition, scan
from streams.memory import MemoryLog
from tests.learners import PairLearner
from tests.places import home_of
from tests.unit.ops.history.test_projections import admitted
from tests.worlds.builders import KEY, lease_id, model_published, spending, update_admitted
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log, policy

TENSORS = (TensorSpec(name="weight", shape=(2, 2)), TensorSpec(name="bias", shape=(2,)))
FLAT = np.arange(6, dtype=np.float32)


def test_a_task_is_created_with_all_that_decides() -> None:
    """Weights, digest and a readable first model are in TaskCreated, which lies in the task's partition."""
    log = memory_log()
    tasks.create(log, TASK, key=KEY, policy=policy())
    found = tasks.read_creations(log, PLACE, operator=KEY.public_key)[TASK]
    assert found.weights == policy().weights()
    assert (found.parameters, found.tensors, found.spent_before) == (6, TENSORS, ())
    assert found.policy_sha256 == created().policy_sha256
    assert models.read(log, found.model, parameters=6).tolist() == FLAT.tolist()


@pytest.mark.parametrize(("prefix", "fits"), [("layers.", True), (f"{'base_model.' * 6}weight.", False)])
def test_very_many_tensors_are_a_task_or_are_refused(
    prefix: str, *, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand arrays, of no dimension too, have a place in a journal; one that has none says what to change."""
    arrays = {f"{prefix}{number}": np.ones((), np.float32) for number in range(10_000)}
    monkeypatch.setattr(PairLearner, "initialize", lambda self, seed: arrays)
    log = memory_log()
    if fits:
        made = tasks.create(log, TASK, key=KEY, policy=policy())
        assert tasks.read_creations(log, PLACE, operator=KEY.public_key)[TASK] == made
        assert (made.parameters, made.tensors[-1]) == (10_000, TensorSpec(name="layers.9999", shape=()))
    else:
        with pytest.raises(
            TaskTooLarge, match=r"10000 tensors, and its description of \d+ bytes .*: give them shorter"
        ):
            tasks.create(log, TASK, key=KEY, policy=policy())
        assert tasks.read_creations(log, PLACE, operator=KEY.public_key) == {}


@pytest.mark.parametrize("name", ["wards.first", "a.b", f"{'a' * 63}.{'b' * 63}"])
def test_a_name_may_have_a_population(name: str) -> None:
    """POPULATION.TASK: the task lives, and its successor finds it, where the population does."""
    log = memory_log()
    made = tasks.create(log, name, key=KEY, policy=policy())
    home = home_of(name.partition(".")[0])
    assert (made.model.partition, made.partitions) == (home, log.partitions)
    assert tasks.read_creations(log, home, operator=KEY.public_key)[name] == made


@pytest.mark.parametrize("name", ["a.b.c", ".a", "a.", "a..b", "a.B", "a/b", f"a.{'b' * 64}", "a.b\n", "..", ""])
def test_other_names_are_refused(name: str) -> None:
    """Names become files and labels: one dot at most, and no part is empty or long."""
    with pytest.raises(TaskNameInvalid, match=r"POPULATION\.TASK"):
        tasks.check_name(name)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, TaskId)


def test_more_shards_than_partitions_are_refused() -> None:
    """Bodies can be spread over the partitions that there are, which only the cluster tells."""
    log = MemoryLog(CATALOGUE, partitions=3)
    with pytest.raises(PolicyError, match="shards = 4: this cluster has 3 partitions"):
        tasks.create(log, TASK, key=KEY, policy=replace(policy(), shards=4))
    assert tasks.create(log, TASK, key=KEY, policy=replace(policy(), shards=3)).partitions == 3


def test_a_name_is_taken_once() -> None:
    """A second task of that name is refused, and nothing is written."""
    log = memory_log()
    tasks.create(log, TASK, key=KEY, policy=policy())
    end = log.bounds(TopicPartition("tasks", PLACE)).end
    with pytest.raises(TaskExists, match="exists already"):
        tasks.create(log, TASK, key=KEY, policy=policy())
    assert log.bounds(TopicPartition("tasks", PLACE)).end == end


def test_of_two_creators_at_once_the_first_in_the_log_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second in the log is told, though the name was free when it looked."""
    log = memory_log()
    store = models.store

    def slow(log: Any, flat: Any, *, partition: int) -> Any:
        append(log, "tasks", created(spent_before=(spending(77),), deployment=name_deployment(log, KEY)))
        return store(log, flat, partition=partition)

    monkeypatch.setattr(models, "store", slow)
    with pytest.raises(TaskExists, match="Another operator"):
        tasks.create(log, TASK, key=KEY, policy=policy())
    assert tasks.read_creations(log, PLACE, operator=KEY.public_key)[TASK].spent_before[0].participations == 77


def test_nothing_is_said_of_a_task_that_does_not_exist() -> None:
    """A typing error does not end up in the log for ever."""
    with pytest.raises(TaskUnknown, match="no task 'nope'"):
        tasks.pause(memory_log(), "nope", key=KEY)


EARLIER = spending(4, 2.0, task="earlier")
HALF = policy(privacy={"noise_multiplier": 0.5, "rho_max": 30.0})
TWENTY = policy(privacy={"noise_multiplier": 20.0, "rho_max": 30.0})


def halted(log: MemoryLog, rules: Policy | None = None) -> Journal:
    """A task whose busiest device took part three times, with a version, and before its end."""
    deployment, spent = name_deployment(log, KEY), (EARLIER,) if rules else ()
    parent = created(policy=rules or policy(), parent="earlier", spent_before=spent, deployment=deployment)
    append(log, "tasks", parent)
    journal = Journal(log, "rounds")
    model = models.store(log, FLAT * 2, partition=PLACE)
    journal.batch(
        Noticed(fact=parent),
        model_published(model=model),
        RoundOpened(task=TASK, round=0),
        *(admitted(n, device="busy") for n in range(3)),
        admitted(9, device="rare"),
    )
    return journal


def test_privacy_already_spent_stays_spent() -> None:
    """The new task carries the busiest device's share of each task before it, at the noise that it had there."""
    log = memory_log()
    halted(log, HALF).batch(TaskHalted(task=TASK, reason="closed", version=0))
    child = tasks.create(log, "next", key=KEY, policy=TWENTY, after=Predecessor(task=TASK, wait_s=0))
    assert (child.parent, child.spent_before) == (TASK, (EARLIER, spending(3, 0.5, task=TASK)))
    # rho 0.5 and 6 are gone, so 23.5 of 30 are left, of which one participation costs 1/800.
    assert child.participations_cap == 23_5 * 80
    assert child.model.partition == home_of("next")


def test_a_budget_that_is_spent_begins_no_task() -> None:
    """Where not one participation is left of the new policy, nothing is created, and a larger budget can be tried."""
    log = memory_log()
    halted(log, HALF).batch(TaskHalted(task=TASK, reason="closed", version=0))
    small, after = policy(privacy={"noise_multiplier": 20.0, "rho_max": 6.5}), Predecessor(task=TASK, wait_s=0)
    with pytest.raises(BudgetSpent, match=r"have spent rho 6.5 of rho_max 6.5"):
        tasks.create(log, "next", key=KEY, policy=small, after=after)
    assert "next" not in tasks.read_creations(log, home_of("next"), operator=KEY.public_key)
    assert tasks.create(log, "next", key=KEY, policy=TWENTY, after=after).participations_cap


def test_a_parent_without_privacy_has_no_private_successor() -> None:
    """What was released without noise no budget pays for; nothing is written, and a plain successor is fine."""
    log = memory_log()
    halted(log).batch(TaskHalted(task=TASK, reason="closed", version=0))
    end, after = log.bounds(TopicPartition("tasks", PLACE)).end, Predecessor(task=TASK, wait_s=0)
    with pytest.raises(ParentUnprotected, match="'digits' was trained without privacy"):
        tasks.create(log, "next", key=KEY, policy=TWENTY, after=after)
    assert log.bounds(TopicPartition("tasks", PLACE)).end == end
    assert tasks.create(log, "next", key=KEY, policy=policy(), after=after).spent_before == ()


def test_the_newest_model_is_taken_over_when_asked() -> None:
    """A warm start begins with the old task's newest version, not with a fresh model."""
    log = memory_log()
    halted(log).batch(TaskHalted(task=TASK, reason="closed", version=0))
    child = tasks.create(log, "next", key=KEY, policy=policy(), after=Predecessor(task=TASK, warm_start=True, wait_s=0))
    assert models.read(log, child.model, parameters=6).tolist() == (FLAT * 2).tolist()


def test_a_warm_start_takes_along_what_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are worth nothing on other frozen weights than those that they were trained on."""
    bias = [7.0]
    monkeypatch.setattr(
        PairLearner,
        "initialize",
        lambda self, seed: {"weight": np.zeros((2, 2)), "bias": Parameter(np.full(2, bias[0]), "frozen")},
    )
    log = memory_log()
    parent = tasks.create(log, TASK, key=KEY, policy=policy())
    Journal(log, "rounds").batch(Noticed(fact=parent), TaskHalted(task=TASK, reason="closed", version=0))
    # The file of pre-trained weights is another one by now.
    bias[0] = 8.0
    child = tasks.create(log, "next", key=KEY, policy=policy(), after=Predecessor(task=TASK, warm_start=True, wait_s=0))
    assert child.frozen is not None
    assert models.read(log, child.frozen, parameters=2).tolist() == [7.0, 7.0]


def test_a_warm_start_keeps_the_scale_of_what_is_averaged() -> None:
    """A vector holds averaged values times a factor: under another factor they would be other values."""
    log = memory_log()
    halted(log).batch(TaskHalted(task=TASK, reason="closed", version=0))
    rescaled = policy(parameters={"averaged_scale": 0.5})
    with pytest.raises(ModelMismatch, match="averaged_scale"):
        tasks.create(log, "next", key=KEY, policy=rescaled, after=Predecessor(task=TASK, warm_start=True, wait_s=0))


def test_other_tensors_take_no_model_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of another shape is refused before anything is written."""
    log = memory_log()
    halted(log).batch(TaskHalted(task=TASK, reason="closed", version=0))
    monkeypatch.setattr(PairLearner, "initialize", lambda self, seed: {"weight": FLAT.reshape(2, 3)})
    with pytest.raises(ModelMismatch, match="other tensors"):
        tasks.create(log, "next", key=KEY, policy=policy(), after=Predecessor(task=TASK, warm_start=True, wait_s=0))
    assert tasks.read_creations(log, home_of("next"), operator=KEY.public_key).keys() <= {TASK}


def test_an_aggregator_that_does_not_answer_is_named() -> None:
    """The close stands in the log, once, and the same command can be given again."""
    log = memory_log()
    journal = halted(log)
    for _ in range(2):
        with pytest.raises(CloseUnnoticed, match="its aggregator has not noticed"):
            tasks.close_and_wait(log, TASK, successor="next", key=KEY, wait_s=0)
    events = [parse_task_event(record, KEY.public_key) for record in scan(log, TopicPartition("tasks", PLACE))]
    assert [type(event) for event in events] == [TaskCreated, TaskSucceeded, TaskClosed]
    journal.batch(TaskHalted(task=TASK, reason="closed", version=0))
    assert tasks.close_and_wait(log, TASK, successor="next", key=KEY, wait_s=0).participations_max == 3


def test_a_task_has_one_successor() -> None:
    """Two successors would each spend what the one before had left."""
    log = memory_log()
    halted(log, HALF).batch(TaskHalted(task=TASK, reason="closed", version=0))
    after = Predecessor(task=TASK, wait_s=0)
    tasks.create(log, "next", key=KEY, policy=TWENTY, after=after)
    with pytest.raises(SuccessorExists, match="'next' already carries on from 'digits'"):
        tasks.create(log, "other", key=KEY, policy=TWENTY, after=after)
    assert "other" not in tasks.read_creations(log, home_of("other"), operator=KEY.public_key)


def test_what_was_said_in_another_deployment_is_nothing_here() -> None:
    """Guarantee: copies of staging's creation, claim and close, placed before ours, neither take a name nor end it."""
    log = memory_log()
    home, staging = home_of("next"), b"s" * 16
    append(log, "tasks", created("next", deployment=staging), partition=home)
    for event in (created(deployment=staging), TaskSucceeded(task=TASK, deployment=staging, successor="theirs")):
        append(log, "tasks", event)
    append(log, "tasks", TaskClosed(task=TASK, deployment=staging))
    halted(log, HALF)
    with pytest.raises(CloseUnnoticed):
        tasks.create(log, "next", key=KEY, policy=TWENTY, after=Predecessor(task=TASK, wait_s=0))
    events = [parse_task_event(record, KEY.public_key) for record in scan(log, TopicPartition("tasks", PLACE))]
    ours = [type(event) for event in events if event and event.deployment != staging]
    assert ours == [TaskCreated, TaskSucceeded, TaskClosed]
    views = tasks.find_views(log, operator=KEY.public_key)
    assert (views[TASK].created, "next" in views) == (events[-3], False)


def test_a_claim_is_written_before_the_close() -> None:
    """The loser of a race must not have closed the task of the one that wins, nor closed it for another name."""
    log = memory_log()
    halted(log, HALF)
    with pytest.raises(CloseUnnoticed):
        tasks.create(log, "next", key=KEY, policy=TWENTY, after=Predecessor(task=TASK, wait_s=0))
    events = [parse_task_event(record, KEY.public_key) for record in scan(log, TopicPartition("tasks", PLACE))]
    assert [type(event) for event in events[-2:]] == [TaskSucceeded, TaskClosed]


def _trained(log: MemoryLog, rules: Policy, *, versions: int = 3) -> Journal:
    """A task with versions 1 to `versions`, each a body of its own, of which two devices know all."""
    parent = tasks.create(log, TASK, key=KEY, policy=rules)
    journal = Journal(log, "rounds")
    journal.batch(Noticed(fact=parent))
    for version in range(1, versions + 1):
        model = models.store(log, FLAT + version, partition=PLACE)
        members = [
            update_admitted(f"d{number}", round=version - 1, update=lease_id(2 * version + number)) for number in (0, 1)
        ]
        journal.batch(*members, model_published(version, model=model))
    return journal


def test_a_branch_starts_from_any_version_and_its_parent_goes_on() -> None:
    """Without privacy: the model is that of the version to the bit, and nothing is said about the parent."""
    log = memory_log()
    _trained(log, policy())
    child = tasks.fork(log, Branch(task=TASK, version=2), name="other", key=KEY)
    assert models.read(log, child.model, parameters=6).tolist() == (FLAT + 2).tolist()
    assert (child.parent, child.policy) == (None, policy())
    assert tasks.find_view(log, TASK, operator=KEY.public_key).status == "running"
    with pytest.raises(VersionUnknown, match="its newest is 3"):
        tasks.fork(log, Branch(task=TASK, version=4), name="another", key=KEY)


def test_a_fork_of_a_private_task_carries_all_that_was_spent() -> None:
    """Until its halt and not until the version: three rounds were released, wherever a new task starts."""
    log, private = memory_log(), policy(privacy={"noise_multiplier": 1.0, "rho_max": 30.0})
    journal = _trained(log, private)
    journal.batch(TaskHalted(task=TASK, reason="closed", version=3))
    child = tasks.fork(log, Branch(task=TASK, version=1), name="other", key=KEY)
    assert models.read(log, child.model, parameters=6).tolist() == (FLAT + 1).tolist()
    assert child.parent == TASK
    assert [(one.task, one.participations) for one in child.spent_before] == [(TASK, 3)]
    assert tasks.find_view(log, TASK, operator=KEY.public_key).is_over


def test_a_private_version_is_no_branch() -> None:
    """Nobody gets past the ledger of a private task by naming a version of it, nor privacy from a task without."""
    log = memory_log()
    _trained(log, policy(privacy={"noise_multiplier": 1.0, "rho_max": 30.0}))
    with pytest.raises(ModelMismatch, match="only its successor"):
        tasks.create(log, "other", key=KEY, policy=policy(), after=Branch(task=TASK, version=1))
    plain = memory_log()
    _trained(plain, policy())
    with pytest.raises(ParentUnprotected):
        tasks.fork(
            plain,
            Branch(task=TASK, version=1),
            name="other",
            key=KEY,
            policy=policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0}),
        )
