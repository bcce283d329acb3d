"""What topics and brokers must look like: settings that keep strangers out, and one number of partitions for all."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from schemas.identifiers import PARTITIONS_MAX
from schemas.topics import CATALOGUE, PARTITIONS_DEFAULT, ROUNDS, TASKS, TRANSACTION_TIMEOUT_MAX_MS, UPDATES
from streams.kafka.writer import TRANSACTION_TIMEOUT_S
from streams.log import TopicUnfit
from streams.topics import TRANSACTION_TIMEOUT, TopicDescription, choose_partitions, count_partitions, require_topics

FOUND = {topic.name: TopicDescription(8, topic.config) for topic in CATALOGUE}


def test_the_catalogue_fits_itself() -> None:
    """What fedlog creates is what it then demands."""
    require_topics(CATALOGUE, FOUND, brokers={"1": {TRANSACTION_TIMEOUT: str(TRANSACTION_TIMEOUT_MAX_MS)}})


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
@pytest.mark.parametrize(
    ("setting", "value"), [("compression.type", "producer"), ("max.message.bytes", "1048588"), ("cleanup.policy", "x")]
)
def test_a_setting_that_opens_a_door_is_named(topic: object, setting: str, value: str) -> None:
    """A record that no reader can open, or that fills its memory, is kept out by the topic itself: of every topic."""
    name = topic.name  # type: ignore[attr-defined]
    found = FOUND | {name: replace_setting(FOUND[name], setting, value)}
    with pytest.raises(TopicUnfit, match=f"topic {name}: {setting} is {value}, wanted "):
        require_topics(CATALOGUE, found)


def replace_setting(found: TopicDescription, setting: str, value: str) -> TopicDescription:
    """The same topic with another value."""
    return found._replace(config={**found.config, setting: value})


def test_a_broker_that_lets_transactions_hang_is_named() -> None:
    """A hanging transaction holds readers back for as long as the broker allows: 15 seconds, not 15 minutes."""
    brokers = {"1": {TRANSACTION_TIMEOUT: "15000"}, "2": {TRANSACTION_TIMEOUT: "900000"}}
    with pytest.raises(TopicUnfit, match=r"broker 2: transaction\.max\.timeout\.ms is 900000, wanted at most 15000"):
        require_topics(CATALOGUE, FOUND, brokers=brokers)


def test_a_broker_that_does_not_tell_is_told_of() -> None:
    """A cluster of somebody else's may keep its settings to itself: that is said, and it is no failure."""
    with capture_logs() as lines:
        require_topics(CATALOGUE, FOUND, brokers={"7": {}})
    [line] = lines
    assert (line["event"], line["broker"], line["setting"]) == ("setting_unknown", "7", TRANSACTION_TIMEOUT)


def test_our_own_transactions_fit() -> None:
    """A broker refuses a producer that asks for a longer timeout than it allows."""
    assert TRANSACTION_TIMEOUT_S * 1000 <= TRANSACTION_TIMEOUT_MAX_MS


def described(**counts: int) -> dict[str, TopicDescription]:
    configs = {topic.name: topic.config for topic in CATALOGUE}
    return {name: TopicDescription(count, configs[name]) for name, count in counts.items()}


def test_topics_that_differ_in_their_partitions_are_named() -> None:
    """A task lives in one partition of every topic, so that one topic with another number is refused, by its name."""
    assert count_partitions({"tasks": 3, "rounds": 3}) == 3
    with pytest.raises(TopicUnfit, match=r"^topic rounds: partitions is 4, wanted 3 as in tasks"):
        count_partitions({"tasks": 3, "rounds": 4, "updates": 3})
    with pytest.raises(TopicUnfit, match=r"^topic rounds: partitions is 4, wanted 3[^;]*$"):
        require_topics((TASKS, ROUNDS, UPDATES), described(tasks=3, rounds=4, updates=3))
    with pytest.raises(TopicUnfit, match="topics create"):
        count_partitions({})


def test_new_topics_get_the_number_of_those_that_exist() -> None:
    """A release that brings a topic cannot split its tasks, and nobody can change the number afterwards."""
    found = described(tasks=3, rounds=3)
    assert choose_partitions((TASKS, ROUNDS, UPDATES), found, wanted=None) == 3
    assert choose_partitions((UPDATES, TASKS), found, wanted=3) == 3
    assert choose_partitions((TASKS,), {}, wanted=None) == PARTITIONS_DEFAULT
    with pytest.raises(TopicUnfit, match="have 3 partitions, not 8"):
        choose_partitions((UPDATES, TASKS), found, wanted=8)


@pytest.mark.parametrize("number", [0, PARTITIONS_MAX + 1])
def test_the_number_has_bounds(number: int) -> None:
    """Too many would cost every worker a claim each; the bound is told before anything is created, and when read."""
    with pytest.raises(TopicUnfit, match=f"from 1 to {PARTITIONS_MAX} partitions, not {number}"):
        choose_partitions((TASKS,), {}, wanted=number)
    with pytest.raises(TopicUnfit, match=f"not {number}"):
        count_partitions({"tasks": number})
