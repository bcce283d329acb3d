"""An outage: told once when it begins, once when it ends, however many questions were asked in it."""

from __future__ import annotations

from contextlib import closing

import pytest
from structlog.testing import capture_logs

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, TopicPartition
from streams.retry import SETTLES_S, Outage


def test_an_outage_is_two_lines() -> None:
    """Whoever reads the log sees when the broker went and how long it was away, and nothing in between."""
    outage = Outage("nowhere:1")
    with capture_logs() as lines:
        assert outage.answers is None
        outage.note_answer()
        for number in range(3):
            outage.note_silence(f"question {number}")
            assert outage.answers is False
        for _ in range(3):
            outage.note_answer()
            assert outage.answers
        outage.note_silence("a client that is late")
        assert outage.answers
        outage._back_s -= SETTLES_S
        outage.note_silence("again")
    assert [line["event"] for line in lines] == ["broker_away", "broker_back", "broker_away"]
    assert lines[0]["error"] == "question 0"


def test_silence_is_counted_from_the_last_answer() -> None:
    """Questions that get no answer do not make a broker less silent."""
    outage = Outage("nowhere:1")
    outage._answered_s -= 100
    outage.note_silence("nothing")
    assert outage.silent_s > 99
    outage.note_answer()
    assert outage.silent_s < 99


def test_a_log_that_finds_no_broker_tells_its_outage() -> None:
    """Whatever is asked of Kafka counts: the outage begins with the first question that finds nobody."""
    with closing(KafkaLog(KafkaSettings(bootstrap_servers="127.0.0.1:1"))) as log, capture_logs() as lines:
        with pytest.raises(LogUnavailable):
            log.bounds(TopicPartition("updates", 0))
        assert log.outage.answers is False
    assert [line["event"] for line in lines] == ["broker_away"]
