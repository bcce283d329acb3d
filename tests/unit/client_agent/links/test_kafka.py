"""The link over the log: what it holds back, what it reads, and what it makes of a log that is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.keys import OperatorKey
from client_agent.link import LinkUnavailable, UpdateBody
from client_agent.links import kafka
from client_agent.links.kafka import KafkaLink, open_link
from schemas.canonical import encode
from schemas.events import Declined, DeploymentFounded, Outcome
from schemas.topics import ANSWERS
from streams.log import Draft, LogUnavailable, TopicPartition
from tests.places import answer_home, home_of
from tests.worlds.builders import DEPLOYMENT, KEY, role_key, task_created, told, written
from tests.worlds.device_world import PHONE, TASK, World


def body(number: int, *, size: int = 100, shards: int = 1) -> UpdateBody:
    """The body of update `number`."""
    data = bytes([number]) * size
    return UpdateBody(task=TASK, device=PHONE, update=f"u{number}", codec="float32", shards=shards, data=data)


def record_appends(world: World, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The topics of each append from now on."""
    append, appends = world.log.append, list[list[str]]()
    monkeypatch.setattr(world.log, "append", lambda d: (appends.append([one.topic for one in d]), append(d))[1])
    return appends


def refuse_appends(_: object) -> list[int]:
    raise LogUnavailable("no broker")


def test_bodies_are_stored_in_one_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: bodies handed over since the last call go out together, and each address comes back once."""
    world = World()
    link, appends = KafkaLink(world.log, KEY.public_key, [PHONE]), record_appends(world, monkeypatch)
    for number in range(3):
        link.store(body(number))
    stored = link.collect_stored()
    assert appends == [["bodies"] * 3]
    assert [(one.device, one.update, one.address.offsets) for one in stored] == [
        (PHONE, f"u{number}", (number,)) for number in range(3)
    ]
    assert link.collect_stored() == []


def test_many_bytes_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: bodies above the limit are stored when they are handed over; their addresses wait to be collected."""
    world = World()
    link, appends = KafkaLink(world.log, KEY.public_key, [PHONE]), record_appends(world, monkeypatch)
    monkeypatch.setattr(kafka, "HELD_BACK_BYTES_MAX", 150)
    for number in range(3):
        link.store(body(number))
    assert appends == [["bodies"] * 2]
    assert [one.update for one in link.collect_stored()] == ["u0", "u1", "u2"]


def test_a_task_of_another_cluster_is_no_task() -> None:
    """Guarantee: a device takes no task that was created with another number of partitions than it sees."""
    world = World()
    link = KafkaLink(world.log, KEY.public_key, ["phone"])
    for number, partitions in enumerate((64, world.log.partitions)):
        made = task_created(task="wards.first", partitions=partitions, parameters=number + 1)
        world.log.append([Draft(topic="tasks", partition=home_of("wards"), value=written(made))])
    found = link.find_task("wards.first")
    assert found is not None
    assert found.parameters == 2


def test_another_deployment_of_the_operator_is_not_heard() -> None:
    """Guarantee: staging's creation of a name, copied here before ours, and its selector's answers are nothing here."""
    world, staging = World(), b"s" * 16
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    for made in (task_created(task="wards.first", deployment=staging), task_created(task="wards.first", parameters=9)):
        world.log.append([Draft(topic="tasks", partition=home_of("wards"), value=written(made))])
    founded = written(DeploymentFounded(deployment=DEPLOYMENT))
    world.log.append([Draft(topic="tasks", partition=0, value=founded)])
    answer = Declined(device=PHONE, checkin_sha256=bytes(32), task=TASK, reason="closed", retry_after_ms=86_400_000)
    for deployment in (staging, DEPLOYMENT):
        value = told(answer, deployment=deployment)
        world.log.append([Draft(topic=ANSWERS.name, partition=answer_home(PHONE), value=value)])
    assert link.read_answers(0.0) == [answer]
    found = link.find_task("wards.first")
    assert found is not None
    assert found.parameters == 9


