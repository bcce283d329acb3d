"""kafka-python's errors as the log's: of the right kind, and short enough for a line of a log."""

from __future__ import annotations

import pytest
from kafka import errors

from streams.kafka.errors import CHARACTERS_MAX, translate_errors
from streams.log import LogUnavailable


def test_a_failure_is_told_in_a_line() -> None:
    """A question about a thousand partitions that fails names what was done, and not all of them."""
    names = ", ".join(f"updates[{number}]" for number in range(1_000))
    with (
        pytest.raises(LogUnavailable, match="asking for the bounds") as raised,
        translate_errors("asking for the bounds"),
    ):
        raise errors.NotLeaderForPartitionError(names)
    assert len(str(raised.value)) <= CHARACTERS_MAX
