"""What a topic and a broker must look like: each setting that lets a stranger stop a reader is looked at."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from schemas.topics import CATALOGUE, TRANSACTION_TIMEOUT_MAX_MS
from streams.kafka.writer import TRANSACTION_TIMEOUT_S
from streams.log import TopicUnfit
from streams.topics import TRANSACTION_TIMEOUT, TopicDescription, require_topics

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