def test_messages_are_sent_in_one_append_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: messages go out together, a record for those of one topic, in the order of each topic."""
    world = World()
    link, appends = KafkaLink(world.log, KEY.public_key, [PHONE]), record_appends(world, monkeypatch)
    link.submit(TASK, b"one")
    link.check_in(TASK, b"two")
    link.submit(TASK, b"three")
    link.send()
    link.send()
    assert appends == [["updates", "checkins"]]
    assert [(record.offset, record.value) for record in world.records("updates")] == [(0, b"one"), (0, b"three")]
    link.submit(TASK, b"four")
    link.send()
    # As every release reads it.
    assert world.log.reader({TopicPartition("updates", world.place): 1}).poll(0)[0].value == b"four"


def test_what_no_broker_takes_is_lost_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: with the log away nothing is raised, no address comes back, and nothing is sent later on its own."""
    world = World()
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    with monkeypatch.context() as away:
        away.setattr(world.log, "append", refuse_appends)
        link.store(body(1))
        link.check_in(TASK, b"one")
        assert link.collect_stored() == []
        link.send()
    assert link.collect_stored() == []
    link.send()
    assert (world.records("bodies"), world.records("checkins")) == ([], [])


def test_a_log_that_is_away_is_an_error_of_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a device never meets an error of the log: whatever it asks, an absent log is LinkUnavailable."""
    world = World()
    link = KafkaLink(world.log, KEY.public_key, [PHONE])

    def refuse(*_: object) -> object:
        raise LogUnavailable("no broker")

    monkeypatch.setattr(world.log, "bounds", refuse)
    with pytest.raises(LinkUnavailable):
        link.find_task(TASK)
    world.log.delete_records(TopicPartition(ANSWERS.name, answer_home(PHONE)), 0)
    monkeypatch.setattr(link._answers, "poll", refuse)
    with pytest.raises(LinkUnavailable):
        link.read_answers(0)


def test_a_large_task_spreads_its_bodies() -> None:
    """Guarantee: the body of a task with shards is stored where its aggregator's workers look for it."""
    world = World()
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    link.store(body(1, shards=4))
    [stored] = link.collect_stored()
    assert stored.address.topic == "shards"


def test_a_link_of_its_own_closes_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a link that opened its log closes it; one that was given a log leaves it open."""
    world, closed = World(), list[str]()
    monkeypatch.setattr(world.log, "close", lambda: closed.append("log"))
    KafkaLink(world.log, KEY.public_key, [PHONE]).close()
    assert closed == []
    open_link(lambda: world.log, [PHONE], operator=KEY.public_key).close()
    assert closed == ["log"]


def test_answers_reach_their_device_only(tmp_path: Path) -> None:
    """Guarantee: a link gives the answers for its own devices, whatever else is in the partition."""
    world = World()
    device = world.device(tmp_path)
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    world.say(world.decline("no_slot", 1, device="other"))
    world.append("answers", answer_home(PHONE), b"junk")
    mine = world.grant(world.lease(1, device))
    world.say(mine)
    assert link.read_answers(0) == [mine]


def test_answers_that_are_gone_take_no_others_along() -> None:
    """Guarantee: where a partition's answers were deleted a process goes on at its end, and loses none of another's."""
    world, home = World(), answer_home("sim0")
    names = ["sim0", next(f"sim{n}" for n in range(1, 99) if answer_home(f"sim{n}") != home)]
    link = KafkaLink(world.log, KEY.public_key, names)

    def say(*devices: str) -> None:
        for name in devices:
            world.say(world.decline("closed", 10, device=name))

    say(*names, *names, *names)
    world.log.delete_records(TopicPartition(ANSWERS.name, home), 2)
    assert [answer.device for answer in link.read_answers(0)] == [names[1]] * 3
    say(*names)
    assert sorted(answer.device for answer in link.read_answers(0)) == sorted(names)


def test_nobody_answers_but_selector_and_aggregator() -> None:
    """A lease or an outcome that anybody else wrote into `answers` reaches no device."""
    world = World()
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    declined = world.decline("no_slot", 10**15)
    outcome = Outcome(device=PHONE, task=TASK, update="0" * 32, record_sha256=bytes(32), outcome="admitted")
    aggregator = role_key("aggregator").signer
    for value in (
        encode(declined),
        aggregator.certify(encode(declined)),
        told(declined, key=OperatorKey(bytes(32))),
        b"",
    ):
        world.append(ANSWERS.name, answer_home(PHONE), value)
    assert link.read_answers(0) == []
    for answer in (declined, outcome):
        world.say(answer)
    assert link.read_answers(0) == [declined, outcome]
