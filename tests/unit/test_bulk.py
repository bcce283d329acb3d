"""What is handed to librdkafka at once, and what is made of the errors that it has."""

from __future__ import annotations

from itertools import pairwise

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streams.bulk import UNDER_WAY_BYTES_MAX, Appender, BulkReader, portions
from streams.connection import KafkaSettings
from streams.log import RECORD_BYTES_MAX, Draft, LogError, LogRefused, LogUnavailable, TopicPartition

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9")
VALUES = [None, *map(bytes, (0, 1, 2**19, RECORD_BYTES_MAX - 2))]


@given(st.lists(st.sampled_from(range(len(VALUES))), max_size=20))
def test_portions_are_all_of_it_in_order_and_small(chosen: list[int]) -> None:
    """Law 2 begins here: nothing is lost, doubled or moved, no portion is too large, and no two could be one."""
    drafts = [Draft(topic="t", partition=0, key=b"%d" % number, value=VALUES[one]) for number, one in enumerate(chosen)]
    found = list(portions(drafts))
    assert [draft for few in found for draft in few] == drafts
    sizes = [sum(len(draft.value or b"") for draft in few) for few in found]
    assert all(size <= UNDER_WAY_BYTES_MAX for size in sizes)
    assert all(size + after > UNDER_WAY_BYTES_MAX for size, after in pairwise(sizes))


class _Telling:
    """A message that is an error about no partition, as those of a group's coordinator are."""

    def topic(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def error(self) -> KafkaError:
        return KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)


def test_what_the_coordinator_says_is_no_record() -> None:
    """Nobody joins the group, so that its errors stop no reader: an honest update would be refused as a defect."""
    reader = BulkReader(NOWHERE, {TopicPartition("bodies", 0): 7})
    assert reader._taken(_Telling()) is None
    reader.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._FATAL, LogUnavailable),
        (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, LogUnavailable),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, LogRefused),
        (KafkaError.INVALID_MSG, LogError),
    ],
)
def test_what_ends_an_appender_is_an_error_of_the_log(code: int, expected: type[LogError]) -> None:
    """An appender at its end raises out of every call; whoever appends is told what to do: again, or never."""
    appender = Appender(NOWHERE)
    appender._producer = _Ended(KafkaException(KafkaError(code)))  # type: ignore[assignment]
    with pytest.raises(LogError) as caught:
        appender.append([Draft(topic="t", partition=0, value=b"x")])
    assert type(caught.value) is expected
    appender.close()


class _Ended:
    def __init__(self, error: KafkaException) -> None:
        self._error = error

    def produce(self, *_: object, **__: object) -> None:
        """Taken, and never sent."""

    def flush(self, _: float) -> None:
        raise self._error

    def purge(self) -> None:
        raise self._error
